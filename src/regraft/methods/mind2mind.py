"""Mind2Mind: train a small GAN on the codes of the target images; the autoencoder that made them never runs in training.

The critic's half c1 next to the image (the encoder) and the generator's half g1 (the decoder) stay as they are; a MindGAN
(g0, c0) learns the distribution of codes, and images are g1(g0(z)).  Each step is thus independent of the images' size.

Source: Fregier & Gouray 2019, "Mind2Mind: transfer learning for GANs", arXiv:1906.11613; settings from the authors' code.
Fresh reals per critic step, standardised codes, classes, truncation, the averaged generator and the last phase are ours.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.composites.decoded import DecodedGenerator, Mind, MindConfig, MindCritic, Widths
from regraft.core import norms
from regraft.core.config import Config, Objective, Recipe
from regraft.core.device import device_of
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import Autoencoder, Batch, evaluating
from regraft.core.randomness import subset
from regraft.data import codes
from regraft.data.images import Images
from regraft.methods.base import AdaptingMethod, MethodConfig
from regraft.training.objectives import critic_loss, generator_loss, penalty
from regraft.training.updates import Adaptation, Data, Logs, Loss, Optimiser, Phase, Update

RECONSTRUCTED = 32
"""Images whose codes are decoded again, to see whether the autoencoder can represent such images."""
Norm = Literal["none", "batch"]
PresetName = Literal["auto", "alae-1024", "alae-1024-batch256", "28x28", "28x28-calm"]


class Preset(Config):
    """Widths and training of a MindGAN."""

    generator: Widths
    critic: Widths
    norm: Norm = "none"
    batch: int = 128
    betas: tuple[float, float] = (0.0, 0.5)
    drift: float = 0.01
    penalty: float = 10.0
    critic_steps: int = 5
    ema_decay: float = 0.998


PRESETS = {
    # The authors' code trains on batches of 128; their text says 256.
    "alae-1024": Preset(generator=(128, 256, 512), critic=(512, 256, 128)),
    "alae-1024-batch256": Preset(generator=(128, 256, 512), critic=(512, 256, 128), batch=256),
    "28x28": Preset(generator=(512, 512), critic=(256, 256), norm="batch", betas=(0.1, 0.5), drift=0.0),
    # Ours: nearer to small and varied targets, and no farther from others (benchmarks/quality/mind2mind.md).
    "28x28-calm": Preset(
        generator=(512, 512, 512),
        critic=(256, 256),
        norm="batch",
        betas=(0.0, 0.99),
        drift=0.0,
        penalty=0.1,
        critic_steps=3,
        ema_decay=0.9995,
    ),
}


class Mind2MindConfig(MethodConfig):
    """Settings of Mind2Mind."""

    steps: Annotated[int, Field(ge=0, description="Generator steps on codes.")] = 5000
    preset: Annotated[
        PresetName,
        Field(
            description="Layer widths and training. As published: alae-1024 (batch 128, as in the authors' code), "
            "alae-1024-batch256 (as in their text), 28x28. Ours: 28x28-calm, with one more layer in g0. auto: 28x28-calm if "
            "codes are bounded, else alae-1024 scaled to the size of the codes."
        ),
    ] = "auto"
    generator_widths: Annotated[Widths | None, Field(description="Hidden widths of g0 instead of the preset's.")] = None
    critic_widths: Annotated[Widths | None, Field(description="Hidden widths of c0 instead of the preset's.")] = None
    norm: Annotated[Norm | None, Field(description="Normalisation of g0's hidden layers instead of the preset's.")] = None
    latent_dim: Annotated[int, Field(ge=1, le=1 << 16, description="Dimension of the latent.")] = 128
    distribution: Annotated[
        Literal["uniform", "normal"], Field(description="Distribution of the latent; uniform: on [-1, 1].")
    ] = "uniform"
    critic_data: Annotated[
        Literal["fresh", "reuse"],
        Field(
            description="Real codes in the critic updates of one step. fresh: new ones in each, as in WGAN-GP; reuse: the same "
            "in all, as published."
        ),
    ] = "fresh"
    standardise: Annotated[
        bool, Field(description="Train on codes scaled to mean 0 and deviation 1; undone before decoding.")
    ] = False
    n_classes: Annotated[
        int | None, Field(ge=0, description="Classes of the generator, 0 to ignore labels; default: those of the labels.")
    ] = None
    decoder_steps: Annotated[
        int, Field(ge=0, description="Steps of a last phase in image space that trains the decoder too; 0 as published.")
    ] = 0
    decoder_lr: Annotated[float, Field(gt=0, description="Step size of all networks in that last phase.")] = 1e-5

    def mind(self, autoencoder: Autoencoder) -> MindConfig:
        """Return the settings of a generator of an autoencoder's codes."""
        preset = preset_of(self, autoencoder)
        return MindConfig(
            code_dim=code_dim(autoencoder),
            widths=preset.generator,
            norm=preset.norm,
            output="none" if self.standardise else autoencoder.code_range,
            latent_dim=self.latent_dim,
            distribution=self.distribution,
            n_classes=self.n_classes or 0,
        )


