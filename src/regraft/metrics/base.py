"""What a metric file provides: numbers from features or images, never from a generator."""

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from regraft.errors import DataError


@dataclasses.dataclass(frozen=True)
class Score:
    """One number with everything needed to compare it.

    Attributes:
        name: what it is called, extractor included where it depends on one.
        value: the number.
        better: which direction is better, ``none`` where neither is.
        n_real, n_fake: images behind it.
        seed: of whatever was drawn.
        extractor: name of the feature extractor, or ``pixels``.
        extractor_sha256: digest of its weights.
        interval: 95 % interval, or None.
        details: the protocol: variants, bandwidths, thresholds.
    """

    name: str
    value: float
    better: Literal["lower", "higher", "none"]
    n_real: int
    n_fake: int
    seed: int
    extractor: str
    extractor_sha256: str | None = None
    interval: tuple[float, float] | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Samples:
    """One set of images with its features.

    Attributes:
        images: (N, C, H, W) in [-1, 1].
        features: (N, D).
    """

    images: Tensor
    features: Tensor

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.features)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a metric is given.

    Attributes:
        fake: generated images.
        real: target images that training did not see.
        training: target images that training saw, or None.
        extractor: name of the features' extractor.
        extractor_sha256: digest of its weights.
        seed: for whatever a metric draws.
    """

    fake: Samples
    real: Samples
    training: Samples | None
    extractor: str
    extractor_sha256: str | None
    seed: int

    def score(
        self, name: str, value: float | Tensor, better: Literal["lower", "higher", "none"], *, n_real: int | None = None,
        n_fake: int | None = None, pixels: bool = False, **details: Any,
    ) -> Score:  # fmt: skip
        """Make a score of this comparison."""
        return Score(
            name=name, value=float(value), better=better, n_real=self.real.n if n_real is None else n_real,
            n_fake=self.fake.n if n_fake is None else n_fake, seed=self.seed,
            extractor="pixels" if pixels else self.extractor,
            extractor_sha256=None if pixels else self.extractor_sha256, details=details,
        )  # fmt: skip


class Metric:
    """A measure of generated images.

    Attributes:
        summary: one line for lists.
        needs_training: whether it compares with the training images.
    """

    summary: ClassVar[str]
    needs_training: ClassVar[bool] = False

    def compute(self, comparison: Comparison) -> list[Score]:
        """Measure.

        Raises:
            DataError: if there are too few images.
        """
        raise NotImplementedError


def at_least(n: int, samples: Samples, what: str, name: str) -> None:
    """Refuse a set that is too small for a metric.

    Raises:
        DataError: naming metric, set and sizes.
    """
    if samples.n < n:
        raise DataError(f"{name} needs at least {n} {what} images, {samples.n} given")


def equal_subsets(comparison: Comparison) -> tuple[Tensor, Tensor, int]:
    """Features of as many fake as real images, drawn with the comparison's seed where one side has more."""
    n = min(comparison.real.n, comparison.fake.n)
    rng = torch.Generator().manual_seed(comparison.seed)
    picked = []
    for samples in (comparison.real, comparison.fake):
        index = torch.randperm(samples.n, generator=rng)[:n] if samples.n > n else torch.arange(n)
        picked.append(samples.features[index])
    return picked[0], picked[1], n
