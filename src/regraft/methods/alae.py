"""Pretraining of a StyleALAE on images: three updates per step, growing from 4x4 to the full size.

1. critic D(E(x)): real against generated, with R1;  2. generator G(F(z)) against it;  3. reciprocity: the encoder finds the
style that an image was made from, E(G(s)) = s, which trains all of them but the critic's head.

In the game the encoder has to please the critic too, and finds styles less well than it could.  A last phase is our addition: a
copy of it goes on with update 3 alone, on styles that were drawn and on those that it finds in images; the rest stays.

Source: Pidhorskyi et al. 2020, "Adversarial latent autoencoders", algorithm 1; step sizes, growing and weights of the authors'
code.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.backbones.alae import ALAE, GrowingCritic, GrowingEncoder, GrowingGenerator, Growth
from regraft.core import discover
from regraft.core.build import build_with
from regraft.core.config import Objective, Recipe
from regraft.core.device import device_of
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Autoencoder, Batch, Critic, Generator
from regraft.core.randomness import global_seed
from regraft.data.images import Images
from regraft.methods.base import MethodConfig, PretrainingMethod
from regraft.training.objectives import critic_loss, generator_loss, penalty
from regraft.training.updates import Adaptation, Data, Logs, Loss, Optimiser, Phase, Update

UNSUPPORTED = {"penalty_every": 1, "critic_steps": 1, "path_length_weight": 0.0}
"""Objective settings that ALAE does not support; each must keep this value."""


class ALAEConfig(MethodConfig):
    """Settings of pretraining a StyleALAE."""

    steps: Annotated[int, Field(ge=0, description="Training steps; half at full size, the rest shared by the levels.")] = 20_000
    backbone_settings: Annotated[
        dict[str, Any], Field(description="latent_dim, width, max_width, mapping_layers of the networks.")
    ] = {}
    level_steps: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(description="Steps of each level, from 4x4 on, in place of steps.")
    ] = ()
    transition: Annotated[
        int | None,
        Field(ge=0, description="Most steps over which a level is blended in; always at most half of the level's steps."),
    ] = None
    encoder_steps: Annotated[
        int,
        Field(
            ge=0,
            description="Further steps, in which only a copy of the encoder learns to find styles; the autoencoder takes this "
            "copy. 0 as published; a tenth of steps makes reconstructions better. --more adds to these.",
        ),
    ] = 0
    size: Annotated[int | None, Field(ge=8, description="Side of the images.")] = None
    channels: Annotated[int, Field(ge=1, le=3, description="1 or 3.")] = 3
    batch: Annotated[int, Field(ge=1, description="Images per step.")] = 32
    lr: Annotated[
        float | None,
        Field(
            gt=0,
            description="Adam step size before each layer's factor; default, as published: 0.0015 up to a side of 128, 0.002 "
            "at 256, 0.003 above.",
        ),
    ] = None
    reciprocity: Annotated[float, Field(ge=0, description="Weight of the third update.")] = 1.0
    objective: Annotated[
        Objective | None,
        Field(
            description="The adversarial game; default: as published. R1's published weight of 10 is for large photographs; "
            "small images need far less: objective.penalty_weight=0.1."
        ),
    ] = None
    mixing: Annotated[float, Field(ge=0, le=1, description="Probability that styles of two latents are mixed.")] = 0.9
    ema_half_life: Annotated[
        float, Field(gt=0, description="Images after which a change counts half in the averaged networks.")
    ] = 10_000

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.level_steps:
            levels = (self.size or 0).bit_length() - 2
            if self.size and len(self.level_steps) != levels:
                raise ValueError(f"level_steps: {len(self.level_steps)} for {levels} levels, 4x4 to {self.size}x{self.size}")
            total = sum(self.level_steps)
            if "steps" in self.model_fields_set and self.steps != total:
                raise ValueError(f"steps {self.steps}, and level_steps are {total} together: leave steps out")
            object.__setattr__(self, "steps", total)
        return self


class PretrainALAE(PretrainingMethod[ALAEConfig]):
    """Grow a StyleALAE."""

    Config = ALAEConfig
    summary = "pretraining: a StyleALAE from images alone (regraft pretrain)"
    paper = "Pidhorskyi et al. 2020, Adversarial latent autoencoders, arXiv:2004.04467"

    def attach(self, sources: Sequence[GAN], images: Data, config: ALAEConfig, rng: torch.Generator) -> Adaptation:
        """Build new networks with all levels; train one phase per level."""
        objective, _ = self.training(config, None)
        size = cast(int, config.size)
        for name, value in UNSUPPORTED.items():
            if getattr(objective, name) != value:
                raise ConfigError(f"objective.{name}: pretraining a StyleALAE has no use for it; leave it at {value}")
        family = discover.plugin("backbones", "alae", ALAE)
        with global_seed(int(torch.randint(1 << 62, (), generator=rng))):
            generator, critic, growth = family.growing(size, config.channels, **config.backbone_settings)
        game = ALAEGame(generator, critic, growth, objective, config)
        lr = config.lr or (0.0015 if size <= 128 else 0.002 if size == 256 else 0.003)
        optimisers = [
            Optimiser(name, [(parameters, lr * factor) for parameters, factor in family.step_sizes(network)], (0.0, 0.99))
            for name, network in (("critic", critic), ("generator", generator))
        ]
        for network in (generator, critic):
            network.requires_grad_(True).train()
        phases = []
        for level, steps in enumerate(config.level_steps or split(config.steps, generator.levels)):
            blending = steps // 2 if config.transition is None else min(steps // 2, config.transition)
            use = functools.partial(growth.set_level, level, blending if level else 0)
            side = 4 << level
            updates = game.updates(*optimisers)
            phases.append(Phase(f"{side}x{side}", updates, steps, functools.partial(_begin_level, use, growth), use))
        modules: dict[str, nn.Module] = {"generator": generator, "critic": critic, "growth": growth}
        averaged: tuple[str, ...] = ("generator", "critic")
        if config.encoder_steps:
            encoder = modules["encoder"] = copy.deepcopy(critic.encoder)
            averaged += ("encoder",)
            groups = [(parameters, lr * factor) for parameters, factor in family.step_sizes(encoder)]
            update = Update("reciprocity", [Optimiser("encoder", groups, (0.0, 0.99))], game.encoder_reciprocity(encoder))
            begin = functools.partial(_copy_tensors, critic.encoder, encoder)
            # The generator and critic that are kept are the averages, so it is theirs that the encoder has to find.
            phases.append(Phase("encoder", [update], config.encoder_steps, begin, phases[-1].modes, from_averages=True))
        decay = 0.5 ** (config.batch / config.ema_half_life)
        return Adaptation(generator, critic, phases, modules, averaged=averaged, ema_decay=decay, batch=config.batch)

    def training(self, config: ALAEConfig, source: GAN | None) -> tuple[Objective, Recipe]:
        """Return the nonsaturating loss with R1, as published, unless an objective is set."""
        if config.size is None:
            raise ConfigError("a StyleALAE without a source needs size=, the side of the images")
        objective, recipe = discover.plugin("backbones", "alae", ALAE).training(config.size)
        return config.objective or objective, recipe

    def finished(self, modules: dict[str, nn.Module], images: Images, config: ALAEConfig) -> GAN:
        """Build generator, critic and autoencoder at full size."""
        family = discover.plugin("backbones", "alae", ALAE)
        generator = cast(GrowingGenerator, modules["generator"])
        critic = cast(GrowingCritic, modules["critic"])
        encoder = cast(GrowingEncoder, modules.get("encoder", critic.encoder))
        moved: dict[Any, Tensor] = {}
        built = {
            role: build_with(description, {k: v.detach().cpu() for k, v in tensors.items()}, "pretraining", moved)
            for role, (description, tensors) in family.export_grown(generator, critic, encoder).items()
        }
        objective, recipe = self.training(config, None)
        return GAN(
            cast(Generator, built["generator"]),
            cast(Critic, built["critic"]),
            autoencoder=cast(Autoencoder, built["autoencoder"]),
            objective=objective,
            recipe=recipe,
        )


def _begin_level(use: Callable[[], None], growth: Growth) -> None:
    use()
    growth.restart_count()


def _copy_tensors(source: nn.Module, copied: nn.Module) -> None:
    copied.load_state_dict(source.state_dict())


def split(steps: int, levels: int) -> list[int]:
    """Share steps out to levels: half for the last, the rest evenly."""
    each = steps // 2 // (levels - 1)
    return [each] * (levels - 1) + [steps - each * (levels - 1)]


class ALAEGame:
    """The three updates of a growing StyleALAE."""

    def __init__(
        self, generator: GrowingGenerator, critic: GrowingCritic, growth: Growth, objective: Objective, config: ALAEConfig
    ) -> None:
        self.generator, self.critic, self.growth, self.objective, self.config = generator, critic, growth, objective, config

    def updates(self, critic: Optimiser, generator: Optimiser) -> list[Update]:
        """Return the updates of one step; growth counts it after the last one."""
        return [
            Update("critic", [critic], self._critic()),
            Update("generator", [generator], self._generator()),
            Update("reciprocity", [critic, generator], self._reciprocity(), after_step=self.growth.after_step),
        ]

    def _fake(self, n: int, rng: torch.Generator) -> Tensor:
        """Generate images of the present size; mix the styles of two latents with probability ``config.mixing``."""
        generator, used = self.generator, 2 * (self.growth.level + 1)
        device = device_of(generator)
        w = generator.mapping(generator.latent.sample(n, rng, device))
        chance, cut = torch.rand(2, generator=rng, device=rng.device).tolist()
        if chance < self.config.mixing:
            others = generator.mapping(generator.latent.sample(n, rng, device))
            start = 1 + int(cut * (used - 1))
            w = torch.cat([w[:, :start], others[:, start:]], dim=1)
        return cast(Tensor, generator.synthesis(w, "random", rng))

    def _critic(self) -> Loss:
        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            real = self.growth.real_images(batch.data, self.generator.levels)
            with torch.no_grad():
                fake = self._fake(len(batch), rng)
            value = critic_loss(self.objective, self.critic(real), self.critic(fake))
            slope = penalty(self.objective, self.critic, real, fake, rng)
            return value + slope, {"critic_loss": value.detach(), "penalty": slope.detach()}

        return loss

    def _generator(self) -> Loss:
        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            value = generator_loss(self.objective, self.critic(self._fake(len(batch), rng)))
            return value, {"generator_loss": value.detach(), "blend": self.growth.blend}

        return loss

    def encoder_reciprocity(self, encoder: nn.Module) -> Loss:
        """Make a loss that trains only an encoder: E(G(s)) = s, for styles drawn by F and styles of images, half each."""

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            generator, n = self.generator, len(batch)
            # Half of an odd number is rounded up or down by lot, so that parts of a batch are together what the batch is.
            half = (n + int(torch.randint(2, (), generator=rng, device=rng.device))) // 2 if n % 2 else n // 2
            # With gradients, or autocast of older torch would keep weights that have none for the pass that needs them.
            encoded = encoder(batch.data[:half]).detach()
            with torch.no_grad():
                drawn = generator.mapping(generator.latent.sample(n - half, rng, batch.data.device))
                w = torch.cat([drawn, encoded[:, None].expand(-1, drawn.shape[1], -1)])
                images = generator.synthesis(w, "random", rng)
            value = (encoder(images) - w[:, 0]).square().mean()
            return value, {"reciprocity": value.detach()}

        return loss

    def _reciprocity(self) -> Loss:
        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            generator = self.generator
            w = generator.mapping(generator.latent.sample(len(batch), rng, batch.data.device))
            encoded = self.critic.encoder(generator.synthesis(w, "random", rng))
            value = self.config.reciprocity * (encoded - w[:, 0].detach()).square().mean()
            return value, {"reciprocity": value.detach()}

        return loss


PLUGIN = PretrainALAE()
