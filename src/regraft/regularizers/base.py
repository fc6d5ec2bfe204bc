"""What a regularizer file provides: another loss of the generator side, for any method that fine-tunes."""

import abc
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import torch
from torch import Tensor

from regraft.core.config import Config
from regraft.core.gan import GAN
from regraft.core.networks import Generator

Term = Callable[[torch.Generator, torch.device], Tensor]
"""From a random generator and a device to a scalar, before any weight; writes no buffer."""


class Regularizer(abc.ABC):
    """A loss on a generator that was copied from a source.

    Attributes:
        Config: its settings.
        summary: one line for lists.
        paper: where it is from.
        weight: factor that it gets unless the user says another.
    """

    Config: ClassVar[type[Config]]
    summary: ClassVar[str]
    paper: ClassVar[str]
    weight: ClassVar[float]

    @abc.abstractmethod
    def attach(self, generator: Generator, source: GAN, config: Any, free: Collection[str] = ()) -> Term:
        """Make the loss.

        Args:
            generator: the copy in training; its parameters may be frozen in some phases, where the loss is zero.
            source: read-only.
            config: a :attr:`Config`.
            free: names of parameters that the method itself moves away from the source's without changing any image.

        Raises:
            ConfigError, MissingCapability: if it does not work on this source.
        """


def zero_unless_trained(generator: Generator, device: torch.device) -> Tensor | None:
    """A zero where no parameter of the generator is being trained, so that nothing is computed for it."""
    return None if any(p.requires_grad for p in generator.parameters()) else torch.zeros((), device=device)
