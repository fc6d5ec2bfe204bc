"""Measure a set of generated images: extract features once and give them to every metric."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regraft.core import discover
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import GAN
from regraft.core.randomness import generator_at
from regraft.extractors.base import Extractor, Features
from regraft.files import download
from regraft.metrics.base import Comparison, Metric, Samples, Score

DEFAULT_METRICS = (
    "frechet",
    "kid",
    "kmmd",
    "mean_variance",
    "precision_recall",
    "copies",
    "intra_cluster",
    "inception_score",
    "class_accuracy",
)
"""Metrics computed by default, if images and extractor allow."""


def extractor(name: str, source: GAN | None = None, cache: bool = False) -> Features:
    """Prepare an extractor.

    Args:
        name: name of a plug-in, or ``name:file`` for one that is read from a file.
        source: the GAN whose critic the extractor ``critic`` uses.
        cache: whether costly features are stored on disk.

    Raises:
        ConfigError: if there is no such extractor.
    """
    kind, _, file = name.partition(":")
    plugin = discover.plugin("extractors", kind, Extractor)
    features = plugin.make(pathlib.Path(file) if file else None, source)
    if cache and plugin.costly:
        return dataclasses.replace(features, cache=download.cache_folder() / "features")
    return features


def compare(
    fake: Tensor,
    real: Tensor,
    training: Tensor | None,
    features: Features,
    metrics: Sequence[str] = (),
    seed: int = 0,
    *,
    fake_labels: Tensor | None = None,
    real_labels: Tensor | None = None,
    fake_classes: tuple[str, ...] = (),
    real_classes: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda note: None,
) -> list[Score]:
    """Measure generated images against real ones.

    Args:
        fake: generated images, (N, C, H, W) in [-1, 1].
        real: unseen real images, same shape but for N.
        training: images that training saw, or None.
        features: the extractor.
        metrics: names of metrics; if empty, all default ones that apply.
        seed: seed of everything that metrics draw.
        fake_labels: classes that the generated images should show, (N,), for class accuracy.
        real_labels: classes of the real images, (M,).
        fake_classes, real_classes: names of these labels; empty if they are unknown.
        tell: called with the reason why a default metric is left out although nothing that it needs is missing.

    Raises:
        ConfigError: if something is missing that a named metric needs.
        DataError: if shapes differ, there are too few images, or a named metric cannot measure these images.
    """
    shapes = {tuple(t.shape[1:]) for t in (fake, real, training) if t is not None}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes cannot be compared: {sorted(shapes)}")
    labels = ((fake_labels, fake_classes), (real_labels, real_classes), (None, ()))
    sets = [None if t is None else _samples(t, features, *y) for t, y in zip((fake, real, training), labels, strict=True)]
    if sets[0] is None or sets[1] is None:
        raise DataError("nothing to compare")
    comparison = Comparison(sets[0], sets[1], sets[2], features.name, features.sha256, seed, features.classes)
    names = metrics or [name for name in DEFAULT_METRICS if not missing_input(name, comparison)]
    for name in names:
        if missing := missing_input(name, comparison):
            raise ConfigError(f"the metric {name} needs {missing}")
    if not metrics:
        reasons = {name: discover.plugin("metrics", name, Metric).why_unmeasurable(comparison) for name in names}
        names = [name for name, reason in reasons.items() if reason is None]
        for name, reason in reasons.items():
            if reason is not None:
                tell(f"{name} is left out: {reason}")
    scores = [score for name in names for score in discover.plugin("metrics", name, Metric).compute(comparison)]
    not_finite = [s.name for s in scores if not torch.isfinite(torch.tensor(s.value))]
    if not_finite:
        raise DataError(f"{', '.join(not_finite)} came out as no finite number; are the images all alike?")
    return with_replayed(scores, names, comparison) if comparison.training is not None else scores


def with_replayed(scores: Sequence[Score], names: Sequence[str], comparison: Comparison) -> list[Score]:
    """Add to each score, as its detail ``replayed``, what training images score in place of generated ones.

    Replaying training images beats most generators under every distance when images are few.  So this is the value that a
    generator has to beat, and the reason why a distance counts only together with a copy rate.  Metrics that train something or
    need labels are left out.
    """
    assert comparison.training is not None  # the caller checks
    rng = generator_at(comparison.seed, "replayed")
    drawn = torch.randint(comparison.training.n, (comparison.fake.n,), generator=rng)
    replay = dataclasses.replace(comparison, fake=comparison.training.take(drawn))
    plugins = [discover.plugin("metrics", name, Metric) for name in names]
    replayed = [s for m in plugins if not (m.slow or m.needs_labels) for s in m.measure(replay)]
    values = {s.name: s.value for s in replayed if math.isfinite(s.value)}
    return [dataclasses.replace(s, details=s.details | {"replayed": values[s.name]}) if s.name in values else s for s in scores]


def warn_of_equal_sets(fake: Tensor, real: Tensor, training: Tensor | None) -> list[str]:
    """Return a warning for each two sets that are equal pixel for pixel and so measure nothing.

    Args:
        fake, real, training: (N, C, H, W).
    """
    warnings = []
    if torch.equal(fake.cpu(), real.cpu()):
        warnings.append("generated and real images are the same set: the numbers only show what identical sets score")
    if training is not None and torch.equal(training.cpu(), real.cpu()):
        warnings.append(
            "the real images are those that training saw: copying looks like quality; name images that it did not see"
        )
    return warnings


def _samples(images: Tensor, features: Features, labels: Tensor | None, classes: tuple[str, ...]) -> Samples:
    extracted, probabilities = features.with_probabilities(images)
    return Samples(images, extracted, probabilities, labels, classes)


def missing_input(name: str, comparison: Comparison) -> str | None:
    """Return what a metric needs and this comparison lacks, with the option that gives it; None if nothing is missing."""
    metric = discover.plugin("metrics", name, Metric)
    if metric.needs_training and comparison.training is None:
        return "the images that training saw (--training)"
    if metric.needs_probabilities and comparison.fake.probabilities is None:
        return f"a classifier, and {comparison.extractor} is none (--extractor classifier:FILE)"
    if metric.needs_labels and comparison.fake.labels is None:
        return "labels of the generated images: a conditional source, or one folder for each class"
    return None
