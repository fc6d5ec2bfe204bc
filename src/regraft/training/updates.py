"""What a method hands to the training loop: updates in phases, and the networks that they move."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from regraft.core.networks import Batch, Critic, Generator


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
