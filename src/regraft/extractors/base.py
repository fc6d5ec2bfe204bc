"""What an extractor file provides: images to feature vectors, with a digest of its weights."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from regraft.gan import GAN


@dataclasses.dataclass(frozen=True)
class Features:
    """A ready extractor.

    Attributes:
        name: as scores print it.
        sha256: digest of its weights.
        function: images (N, C, H, W) in [-1, 1] to features (N, D).
    """

    name: str
    sha256: str
    function: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, images: Tensor, batch: int = 256) -> Tensor:
        """Extract features, (N, D), float32, on the CPU."""
        return torch.cat([self.function(part).float().cpu() for part in torch.split(images, batch)])


class Extractor:
    """A way to turn images into features.

    Attributes:
        summary: one line for lists.
    """

    summary: ClassVar[str]

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Prepare it.

        Args:
            weights: a file that the user named, for extractors that are read from one.
            source: the GAN whose critic may serve.

        Raises:
            ConfigError, MissingCapability, SourceError: if something is missing or unreadable.
        """
        raise NotImplementedError
