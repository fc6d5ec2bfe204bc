"""Numbers for a set of generated images: features are extracted once and handed to every metric."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft import discover, pictures
from regraft.errors import ConfigError, DataError
from regraft.extractors import _cache
from regraft.extractors.base import Features
from regraft.gan import GAN, Generator
from regraft.images import Images
from regraft.metrics.base import Comparison, Samples, Score
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import KernelMatch, kernel_match, mean_match
from regraft.metrics.mean_variance import mean_variance
from regraft.observation import Observation

TOLERANCE = 2.0  # standard errors
DEFAULT_METRICS = (
    "frechet", "kid", "kmmd", "mean_variance", "precision_recall", "copies", "intra_cluster", "inception_score",
    "class_accuracy",
)  # fmt: skip
"""Measured where nobody says what: those of them that fit the images and the extractor."""


def extractor(name: str, source: GAN | None = None, cache: bool = False) -> Features:
    """Prepare an extractor.

    Args:
        name: a plug-in's name, or ``name:file`` for one that is read from a file.
        source: the GAN whose critic may serve.
        cache: whether costly features are kept on disk.

    Raises:
        ConfigError: if there is no such extractor.
    """
    kind, _, file = name.partition(":")
    plugin = discover.plugin("extractors", kind)
    made: Features = plugin.make(pathlib.Path(file) if file else None, source)
    if cache and plugin.costly:
        return dataclasses.replace(made, cache=_cache.folder() / "features")
    return made


def compare(
    fake: Tensor, real: Tensor, training: Tensor | None, features: Features, metrics: Sequence[str] = (), seed: int = 0,
    *, fake_labels: Tensor | None = None, real_labels: Tensor | None = None,
) -> list[Score]:  # fmt: skip
    """Measure generated images against real ones.

    Args:
        fake: generated images, (N, C, H, W) in [-1, 1].
        real: unseen real images, same shape but for N.
        training: images that training saw, or None.
        features: the extractor.
        metrics: names; if empty, all usual ones that apply.
        seed: for whatever metrics draw.
        fake_labels: classes that the generated images should show, (N,), for class accuracy.
        real_labels: classes of the real images.

    Raises:
        ConfigError: if a metric was named and lacks what it needs.
        DataError: if shapes differ or there are too few images.
    """
    shapes = {tuple(t.shape[1:]) for t in (fake, real, training) if t is not None}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes cannot be compared: {sorted(shapes)}")
    labels = (fake_labels, real_labels, None)
    sets = [None if t is None else _samples(t, features, y) for t, y in zip((fake, real, training), labels, strict=True)]
    if sets[0] is None or sets[1] is None:
        raise DataError("nothing to compare")
    comparison = Comparison(sets[0], sets[1], sets[2], features.name, features.sha256, seed)
    names = metrics or [name for name in DEFAULT_METRICS if not lacking(name, comparison)]
    for name in names:
        if missing := lacking(name, comparison):
            raise ConfigError(f"the metric {name} needs {missing}")
    scores = [score for name in names for score in discover.plugin("metrics", name).compute(comparison)]
    bad = [s.name for s in scores if not torch.isfinite(torch.tensor(s.value))]
    if bad:
        raise DataError(f"{', '.join(bad)} came out as no finite number; are the images all alike?")
    return scores


def _samples(images: Tensor, features: Features, labels: Tensor | None) -> Samples:
    found, probabilities = features.with_probabilities(images)
    return Samples(images, found, probabilities, labels)


def lacking(name: str, comparison: Comparison) -> str | None:
    """What a metric needs and a comparison does not have, with the way to it."""
    metric = discover.plugin("metrics", name)
    if metric.needs_training and comparison.training is None:
        return "the images that training saw (--training)"
    if metric.needs_probabilities and comparison.fake.probabilities is None:
        return f"a classifier, and {comparison.extractor} is none (--extractor classifier:FILE)"
    if metric.needs_labels and comparison.fake.labels is None:
        return "labels of the generated images: a conditional source, or one folder for each class"
    return None


class HeldOut:
    """Watches a run: measures its generator and says which step to keep.

    Each step's generator is compared with all target images, held-out ones included, by the unbiased kernel discrepancy at the
    same latents every time; measures on a few held-out images alone were often off by half and more.  Where there are several
    extractors, their kernels are averaged: a critic that takes every digit for much the same, or a random network that does not
    know faces, then cannot decide alone.  With 25 images the least
    value is partly chance, so the latest step that is not worse than the best by more than two standard errors (of the
    difference, paired over target images) is kept.
    """

    def __init__(
        self, train: Images, held: Images, extractors: Sequence[Features], seed: int, folder: pathlib.Path | None, n: int = 500
    ) -> None:
        """Prepare.

        Args:
            train, held: target images in training, and those kept from it.
            extractors: at least one; variety and Fréchet distance are logged for the first.
            seed: of the samples; the same latents at every step.
            folder: where sample grids go, or None.
            n: samples per measurement.
        """
        self.extractors, self.seed, self.folder, self.n = extractors, seed, folder, n
        images = torch.cat([train.tensor(), held.tensor()])
        self.targets = [extract(images) for extract in extractors]
        self.best: KernelMatch | None = None

    def load(self, state: dict[str, Any]) -> None:
        """Take up where a run stopped."""
        self.best = KernelMatch(*state["best"]) if state.get("best") is not None else None

    def __call__(self, step: int, generator: Generator) -> Observation:
        """Measure."""
        images = GAN(generator).sample(self.n, self.seed)
        fakes = [extract(images) for extract in self.extractors]
        found = mean_match([kernel_match(target, fake) for target, fake in zip(self.targets, fakes, strict=True)])
        target, fake = self.targets[0], fakes[0]
        variety = float(mean_variance(fake) / mean_variance(target).clamp_min(1e-12))
        if self.folder is not None:
            pictures.save_png(self.folder / "samples" / f"step-{step:06d}.png", pictures.grid(images[:16]))
        error = 0.0 if self.best is None else found.error(self.best)
        keep = self.best is None or found.value - self.best.value <= TOLERANCE * error
        if self.best is None or found.value < self.best.value:
            self.best = found
        values = {
            "kmmd_target": found.value, "frechet_target": float(frechet_distance(target, fake)), "variety": variety,
            "extractor": "+".join(extract.name for extract in self.extractors),
        }  # fmt: skip
        return Observation(values, best=keep, state={"best": list(dataclasses.astuple(self.best))})
