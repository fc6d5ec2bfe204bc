"""Numbers for a set of generated images: features are extracted once and handed to every metric."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft import discover, pictures
from regraft.errors import DataError
from regraft.extractors.base import Features
from regraft.gan import GAN, Generator
from regraft.images import Images
from regraft.metrics.base import Comparison, Samples, Score
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import KernelMatch, kernel_match, mean_match
from regraft.metrics.mean_variance import mean_variance
from regraft.observation import Observation

TOLERANCE = 2.0  # standard errors
DEFAULT_METRICS = ("frechet", "kmmd", "mean_variance", "copies")


def extractor(name: str, source: GAN | None = None) -> Features:
    """Prepare an extractor.

    Args:
        name: a plug-in's name, or ``name:file`` for one that is read from a file.
        source: the GAN whose critic may serve.

    Raises:
        ConfigError: if there is no such extractor.
    """
    kind, _, file = name.partition(":")
    made: Features = discover.plugin("extractors", kind).make(pathlib.Path(file) if file else None, source)
    return made


def compare(
    fake: Tensor, real: Tensor, training: Tensor | None, features: Features, metrics: Sequence[str] = DEFAULT_METRICS,
    seed: int = 0,
) -> list[Score]:  # fmt: skip
    """Measure generated images against real ones.

    Args:
        fake: generated images, (N, C, H, W) in [-1, 1].
        real: unseen real images, same shape but for N.
        training: images that training saw, or None; metrics that need them are then left out.
        features: the extractor.
        metrics: names.
        seed: for whatever metrics draw.

    Raises:
        DataError: if shapes differ or there are too few images.
    """
    shapes = {tuple(t.shape[1:]) for t in (fake, real, training) if t is not None}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes cannot be compared: {sorted(shapes)}")
    names = [name for name in metrics if training is not None or not discover.plugin("metrics", name).needs_training]
    sets = [None if t is None else Samples(t, features(t)) for t in (fake, real, training)]
    if sets[0] is None or sets[1] is None:
        raise DataError("nothing to compare")
    comparison = Comparison(sets[0], sets[1], sets[2], features.name, features.sha256, seed)
    scores = [score for name in names for score in discover.plugin("metrics", name).compute(comparison)]
    bad = [s.name for s in scores if not torch.isfinite(torch.tensor(s.value))]
    if bad:
        raise DataError(f"{', '.join(bad)} came out as no finite number; are the images all alike?")
    return scores


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
