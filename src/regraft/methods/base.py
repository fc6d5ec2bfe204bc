"""What a method file provides: how sources and images become modules, updates and phases for the one training loop."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from regraft.config import Config, Objective, Recipe
from regraft.errors import ConfigError, MissingCapability
from regraft.gan import GAN, Batch, Critic, Generator
from regraft.mixture import MixedGenerator


class Data(Protocol):
    """Target data that the loop draws from."""

    @property
    def n(self) -> int:
        """How many items there are."""

    @property
    def n_classes(self) -> int:
        """How many classes the items have, 0 without labels; data may also know their names, as ``classes``."""

    def batch(self, index: Tensor, rng: torch.Generator, device: torch.device) -> Batch:
        """Fetch items; ``rng`` decides flips."""


Parameters = Sequence[nn.Parameter]
Loss = Callable[[Batch, torch.Generator], tuple[Tensor, dict[str, Tensor | float]]]


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """Adam over groups of parameters.

    Attributes:
        name: updates that name the same optimiser share it.
        groups: parameters with their step size.
        betas: Adam's decay rates.
        eps: Adam's constant.
        schedule: step of the phase to a factor of all step sizes.
        lazy: the optimiser also takes a regularisation step every ``lazy`` steps; step size and decay rates are corrected
            for it (Karras et al. 2020, appendix B).
    """

    name: str
    groups: Sequence[tuple[Parameters, float]]
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    schedule: Callable[[int], float] | None = None
    lazy: int | None = None


@dataclasses.dataclass(frozen=True)
class Update:
    """One loss, minimised by some optimisers.

    Attributes:
        name: as the log calls it.
        optimisers: whose parameters it moves.
        loss: from a batch and a random generator; writes no buffer.
        after_step: called once after each optimiser step; the place where running state may change.
        repeat: times per step.
        every: done on every k-th step only.
        reuse: its repeats see the same data, and do not draw anew.
    """

    name: str
    optimisers: Sequence[Optimiser]
    loss: Loss
    after_step: Callable[[], None] | None = None
    repeat: int = 1
    every: int = 1
    reuse: bool = False


@dataclasses.dataclass(frozen=True)
class Phase:
    """Some steps of the same updates.

    Attributes:
        name: as the log calls it.
        updates: done in this order at each step.
        steps: how many.
        on_enter: called before its first step (not after a resume inside it); it may change tensors, so averages begin again.
        modes: called whenever the phase begins or goes on after a resume; sets modules' modes and changes no tensor.
        keep_optimisers: carry over optimisers of the same name and parameters from the phase before.
        data: drawn from in place of the target images; as many items.
        from_averages: averaged modules first take the values of their averages.
    """

    name: str
    updates: Sequence[Update]
    steps: int
    on_enter: Callable[[], None] | None = None
    modes: Callable[[], None] | None = None
    keep_optimisers: bool = False
    data: Data | None = None
    from_averages: bool = False


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A method attached to its sources and images.

    Attributes:
        generator: what is adapted and then saved, in part or whole.
        critic: scores its output, where there is one.
        phases: may be empty.
        modules: all modules with state, by name, for exact resume; ``generator`` among them.
        averaged: names of modules that are kept as a moving average too.
        ema_decay: of that average, per step.
        batch: items per optimiser step.
        space: what data and generator output are.
        notes: what a user should know of choices made here, one sentence each.
        cautions: what a verdict on the result has to say too, one sentence each.
        findings: what was learned, as plain data, from the generator that is kept and whether it is the last one, with all
            modules as training left them; None where there is nothing to say.
    """

    generator: Generator
    critic: Critic | None
    phases: Sequence[Phase]
    modules: dict[str, nn.Module]
    averaged: tuple[str, ...] = ("generator",)
    ema_decay: float = 0.0
    batch: int = 1
    space: Literal["image", "code"] = "image"
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    findings: Callable[[Generator, bool], dict[str, Any]] | None = None

    @property
    def optimisers(self) -> list[Optimiser]:
        """All optimisers of all phases, one per phase and name."""
        return [o for phase in self.phases for update in phase.updates for o in update.optimisers]

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that some phase moves, by ``module.name``."""
        moved = {id(p) for o in self.optimisers for params, _ in o.groups for p in params}
        return {
            f"{name}.{inner}": p
            for name, module in self.modules.items()
            for inner, p in module.named_parameters()
            if id(p) in moved
        }

    def trained_values(self) -> dict[str, int]:
        """How many numbers are trained, by module."""
        counted: dict[str, int] = {}
        for name, parameter in self.trained().items():
            module = name.partition(".")[0]
            counted[module] = counted.get(module, 0) + parameter.numel()
        return counted


class MethodConfig(Config):
    """Settings that every method has."""


class Method(abc.ABC):
    """A way to adapt sources to target images.

    Attributes:
        Config: its settings.
        summary: one line for lists.
        paper: where it is from.
        needs: capabilities of every source.
        sources: least and most number of sources.
        mixtures: whether it can adapt a generator that chooses among several sources.
        stands_alone: whether the adapted generator holds nothing of the source's weights.
        labels: whether it learns the classes of labelled images.
        mirrors: whether training images may be mirrored at random.
        running_state: buffers that follow training, by ``module.name``; they change after steps only.
    """

    Config: ClassVar[type[MethodConfig]]
    summary: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[Literal["critic", "autoencoder"]]] = frozenset()
    sources: ClassVar[tuple[int, int]] = (1, 1)
    mixtures: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True
    running_state: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def attach(self, sources: Sequence[GAN], images: Data, config: Any, rng: torch.Generator) -> Adaptation:
        """Copy what will change and say how it is trained.

        Args:
            sources: read-only.
            images: target data, at the first source's size and channels.
            config: a :attr:`Config`.
            rng: for initial weights.

        Raises:
            MissingCapability: if a source lacks something.
        """

    def training(self, source: GAN, config: Any) -> tuple[Objective, Recipe]:
        """Objective and recipe to begin with, before what the user sets: those of the source."""
        return source.objective, source.recipe

    def training_anew(self, config: Any) -> tuple[Objective, Recipe]:
        """The same without a source; those among the settings, where a method has such settings and they are given."""
        return Objective(), Recipe()

    def fitted(self, config: Any, sources: Sequence[GAN], images: Data) -> Any:
        """The settings with everything filled in that follows from sources and images."""
        return config

    def classes_dropped(self, config: Any) -> str | None:
        """Of a method that learns no classes: why it does not keep those of its sources either; None if it does."""
        return "does not learn classes"

    def finished(self, modules: dict[str, nn.Module], images: Data, config: Any) -> GAN:
        """The source that a pretraining has made.

        Args:
            modules: as trained; averages where there are any.  They may be changed.
            images: what it was trained on.
        """
        raise ConfigError(f"{type(self).__name__} adapts sources and makes none")

    def rebuild(self, sources: Sequence[GAN], config: Any) -> Generator:
        """The adapted generator's structure with the sources' weights, into which an adapter's tensors are loaded."""
        raise ConfigError(f"{type(self).__name__} makes sources and no adapters")

    def settle(self, sources: Sequence[GAN], config: Any, seed: int) -> Any:
        """The settings with every choice made that hangs on sources or seed."""
        return config

    def lead(self, sources: Sequence[GAN], config: Any) -> GAN:
        """The source whose image size, colours, critic and way of training are taken; there is at least one."""
        return sources[0]

    def check(self, sources: Sequence[GAN], name: str, config: Any = None) -> None:
        """Refuse a wrong number of sources or a missing capability; settings may waive one.

        Raises:
            ConfigError, MissingCapability: naming the method and the way out.
        """
        least, most = self.sources
        if not least <= len(sources) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ConfigError(f"{name} takes {wanted} source{'s' if most != 1 else ''}, {len(sources)} given")
        for source in sources:
            if not self.mixtures and isinstance(source.generator, MixedGenerator):
                raise MissingCapability(
                    f"{source.provenance.name}: its images come from several sources by turns, which {name} cannot change; "
                    "name those sources themselves, or choose transfergan or freezed"
                )
            for capability in sorted(self.needs):
                source.require(capability, for_=name)
