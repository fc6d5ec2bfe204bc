"""What a run's observer says of a generator: the seam between the training loop and held-out evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

from regraft.core.networks import Generator


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


Observe = Callable[[int, Generator], Observation]