def code_dim(autoencoder: Autoencoder) -> int:
    """Return the length of a flattened code."""
    return int(torch.Size(autoencoder.code_shape).numel())


def preset_of(config: Mind2MindConfig, autoencoder: Autoencoder) -> Preset:
    """Return the preset that the settings name, with the layers that they set themselves."""
    preset, d = PRESETS[_preset_name(config, autoencoder)], code_dim(autoencoder)
    if config.preset == "auto" and autoencoder.code_range == "none":
        widths = (max(1, d // 4), max(1, d // 2), d)
        preset = preset.model_copy(update={"generator": widths, "critic": widths[::-1]})
    layers = {"generator": config.generator_widths, "critic": config.critic_widths, "norm": config.norm}
    return preset.model_copy(update={name: value for name, value in layers.items() if value is not None})


def _with_classes(config: Mind2MindConfig, n_classes: int) -> Mind2MindConfig:
    return config if config.n_classes is not None else config.model_copy(update={"n_classes": n_classes})


def _preset_name(config: Mind2MindConfig, autoencoder: Autoencoder) -> PresetName:
    if config.preset != "auto":
        return config.preset
    return "28x28-calm" if autoencoder.code_range != "none" else "alae-1024"


class Mind2Mind(AdaptingMethod[Mind2MindConfig]):
    """Train a GAN on codes."""

    Config = Mind2MindConfig
    summary = "train a small GAN on the codes of an autoencoder; fast at any image size"
    paper = "Fregier & Gouray 2019, Mind2Mind, arXiv:1906.11613"
    labels: ClassVar[bool] = True
    needs = frozenset({"autoencoder"})

    def complete_config(self, config: Mind2MindConfig, sources: Sequence[GAN], n_classes: int, seed: int) -> Mind2MindConfig:
        """Fill in preset, layers and classes, so that an adapter can be rebuilt when presets have changed."""
        autoencoder = sources[0].require("autoencoder", for_="mind2mind")
        preset = preset_of(config, autoencoder)
        chosen: dict[str, Any] = {"preset": _preset_name(config, autoencoder), "norm": preset.norm}
        chosen |= {"generator_widths": preset.generator, "critic_widths": preset.critic}
        return _with_classes(config.model_copy(update=chosen), n_classes)

    def training(self, config: Mind2MindConfig, source: GAN | None) -> tuple[Objective, Recipe]:
        """Return WGAN-GP on codes, as the preset says; the average is ours (``recipe.ema_decay=0`` for none)."""
        if source is None:
            return super().training(config, source)
        preset = preset_of(config, source.require("autoencoder", for_="mind2mind"))
        objective = Objective(
            loss="wgan",
            penalty="gradient",
            penalty_weight=preset.penalty,
            critic_steps=preset.critic_steps,
            drift_weight=preset.drift,
        )
        recipe = Recipe(batch=preset.batch, generator_lr=1e-3, critic_lr=1e-3, betas=preset.betas, ema_decay=preset.ema_decay)
        return objective, recipe

    def attach(self, sources: Sequence[GAN], images: Data, config: Mind2MindConfig, rng: torch.Generator) -> Adaptation:
        """Encode the images once, unless they are codes already, and put new networks on the codes."""
        (source,) = sources
        config = _with_classes(config, images.n_classes)
        if config.n_classes not in (0, images.n_classes):
            raise ConfigError(f"n_classes={config.n_classes}, and the images have {images.n_classes} classes")
        autoencoder = source.require("autoencoder", for_="mind2mind")
        if config.decoder_steps and isinstance(images, codes.Codes):
            raise ConfigError("decoder_steps trains on images: give the images in place of their codes")
        data = codes.of_images(autoencoder, images)
        check(data, autoencoder)
        generator = self.rebuild(sources, config)
        generator.mind.initialise(rng)
        generator.mind.mean.copy_(data.mean)
        if config.standardise:
            generator.mind.shift.copy_(data.mean)
            generator.mind.scale.copy_(data.std)
        generator.requires_grad_(True)
        norms.set_training(generator, "batch")
        norms.freeze_statistics(generator.autoencoder.requires_grad_(False))
        critic = MindCritic(code_dim(autoencoder), preset_of(config, autoencoder).critic, config.n_classes or 0)
        critic.initialise(rng)
        game = CodeGame(generator, critic, source.objective, source.recipe)
        phases = [game.on_codes(data, config)]
        if config.decoder_steps:
            phases.append(game.on_images(config))
        notes = () if isinstance(images, codes.Codes) else (f"{data.n} images encoded once; training reads their codes only",)
        cautions = _cautions(autoencoder, images, data) if isinstance(images, Images) else ()
        return Adaptation(
            generator,
            None,
            phases,
            {"generator": generator, "critic": critic},
            ema_decay=source.recipe.ema_decay,
            batch=source.recipe.batch,
            space="code",
            notes=(*notes, *cautions),
            cautions=cautions,
        )

    def rebuild(self, sources: Sequence[GAN], config: Mind2MindConfig) -> DecodedGenerator:
        """Put a MindGAN with unset weights before a copy of the source's decoder."""
        autoencoder = copy.deepcopy(sources[0].require("autoencoder", for_="mind2mind"))
        return DecodedGenerator(Mind(config.mind(autoencoder)), autoencoder.requires_grad_(False).eval())


def _cautions(autoencoder: Autoencoder, images: Images, data: codes.Codes) -> tuple[str, ...]:
    """Warn if the autoencoder reconstructs the images worse than their mean would."""
    rows = torch.tensor(subset(data.n, RECONSTRUCTED, 0))
    with evaluating(autoencoder), torch.no_grad():
        some_codes = data.values[rows].view(len(rows), *autoencoder.code_shape).to(device_of(autoencoder))
        reconstructed = autoencoder.decode(some_codes).cpu()
    if len(rows) < 8 or codes.unexplained_variance(images.tensor(rows), reconstructed) < 1:
        return ()
    way_out = "look at regraft diagnose; take a source of images more like these, or let the decoder learn (decoder_steps)"
    return (f"{codes.CANNOT_RECONSTRUCT}: {way_out}",)


Fake = Callable[[int, Tensor | None, torch.Generator], Tensor]
"""Generates n codes (n, D) or images (n, C, H, W) of given classes (n,)."""
Score = Callable[[Tensor, Tensor | None], Tensor]
"""Scores codes or images of given classes, (n,)."""


class CodeGame:
    """A generator and a critic of codes in training."""

    def __init__(self, generator: DecodedGenerator, critic: MindCritic, objective: Objective, recipe: Recipe) -> None:
        self.generator, self.critic, self.objective, self.recipe = generator, critic, objective, recipe

    def on_codes(self, data: codes.Codes, config: Mind2MindConfig) -> Phase:
        """Return the phase of the paper, in which neither encoder nor decoder runs."""
        recipe, mind = self.recipe, self.generator.mind

        def real(batch: Batch) -> Tensor:
            return (batch.data - mind.shift) / mind.scale

        critic = Optimiser("critic", [(list(self.critic.parameters()), recipe.critic_lr)], recipe.betas)
        generator = Optimiser("generator", [(list(mind.parameters()), recipe.generator_lr)], recipe.betas)
        updates = [
            Update(
                "critic",
                [critic],
                self._critic_loss(real, self._codes, self.critic),
                repeat=self.objective.critic_steps,
                reuse=config.critic_data == "reuse",
            ),
            Update("generator", [generator], self._generator_loss(self._codes, self.critic)),
        ]
        return Phase("codes", updates, config.steps, data=data)

    def on_images(self, config: Mind2MindConfig) -> Phase:
        """Return a phase in image space, in which g0, c0 and the decoder learn and the encoder stays as it is."""
        autoencoder, mind = self.generator.autoencoder, self.generator.mind

        def score(x: Tensor, y: Tensor | None) -> Tensor:
            return cast(Tensor, self.critic((autoencoder.encode(x).flatten(1) - mind.shift) / mind.scale, y))

        def fake(n: int, labels: Tensor | None, rng: torch.Generator) -> Tensor:
            z = self.generator.latent.sample(n, rng, mind.mean.device)
            return cast(Tensor, self.generator(z, labels, noise="const"))

        rate, betas = config.decoder_lr, self.recipe.betas
        critic = Optimiser("critic", [(list(self.critic.parameters()), rate)], betas)
        generator_side = [*mind.parameters(), *decoder_parameters(autoencoder)]
        generator = Optimiser("generator", [(generator_side, rate)], betas)
        updates = [
            Update(
                "critic",
                [critic],
                self._critic_loss(lambda batch: batch.data, fake, score),
                repeat=self.objective.critic_steps,
            ),
            Update("generator", [generator], self._generator_loss(fake, score)),
        ]
        return Phase("decoder", updates, config.decoder_steps)

    def _codes(self, n: int, labels: Tensor | None, rng: torch.Generator) -> Tensor:
        z = self.generator.latent.sample(n, rng, self.generator.mind.mean.device)
        vector = None if labels is None else self.generator.embed(labels).vector
        return cast(Tensor, self.generator.mind(z, vector))

    def _labels(self, batch: Batch) -> Tensor | None:
        return batch.labels if self.generator.n_classes else None

    def _critic_loss(self, real_of: Callable[[Batch], Tensor], fake: Fake, score: Score) -> Loss:
        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            y, objective = self._labels(batch), self.objective
            real = real_of(batch)
            with torch.no_grad():
                generated = fake(len(batch), y, rng)
            real_scores, fake_scores = score(real, y), score(generated, y)
            value = critic_loss(objective, real_scores, fake_scores)
            logs: Logs = {
                "critic_loss": value.detach(),
                "real_score": real_scores.detach().mean(),
                "fake_score": fake_scores.detach().mean(),
            }
            if objective.penalty != "none":
                # No lazy form: at this size the penalty costs next to nothing.
                every_step = objective.model_copy(update={"penalty_every": 1})
                slope = penalty(every_step, lambda x: score(x, y), real, generated, rng)
                logs["penalty"] = slope.detach()
                value = value + slope
            return value, logs

        return loss

    def _generator_loss(self, fake: Fake, score: Score) -> Loss:
        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            y = self._labels(batch)
            value = generator_loss(self.objective, score(fake(len(batch), y, rng), y))
            return value, {"generator_loss": value.detach()}

        return loss


def check(data: codes.Codes, autoencoder: Autoencoder) -> None:
    """Refuse codes that another autoencoder made.

    Raises:
        ConfigError: with both digests, or both sizes.
    """
    if data.values.shape[1] != code_dim(autoencoder):
        raise ConfigError(f"the codes have {data.values.shape[1]} numbers, this autoencoder's have {code_dim(autoencoder)}")
    made_by = data.record.get("autoencoder_digest")
    if made_by is not None and made_by != tensor_digest(autoencoder):
        raise ConfigError(
            f"the codes were made by an autoencoder of digest {str(made_by)[:16]}, this one's is "
            f"{tensor_digest(autoencoder)[:16]}; encode the images with this source"
        )


def decoder_parameters(autoencoder: Autoencoder) -> list[nn.Parameter]:
    """Find the parameters that decoding depends on, by one backward pass."""
    trial = copy.deepcopy(autoencoder).requires_grad_(True)
    zeros = torch.zeros(1, *autoencoder.code_shape, device=device_of(trial))
    value = trial.decode(zeros, noise="const").square().sum()
    gradients = torch.autograd.grad(value, list(trial.parameters()), allow_unused=True)
    pairs = zip(autoencoder.parameters(), gradients, strict=True)
    return [parameter for parameter, gradient in pairs if gradient is not None]


PLUGIN = Mind2Mind()
