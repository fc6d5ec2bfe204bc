"""What an extractor file provides: images to feature vectors, with a digest of its weights.

Features of one set of images under one extractor are kept on disk by the digest of both, where a folder is given.
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
    """A ready extractor.

    Attributes:
        name: as scores print it.
        sha256: digest of its weights.
        function: images (N, C, H, W) in [-1, 1] to features (N, D).
        classify: the same images to features and class logits (N, K), for classifiers.
        classes: names of the classes, where the file has them.
        cache: a folder that keeps features of images seen before, or None.
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
        return self.kept("features", images, lambda: self._parts(self.function, images, batch))[0]

    def with_probabilities(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and class probabilities (N, K), None where the extractor is no classifier."""
        classify = self.classify
        if classify is None:
            return self(images), None
        features, logits = self.kept("both", images, lambda: self._parts(classify, images, None))
        return features, logits.double().softmax(1)

    def kept(self, what: str, images: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What was made of these images before, from the cache, or made now."""
        return make() if self.cache is None else _cache.kept(self.cache, what, self.sha256, images, make)

    @torch.no_grad()
    def _parts(
        self, function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], images: Tensor, batch: int | None
    ) -> tuple[Tensor, ...]:
        found = [function(part) for part in torch.split(images, batch or self.batch)]
        rows = [(f,) if isinstance(f, Tensor) else f for f in found]
        return tuple(torch.cat([r.float().cpu() for r in column]) for column in zip(*rows, strict=True))


class Extractor(abc.ABC):
    """A way to turn images into features.

    Attributes:
        summary: one line for lists.
        costly: whether its features are worth keeping on disk.
    """

    summary: ClassVar[str]
    costly: ClassVar[bool] = False

    @abc.abstractmethod
    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Prepare it.

        Args:
            weights: a file that the user named, for extractors that are read from one.
            source: the GAN whose critic may serve.

        Raises:
            ConfigError, MissingCapability, SourceError: if something is missing or unreadable.
        """
