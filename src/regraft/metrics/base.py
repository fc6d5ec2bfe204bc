"""What a metric file provides: numbers from features or images, never from a generator."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from regraft.core.errors import DataError

LEAST_FOR_FLOOR = 8
"""Images in each half of the real ones, at least, for a floor."""


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
        probabilities: of classes, (N, K), where the extractor is a classifier.
        labels: the classes that the images should show, (N,), or None.
        classes: names of the labels, empty where they are unknown.
    """

    images: Tensor
    features: Tensor
    probabilities: Tensor | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.features)

    def take(self, index: Tensor) -> "Samples":
        """Some of the images, in the given order."""
        probabilities = None if self.probabilities is None else self.probabilities[index]
        labels = None if self.labels is None else self.labels[index]
        return Samples(self.images[index], self.features[index], probabilities, labels, self.classes)


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
        classes: names of the extractor's classes, where it is a classifier that has them.
    """

    fake: Samples
    real: Samples
    training: Samples | None
    extractor: str
    extractor_sha256: str | None
    seed: int
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        widths = {s.features.shape[1:] for s in (self.fake, self.real, self.training) if s is not None}
        if len(widths) > 1:
            raise DataError(f"features of different extractors cannot be compared: their rows are {sorted(map(tuple, widths))}")

    def score(
        self,
        name: str,
        value: float | Tensor,
        better: Literal["lower", "higher", "none"],
        *,
        n_real: int | None = None,
        n_fake: int | None = None,
        pixels: bool = False,
        interval: tuple[float, float] | None = None,
        **details: Any,
    ) -> Score:
        """Make a score of this comparison."""
        return Score(
            name=name,
            value=float(value),
            better=better,
            n_real=self.real.n if n_real is None else n_real,
            n_fake=self.fake.n if n_fake is None else n_fake,
            seed=self.seed,
            extractor="pixels" if pixels else self.extractor,
            extractor_sha256=None if pixels else self.extractor_sha256,
            interval=interval,
            details=details,
        )


def same_extractor(scores: Sequence[Score]) -> None:
    """Refuse scores that must not stand in one table.

    Raises:
        DataError: naming the extractors.
    """
    found = {(s.extractor, s.extractor_sha256) for s in scores if s.extractor != "pixels"}
    if len(found) > 1:
        named = ", ".join(sorted(f"{name} ({(digest or 'no digest')[:12]})" for name, digest in found))
        raise DataError(f"scores under different extractors never share a table: {named}")


class Metric(abc.ABC):
    """A measure of generated images.

    Attributes:
        summary: one line for lists.
        needs_training: whether it compares with the training images.
        needs_probabilities: whether the extractor must be a classifier.
        needs_labels: whether generated images must come with the classes that they should show.
        has_floor: whether real images can stand in for generated ones to show what perfection scores.
        slow: whether measuring takes seconds; it is then not repeated at the floor's numbers.
    """

    summary: ClassVar[str]
    needs_training: ClassVar[bool] = False
    needs_probabilities: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    has_floor: ClassVar[bool] = True
    slow: ClassVar[bool] = False

    def compute(self, comparison: Comparison) -> list[Score]:
        """Measure, and give what real images score in the place of generated ones.

        Raises:
            DataError: if there are too few images.
        """
        scores = self.measure(comparison)
        return with_floor(self, comparison, scores) if self.has_floor else scores

    def unfit(self, comparison: Comparison) -> str | None:
        """Why a comparison that has all that is needed cannot be measured, with the way out; None if it can."""
        return None

    @abc.abstractmethod
    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure, with intervals.

        Raises:
            DataError: if there are too few images.
        """


def with_floor(metric: Metric, comparison: Comparison, scores: list[Score]) -> list[Score]:
    """Add to each score what it is between two halves of the real images.

    At fewer images than the score itself has (there are never twice as many real ones), many metrics are higher; the score at
    those numbers stands beside the floor then.
    """
    n = min(comparison.real.n // 2, comparison.fake.n)
    if n < LEAST_FOR_FLOOR:
        reason = f"no real-against-real floor: {comparison.real.n} real images, and {2 * LEAST_FOR_FLOOR} are needed"
        return [dataclasses.replace(s, details=s.details | {"floor": None, "floor_note": reason}) for s in scores]
    rng = torch.Generator().manual_seed(comparison.seed)
    order = torch.randperm(comparison.real.n, generator=rng)
    here, there = comparison.real.take(order[:n]), comparison.real.take(order[n : 2 * n])
    some = comparison.fake.take(torch.randperm(comparison.fake.n, generator=rng)[:n])
    floors = {s.name: s for s in metric.measure(dataclasses.replace(comparison, real=here, fake=there))}
    again = [] if metric.slow else metric.measure(dataclasses.replace(comparison, real=here, fake=some))
    reduced = {s.name: s for s in again}
    found = []
    for score in scores:
        details = dict(score.details)
        if score.name in floors:
            floor = floors[score.name]
            details |= {"floor": floor.value, "floor_interval": floor.interval, "floor_n": n}
            if any(count not in (0, n) for count in (score.n_real, score.n_fake)):
                details |= {
                    "floor_note": f"the floor is at {n} real images on each side, the most there are for two halves",
                    "value_at_floor_n": reduced[score.name].value if score.name in reduced else None,
                }
        found.append(dataclasses.replace(score, details=details))
    return found


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
