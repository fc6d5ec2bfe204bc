"""What a run's observer says of a generator: the seam between the training loop and held-out evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

from regraft.gan import Generator


@dataclasses.dataclass(frozen=True)
class Observation:
    """What held-out evaluation says at a step.

    Attributes:
        values: for the log.
        best: whether this generator is the best so far and should be kept.
        stop: why training should end here, or None.
        state: what the observer needs back on resume; plain data.
    """

    values: dict[str, Any]
    best: bool = False
    stop: str | None = None
    state: dict[str, Any] = dataclasses.field(default_factory=dict)


def critic_gap(train: float, held: float, fake: float) -> float | None:
    """How far unseen images have fallen from seen ones towards generated ones, by a critic's mean scores of these.

    Returns:
        0 not at all, 1 all the way; None where seen images score no better than generated ones.
    """
    return (train - held) / (train - fake) if train > fake else None


Observe = Callable[[int, Generator], Observation]
