"""The base of all extractors, which map images to feature vectors and have a digest of their weights.

If a cache folder is given, features are stored on disk by the digests of the images and of the extractor.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from regraft.core.gan import GAN
from regraft.extractors import _cache


@dataclasses.dataclass(frozen=True)
class Features:
    """An extractor that is ready for use.

    Attributes:
        name: name of the extractor in scores.
        sha256: digest of its weights.
        function: maps images (N, C, H, W) in [-1, 1] to features (N, D).
        classify: maps the same images to features and class logits (N, K); None if the extractor is no classifier.
        classes: names of the classes; empty if they are unknown.
        cache: folder where features are stored, or None.
        batch: images at a time.
    """

    name: str
    sha256: str
    function: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    classes: tuple[str, ...] = ()
    cache: pathlib.Path | None = None
    batch: int = 256

    def __call__(self, images: Tensor, batch: int | None = None) -> Tensor:
        """Extract features, (N, D), float32, on the CPU."""
        return self._cached("features", images, lambda: self._compute(self.function, images, batch))[0]

    def with_probabilities(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Extract features, and class probabilities (N, K); None if the extractor is no classifier."""
        classify = self.classify
        if classify is None:
            return self(images), None
        features, logits = self._cached("both", images, lambda: self._compute(classify, images, None))
        return features, logits.double().softmax(1)

    def _cached(self, what: str, images: Tensor, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return compute() if self.cache is None else _cache.load_or_compute(self.cache, what, self.sha256, images, compute)

    @torch.no_grad()
    def _compute(
        self, function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], images: Tensor, batch: int | None
    ) -> tuple[Tensor, ...]:
        """Apply a function to all images batch by batch, and join each of its outputs, float32, on the CPU."""
        outputs = [function(part) for part in torch.split(images, batch or self.batch)]
        batches = [(output,) if isinstance(output, Tensor) else output for output in outputs]
        return tuple(torch.cat([part.float().cpu() for part in parts]) for parts in zip(*batches, strict=True))


class Extractor(abc.ABC):
    """A way to turn images into features.

    Attributes:
        summary: one line for lists.
        costly: whether its features are worth storing on disk.
    """

    summary: ClassVar[str]
    costly: ClassVar[bool] = False

    @abc.abstractmethod
    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Prepare the extractor.

        Args:
            weights: file that the user named, for extractors that are read from one; or None.
            source: GAN whose critic the extractor ``critic`` uses; or None.

        Raises:
            ConfigError, MissingCapability, SourceError: if something is missing or unreadable.
        """
