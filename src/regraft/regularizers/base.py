"""What a regularizer file provides: another loss of the generator side, for any method that fine-tunes."""

import abc
from collections.abc import Callable, Collection
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from regraft.core.config import Config
from regraft.core.gan import GAN
from regraft.core.networks import Generator

Term = Callable[[torch.Generator, torch.device], Tensor]
"""Maps a random generator and a device to a loss, a scalar; writes no buffer."""

ConfigT = TypeVar("ConfigT", bound=Config)


class Regularizer(abc.ABC, Generic[ConfigT]):
    """A loss on a generator that was copied from a source.

    Attributes:
        Config: class of its settings.
        summary: one line for lists.
        paper: where it is from.
        weight: default factor of the loss.
    """

    Config: type[ConfigT]
    summary: ClassVar[str]
    paper: ClassVar[str]
    weight: ClassVar[float]

    @abc.abstractmethod
    def attach(self, generator: Generator, source: GAN, config: ConfigT, free: Collection[str] = ()) -> Term:
        """Make the loss, before any weight.

        Args:
            generator: the copy in training; its parameters may be frozen in some phases, where the loss is zero.
            source: read-only.
            config: settings, a :attr:`Config`.
            free: names of parameters that the method itself changes in a way that changes no image.

        Raises:
            ConfigError, MissingCapability: if it does not work on this source.
        """


def zero_unless_trained(generator: Generator, device: torch.device) -> Tensor | None:
    """Return a zero if no parameter of the generator is being trained, so that the loss need not be computed; else None."""
    return None if any(p.requires_grad for p in generator.parameters()) else torch.zeros((), device=device)
