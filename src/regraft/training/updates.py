"""What a method hands to the training loop: phases of updates, and the networks that they move."""

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
        """Number of items."""

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 without labels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, empty without labels."""

    @property
    def labels(self) -> Tensor | None:
        """Class of each item, (N,), or None."""

    def batch(self, index: Tensor, rng: torch.Generator, device: torch.device) -> Batch:
        """Fetch the items at ``index`` (N,) to a device; ``rng`` decides which are mirrored."""


def class_shares(data: Data, generator: Generator) -> tuple[float, ...] | None:
    """Return how often each class of a generator occurs in labelled data, (n_classes,).

    A generator whose classes are drawn in other shares than those of the real images would be trained towards, and measured
    against, another distribution than its own.

    Returns:
        The shares; None if the data have no labels or other classes than the generator, or if the classes have the same number
        of items but for one, which holding some out of equal classes leaves over.
    """
    if data.labels is None or not data.n_classes or generator.n_classes != data.n_classes:
        return None
    counts = torch.bincount(data.labels.cpu(), minlength=data.n_classes)
    return None if int(counts.max() - counts.min()) <= 1 else tuple((counts / counts.sum()).tolist())


Parameters = Sequence[nn.Parameter]

Logs = dict[str, Tensor | float]
"""Values for the log, by name."""


Loss = Callable[[Batch, torch.Generator], tuple[Tensor, Logs]]
"""Maps a batch and a random generator to the loss, a scalar, and what to log."""


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """Adam over groups of parameters.

    Attributes:
        name: updates of a phase whose optimisers have the same name share one.
        groups: parameters with their step size.
        betas: decay rates of Adam's two moments.
        eps: Adam's constant.
        schedule: maps the step of the phase to a factor of all step sizes.
        lazy: set if the optimiser also takes a regularisation step every ``lazy`` steps; step size and decay rates are
            corrected for it (Karras et al. 2020, appendix B).
    """

    name: str
    groups: Sequence[tuple[Parameters, float]]
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    schedule: Callable[[int], float] | None = None
    lazy: int | None = None


@dataclasses.dataclass(frozen=True)
class Update:
    """One loss and the optimisers that minimise it.

    Attributes:
        name: used in errors.
        optimisers: those whose parameters it moves.
        loss: see :data:`Loss`; it may run several times per step, on parts of the batch, and writes no buffer.
        after_step: called once after each optimiser step; only here may running state change.
        repeat: optimiser steps per step of the phase.
        every: done at every k-th step only, or at every k-th of its ``turns``.
        turns: how many turns ``every`` counts per step: a penalty counts the critic's steps, of which a step may have several.
        reuse: whether all its repeats see the same data.
    """

    name: str
    optimisers: Sequence[Optimiser]
    loss: Loss
    after_step: Callable[[], None] | None = None
    repeat: int = 1
    every: int = 1
    turns: int = 1
    reuse: bool = False

    def count_at(self, step: int) -> int:
        """Return how many optimiser steps it does at a step of the phase, from 0.

        Turns are numbered through the phase, ``turns`` of them per step; each whose number is a multiple of ``every`` counts:
        ``ceil((step + 1) turns / every) - ceil(step turns / every)``.
        """
        before, after = (-(-k * self.turns // self.every) for k in (step, step + 1))
        return self.repeat * (after - before)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A number of steps that all do the same updates.

    Attributes:
        name: used in the log, and part of the seed of every step.
        updates: done in this order at each step.
        steps: number of steps.
        on_enter: called before its first step, but not after a resume inside it.  It may change tensors, so the averages
            begin anew after it.
        modes: called whenever the phase begins or is resumed; sets the modes of modules and changes no tensor.
        keep_optimisers: whether optimisers take over the moments of those of the same name in the phase before.
        data: replaces the target images, with as many items.
        from_averages: whether averaged modules first take the values of their averages.
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
    """A method attached to its sources and images, ready to be trained.

    Attributes:
        generator: the generator that is adapted, and saved in part or whole.
        critic: scores the generator's output; None if there is none.
        phases: may be empty.
        modules: all modules with state, by name, the generator as ``generator``; exact resume needs them.
        averaged: names of modules of which a moving average is kept.
        ema_decay: decay of that average per step.
        batch: items per optimiser step.
        space: whether data and generator output are images or codes.
        notes: what a user should know about choices made here, one sentence each.
        cautions: what a verdict on the result has to mention, one sentence each.
        findings: returns what was learned, as plain data.  It is given the generator that is kept and whether that is the
            last one, while all modules are as training left them.  None if there is nothing to tell.
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
        """Optimisers of all updates of all phases."""
        return [o for phase in self.phases for update in phase.updates for o in update.optimisers]

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that some phase moves, by ``module.name``."""
        moved = {id(p) for o in self.optimisers for params, _ in o.groups for p in params}
        return {
            f"{name}.{inner}": p
            for name, module in self.modules.items()
            for inner, p in module.named_parameters()
            if id(p) in moved
        }

    def trained_values(self) -> dict[str, int]:
        """Return how many numbers are trained, by name of the module."""
        counts: dict[str, int] = {}
        for name, parameter in self.trained().items():
            module = name.partition(".")[0]
            counts[module] = counts.get(module, 0) + parameter.numel()
        return counts
