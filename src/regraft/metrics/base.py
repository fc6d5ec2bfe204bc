"""The base of all metrics, which measure sets of images or their features and never see a generator."""

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from regraft.core.errors import DataError

MIN_FOR_FLOOR = 8
"""Fewest real images in each half for a floor."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One number of a metric, with everything needed to compare it.

    Attributes:
        name: name of the score, with the extractor if it depends on one.
        value: the number.
        better: which direction is better; ``none`` if neither is.
        n_real, n_fake: numbers of images that it was measured on.
        seed: seed of everything that was drawn.
        extractor: name of the feature extractor, or ``pixels``.
        extractor_sha256: digest of the extractor's weights.
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
        """Return plain data for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Samples:
    """A set of images with its features.

    Attributes:
        images: (N, C, H, W) in [-1, 1].
        features: (N, D).
        probabilities: class probabilities, (N, K), or None if the extractor is no classifier.
        labels: the classes that the images should show, (N,), or None.
        classes: names of the labels; empty if they are unknown.
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
        """Return the images at ``index``, in that order."""
        probabilities = None if self.probabilities is None else self.probabilities[index]
        labels = None if self.labels is None else self.labels[index]
        return Samples(self.images[index], self.features[index], probabilities, labels, self.classes)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The sets of images that a metric compares.

    Attributes:
        fake: generated images.
        real: target images that training did not see.
        training: target images that training saw, or None.
        extractor: name of the extractor of all features.
        extractor_sha256: digest of the extractor's weights.
        seed: seed of everything that a metric draws.
        classes: names of the extractor's classes; empty if it is no classifier or does not name them.
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
        **details: object,
    ) -> Score:
        """Make a score of this comparison; arguments are as for :class:`Score`.

        Args:
            name, value, better, interval: as there.
            n_real, n_fake: numbers of images if they are not those of this comparison.
            pixels: whether the score does not depend on the extractor.
            **details: the protocol.
        """
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


class Metric(abc.ABC):
    """A measure of generated images.

    Attributes:
        summary: one line for lists.
        needs_training: whether it needs the training images.
        needs_probabilities: whether the extractor must be a classifier.
        needs_labels: whether it needs the classes that the generated images should show.
        has_floor: whether real images in place of generated ones show what a perfect generator scores.
        slow: whether it takes seconds; it is then not measured again at the floor's number of images.
    """

    summary: ClassVar[str]
    needs_training: ClassVar[bool] = False
    needs_probabilities: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    has_floor: ClassVar[bool] = True
    slow: ClassVar[bool] = False

    def compute(self, comparison: Comparison) -> list[Score]:
        """Measure, and add to each score what real images score in place of generated ones.

        Raises:
            DataError: if there are too few images.
        """
        scores = self.measure(comparison)
        return add_floor(self, comparison, scores) if self.has_floor else scores

    def why_unmeasurable(self, comparison: Comparison) -> str | None:
        """Return why this comparison cannot be measured although nothing is missing, and what to do; None if it can be."""
        return None

    @abc.abstractmethod
    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure with intervals, without a floor.

        Raises:
            DataError: if there are too few images.
        """


def add_floor(metric: Metric, comparison: Comparison, scores: list[Score]) -> list[Score]:
    """Add to each score its floor: what the metric is between two halves of the real images.

    Many metrics are higher on fewer images, and the halves are mostly smaller than the sets of the score.  The details then
    also give the score of as many images as a half has.
    """
    n = min(comparison.real.n // 2, comparison.fake.n)
    if n < MIN_FOR_FLOOR:
        reason = f"no real-against-real floor: {comparison.real.n} real images, and {2 * MIN_FOR_FLOOR} are needed"
        return [dataclasses.replace(s, details=s.details | {"floor": None, "floor_note": reason}) for s in scores]
    rng = torch.Generator().manual_seed(comparison.seed)
    order = torch.randperm(comparison.real.n, generator=rng)
    half, other_half = comparison.real.take(order[:n]), comparison.real.take(order[n : 2 * n])
    some_fake = comparison.fake.take(torch.randperm(comparison.fake.n, generator=rng)[:n])
    floors = {s.name: s for s in metric.measure(dataclasses.replace(comparison, real=half, fake=other_half))}
    at_floor_n = [] if metric.slow else metric.measure(dataclasses.replace(comparison, real=half, fake=some_fake))
    values_at_floor_n = {s.name: s.value for s in at_floor_n}
    with_floors = []
    for score in scores:
        details = dict(score.details)
        if score.name in floors:
            floor = floors[score.name]
            details |= {"floor": floor.value, "floor_interval": floor.interval, "floor_n": n}
            if any(count not in (0, n) for count in (score.n_real, score.n_fake)):
                details |= {
                    "floor_note": f"the floor is at {n} real images on each side, the most there are for two halves",
                    "value_at_floor_n": values_at_floor_n.get(score.name),
                }
        with_floors.append(dataclasses.replace(score, details=details))
    return with_floors


def require_images(n: int, samples: Samples, what: str, name: str) -> None:
    """Refuse a set that is too small for a metric.

    Args:
        n: fewest images allowed.
        samples: the set.
        what: kind of the images, for the error.
        name: name of the metric, for the error.

    Raises:
        DataError: naming metric, set and sizes.
    """
    if samples.n < n:
        raise DataError(f"{name} needs at least {n} {what} images, {samples.n} given")


def equal_subsets(comparison: Comparison) -> tuple[Tensor, Tensor, int]:
    """Return features of equally many real and generated images.

    Images are drawn with the comparison's seed from the side that has more.

    Returns:
        Features of real and of generated images, (N, D) each, and N.
    """
    n = min(comparison.real.n, comparison.fake.n)
    rng = torch.Generator().manual_seed(comparison.seed)
    features = []
    for samples in (comparison.real, comparison.fake):
        index = torch.randperm(samples.n, generator=rng)[:n] if samples.n > n else torch.arange(n)
        features.append(samples.features[index])
    return features[0], features[1], n
