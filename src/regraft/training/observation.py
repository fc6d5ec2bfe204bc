"""The seam between the training loop and held-out evaluation: what the loop asks of an observer."""

import dataclasses
from typing import Any, Protocol

from regraft.core.networks import Generator


@dataclasses.dataclass(frozen=True)
class Observation:
    """What an observer found at a step.

    Attributes:
        values: written to the log.
        best: whether this generator is the best so far and should be kept.
        stop: why training should end here, or None.
        state: plain data that the observer needs back on resume.
    """

    values: dict[str, Any]
    best: bool = False
    stop: str | None = None
    state: dict[str, Any] = dataclasses.field(default_factory=dict)


class Observer(Protocol):
    """Measures generators during a run; the loop saves its state and gives it back on resume."""

    def __call__(self, step: int, generator: Generator) -> Observation:
        """Measure the generator of a step, averaged and with measured statistics."""

    def load(self, state: dict[str, Any]) -> None:
        """Take back the ``state`` of the last observation before a stop; empty if there was none."""
