"""The game between a generator and a critic in image space, shared by every method that plays it."""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from regraft.core import norms
from regraft.core.config import Objective, Recipe, unknown_name
from regraft.core.errors import ConfigError
from regraft.core.networks import Batch, Critic, Generator, Styles
from regraft.methods.base import MethodConfig
from regraft.regularizers.base import Term
from regraft.training.ada import AdaptiveAugmentation
from regraft.training.augment import KINDS, Augmentation
from regraft.training.objectives import critic_loss, generator_loss, path_lengths, penalty
from regraft.training.updates import Logs, Optimiser, Parameters, Update


class AdversarialConfig(MethodConfig):
    """Settings of methods that train against a critic."""

    steps: Annotated[int, Field(ge=0, description="Training steps.")] = 3000
    augment: Annotated[
        tuple[str, ...] | None,
        Field(
            description=f"How images are augmented before the critic sees them: any of {', '.join(KINDS)}, or [] for none. "
            "Default: all for colour images; translation for grey ones, where a hole or another brightness changes the content."
        ),
    ] = None
    augment_probability: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["ada"],
        Field(description="Probability of each augmentation for each image; ada: adapted to keep the critic from memorising."),
    ] = 1.0
    ada_target: Annotated[
        float, Field(gt=-1, lt=1, description="Mean sign of the critic's scores of real images that ada aims for.")
    ] = 0.6
    ada_images: Annotated[int, Field(ge=1, description="Number of images over which ada can go from probability 0 to 1.")] = (
        20_000
    )

    def augmentation(self, channels: int) -> Augmentation:
        """Make the augmentation for images of ``channels`` channels, 1 or 3."""
        kinds = self.augment if self.augment is not None else KINDS if channels == 3 else ("translation",)
        if self.augment_probability != "ada":
            return Augmentation(kinds, self.augment_probability)
        if not kinds:
            raise ConfigError("augment_probability=ada with augment=[]: there is nothing to apply; name some kinds")
        return AdaptiveAugmentation(kinds, self.ada_target, self.ada_images)

    @field_validator("augment", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        kinds = [value] if isinstance(value, str) else value
        kinds = [] if kinds == ["none"] else kinds
        for kind in kinds if isinstance(kinds, list | tuple) else []:
            if kind not in KINDS:
                raise ValueError(unknown_name("augmentation", str(kind), KINDS))
        return kinds


class PathLengthMean(nn.Module):
    """Running mean of path lengths: a plain mean of the first measurements, then a moving average.

    A mean that started from zero, as published, would pull the path lengths of a trained source towards zero at first.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros([]))
        self.register_buffer("count", torch.zeros([]))
        self.measured: list[tuple[Tensor, int]] = []

    def target(self, lengths: Tensor) -> Tensor:
        """Return the mean that lengths (N,) should have, a scalar; they enter the stored mean after the step."""
        mean = lengths.detach().mean()
        self.measured.append((mean, len(lengths)))
        return self._moved(mean)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the mean by what was measured since the last step."""
        if self.measured:
            total = sum(n for _, n in self.measured)
            self.mean.copy_(self._moved(torch.stack([mean * (n / total) for mean, n in self.measured]).sum()))
            self.count += 1
            self.measured = []

    def _moved(self, measured: Tensor) -> Tensor:
        return self.mean + (measured - self.mean) * torch.clamp(1 / (self.count + 1), min=self.decay)


@dataclasses.dataclass
class Game:
    """A generator and a critic in training, with the rules they play by.

    Style mixing and path lengths are for generators with :attr:`Generator.styles`; others do without.

    Attributes:
        generator, critic: in training mode.
        objective, recipe: how they are trained.
        augment: applied to all images that the critic sees.
        path_mean: running mean of path lengths, where the objective asks for them.
        extras: further weighted losses of the generator side, by their names in the log.
        class_shares: how often each class is generated, (n_classes,), see :func:`class_shares`; None for equally often.
    """

    generator: Generator
    critic: Critic
    objective: Objective
    recipe: Recipe
    augment: Augmentation = dataclasses.field(default_factory=Augmentation)
    path_mean: PathLengthMean | None = None
    extras: dict[str, Term] = dataclasses.field(default_factory=dict)
    class_shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.augment, AdaptiveAugmentation) and self.objective.loss == "wgan":
            raise ConfigError(
                "augment_probability=ada goes by the sign of scores, and those of a wgan objective have no zero; choose a "
                "number, or another loss (--set objective=nonsaturating)"
            )
        if self.objective.path_length_weight and self.generator.styles is not None:
            self.path_mean = PathLengthMean()

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules with state, by name."""
        modules: dict[str, nn.Module] = {"generator": self.generator, "critic": self.critic}
        modules |= {"path_mean": self.path_mean} if self.path_mean is not None else {}
        return modules | ({"augment": self.augment} if isinstance(self.augment, AdaptiveAugmentation) else {})

    def fake(self, n: int, rng: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Generate ``n`` images (n, C, H, W) and their random classes (n,), None where the generator has no classes."""
        z, y = self.generator.latent.sample(n, rng, device), self.draw_classes(n, rng, device)
        styles = self.generator.styles
        if styles is None or not self.recipe.style_mixing:
            return self.generator(z, y, noise=self.recipe.noise, rng=rng), y
        return styles.synthesis(self._mixed(styles, z, y, rng), self.recipe.noise, rng), y

    def draw_classes(self, n: int, rng: torch.Generator, device: torch.device) -> Tensor | None:
        """Draw classes (n,) to generate, in the shares of the target; None where the generator has no classes."""
        if not self.generator.n_classes:
            return None
        if self.class_shares is None:
            return torch.randint(self.generator.n_classes, (n,), generator=rng, device=rng.device).to(device)
        shares = torch.tensor(self.class_shares, device=rng.device)
        return torch.multinomial(shares, n, replacement=True, generator=rng).to(device)

    def _mixed(self, styles: Styles, z: Tensor, y: Tensor | None, rng: torch.Generator) -> Tensor:
        """Map latents to styles; where styles are mixed, take all rows from a random one on from other latents."""
        w = styles.mapping(z, y)
        if torch.rand((), generator=rng, device=rng.device).item() >= self.recipe.style_mixing or w.shape[1] < 2:
            return w
        first = int(torch.randint(1, w.shape[1], (), generator=rng, device=rng.device).item())
        others = self.generator.latent.sample(len(z), rng, z.device)
        return torch.cat([w[:, :first], styles.mapping(others, y)[:, first:]], dim=1)

    def _scores_and_class_loss(self, images: Tensor, y: Tensor | None, weight: float) -> tuple[Tensor, Tensor | None]:
        """Score images; also return the loss of an auxiliary classifier, or None without classifier, classes or weight.

        Source: Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs"; as TransferGAN has it, the
        critic's classifier learns from real images only.
        """
        if y is None or not weight or not self.critic.classifies:
            return self.critic(images, y), None
        scores, logits = self.critic.score_and_classify(images)
        return scores, nn.functional.cross_entropy(logits, y)

    def critic_update(self, optimiser: Optimiser) -> Update:
        """Teach the critic to tell target images from generated ones."""

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            with torch.no_grad():
                fake, y = self.fake(len(batch), rng, batch.data.device)
            return self.critic_terms(batch, fake, y, rng)

        def after_step() -> None:
            norms.update_running_state(self.critic, parameters_of([optimiser]))
            self.augment.after_step()

        return Update("critic", [optimiser], loss, after_step=after_step, repeat=self.objective.critic_steps)

    def critic_terms(self, batch: Batch, fake: Tensor, y_fake: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Logs]:
        """Compute the critic's loss and what to log.

        Args:
            batch: target images.
            fake: generated images (N, C, H, W), without a graph.
            y_fake: their classes (N,), or None.
            rng: for augmentation and penalty.
        """
        real, fake = self.augment(batch.data, rng), self.augment(fake, rng)
        y_real = batch.labels if self.critic.n_classes else None
        y_fake = y_fake if self.critic.n_classes and y_real is not None else None
        real_scores, class_loss = self._scores_and_class_loss(real, y_real, self.objective.class_weight_critic)
        fake_scores = self.critic(fake, y_fake)
        self.augment.observe(real_scores)
        value = critic_loss(self.objective, real_scores, fake_scores)
        logs: Logs = {
            "critic_loss": value.detach(),
            "real_score": real_scores.detach().mean(),
            "fake_score": fake_scores.detach().mean(),
        }
        if isinstance(self.augment, AdaptiveAugmentation):
            logs |= {"augment_probability": self.augment.now, "real_sign": real_scores.detach().sign().mean()}
        if class_loss is not None:
            logs["critic_class_loss"] = class_loss.detach()
            value = value + self.objective.class_weight_critic * class_loss
        if self.objective.penalty != "none" and self.objective.penalty_every == 1:
            slope = penalty(self.objective, lambda x: self.critic(x, y_real), real, fake, rng)
            logs["penalty"] = slope.detach()
            value = value + slope
        return value, logs

    def penalty_update(self, optimiser: Optimiser) -> Update | None:
        """Make an update of the penalty alone if it is lazy; None if it is part of the critic's loss, or there is none."""
        if self.objective.penalty == "none" or self.objective.penalty_every == 1:
            return None

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            real = fake = self.augment(batch.data, rng)
            if self.objective.penalty == "gradient":
                with torch.no_grad():
                    fake, _ = self.fake(len(batch), rng, batch.data.device)
                fake = self.augment(fake, rng)
            y_real = batch.labels if self.critic.n_classes else None
            value = penalty(self.objective, lambda x: self.critic(x, y_real), real, fake, rng)
            return value, {"penalty": value.detach()}

        # The optimiser is corrected for a penalty at every k-th of its own steps, and a step may have several of them.
        return Update("penalty", [optimiser], loss, every=self.objective.penalty_every, turns=self.objective.critic_steps)

    def generator_update(self, name: str, optimisers: Sequence[Optimiser]) -> Update:
        """Teach generator-side parameters to please the critic."""

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            fake, y = self.fake(len(batch), rng, batch.data.device)
            return self.generator_terms(name, batch, fake, y, rng)

        after_step = functools.partial(norms.update_running_state, self.generator, parameters_of(optimisers))
        return Update(name, optimisers, loss, after_step=after_step)

    def generator_terms(
        self, name: str, batch: Batch, fake: Tensor, y: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Logs]:
        """Compute the loss of the generator side and what to log.

        Args:
            name: begins the keys in the log.
            batch: target images; they say whether classes count.
            fake: generated images (N, C, H, W), through which gradients pass.
            y: their classes (N,), or None.
            rng: for augmentation and extras.
        """
        y = y if self.critic.n_classes and batch.labels is not None else None
        scores, class_loss = self._scores_and_class_loss(self.augment(fake, rng), y, self.objective.class_weight_generator)
        value = generator_loss(self.objective, scores)
        logs: Logs = {f"{name}_loss": value.detach()}
        if class_loss is not None:
            logs[f"{name}_class_loss"] = class_loss.detach()
            value = value + self.objective.class_weight_generator * class_loss
        for title, extra in self.extras.items():
            term = extra(rng, batch.data.device)
            logs[title] = term.detach()
            value = value + term
        return value, logs

    def path_length_update(self, optimisers: Sequence[Optimiser]) -> Update | None:
        """Make a lazy update that keeps path lengths alike; None unless the objective asks for it and synthesis is trained."""
        mean, styles = self.path_mean, self.generator.styles
        moving = [o for o in optimisers if self._moves_synthesis(o.groups)]
        if mean is None or styles is None or not moving:
            return None
        weight = self.objective.path_length_weight * self.objective.path_length_every

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            # Half of a batch will do, as published; this is the most expensive of all updates.
            n, device = max(1, len(batch) // 2), batch.data.device
            with torch.autocast(device.type, enabled=False):
                z = self.generator.latent.sample(n, rng, device)
                w = self._mixed(styles, z, self.draw_classes(n, rng, device), rng)
                w = w if w.requires_grad else w.requires_grad_()
                lengths = path_lengths(styles.synthesis(w, self.recipe.noise, rng), w, rng)
                value = weight * (lengths - mean.target(lengths)).square().mean()
            return value, {"path_length": lengths.detach().mean(), "path_penalty": value.detach()}

        def after_step() -> None:
            mean.after_step()
            norms.update_running_state(self.generator, parameters_of(moving))

        return Update("path_length", moving, loss, after_step=after_step, every=self.objective.path_length_every)

    def _moves_synthesis(self, groups: Sequence[tuple[Parameters, float]]) -> bool:
        styles = self.generator.styles
        if self.path_mean is None or styles is None:
            return False
        synthesis = {id(p) for p in styles.synthesis.parameters()}
        return any(id(p) in synthesis for parameters, _ in groups for p in parameters)

    def optimiser(self, name: str, groups: Sequence[tuple[Parameters, float]]) -> Optimiser:
        """Make Adam as the recipe sets it, corrected for the lazy penalty or regularisation that shares it."""
        lazy = None
        if name == "critic" and self.objective.penalty != "none":
            lazy = self.objective.penalty_every
        elif self._moves_synthesis(groups):
            lazy = self.objective.path_length_every
        return Optimiser(name, groups, betas=self.recipe.betas, lazy=lazy if lazy != 1 else None)

    def updates(self, name: str, critic: Optimiser, generator_side: Sequence[Optimiser]) -> list[Update]:
        """Return the updates of one step: critic, lazy penalty, generator side, path lengths."""
        steps = [
            self.critic_update(critic),
            self.penalty_update(critic),
            self.generator_update(name, generator_side),
            self.path_length_update(generator_side),
        ]
        return [step for step in steps if step is not None]


def parameters_of(optimisers: Sequence[Optimiser]) -> list[torch.nn.Parameter]:
    """Return all parameters that optimisers move."""
    return [p for optimiser in optimisers for parameters, _ in optimiser.groups for p in parameters]


def copy_generator(source: Generator, recipe: Recipe, trainable: bool = True) -> Generator:
    """Copy a source's generator, ready to train or to stay frozen."""
    generator = copy.deepcopy(source)
    generator.requires_grad_(trainable)
    if trainable:
        norms.set_training(generator, recipe.generator_norm)
    else:
        generator.eval()
    return generator


def copy_critic(source: Critic, recipe: Recipe) -> Critic:
    """Copy a source's critic, ready to train."""
    critic = copy.deepcopy(source)
    critic.requires_grad_(True)
    norms.set_training(critic, recipe.critic_norm)
    return critic


def unfrozen(critic: Critic, freeze: int) -> list[torch.nn.Parameter]:
    """Put a copied critic's first ``freeze`` stages on stored statistics and return the parameters of the others.

    Raises:
        ConfigError: if no stage would be left to train.
    """
    stages = critic.stages
    if freeze >= len(stages):
        raise ConfigError(f"freeze={freeze}: this critic has {len(stages)} stages, so at most {len(stages) - 1} can be fixed")
    fixed = {id(p) for stage in stages[:freeze] for p in stage.parameters()}
    for stage in stages[:freeze]:
        norms.set_training(stage, "running")
    return [p for p in critic.parameters() if id(p) not in fixed]
