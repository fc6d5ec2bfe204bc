"""Numbers for a set of generated images: features are extracted once and handed to every metric."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft import discover, norms, pictures
from regraft.errors import DataError
from regraft.extractors.base import Features
from regraft.gan import GAN, Critic, Generator, evaluating
from regraft.images import Images
from regraft.metrics.base import Comparison, Samples, Score
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import KernelMatch, kernel_match, real_floor
from regraft.metrics.mean_variance import mean_variance
from regraft.observation import Observation

TOLERANCE = 2.0  # standard errors
FLOOR_IMAGES = 400
SCORED = 128  # images that the critic scores at a time
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
    same latents every time; measures on a few held-out images alone were often off by half and more.  With 25 images the least
    value is partly chance, so the latest step that is not worse than the best by more than two standard errors (of the
    difference, paired over target images) is kept.  A run ends early after ``patience`` measurements in a row that were worse
    than that and are not on their way back.
    """

    def __init__(
        self, train: Images, held: Images, features: Features, seed: int, folder: pathlib.Path | None, n: int = 500, *,
        critic: Critic | None = None, patience: int = 0, not_before: int = 0,
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            train, held: target images in training, and those kept from it.
            features: the extractor.
            seed: of the samples; the same latents at every step.
            folder: where sample grids go, or None.
            n: samples per measurement.
            critic: the critic in training, if it scores images: how it scores what it saw and what it did not is logged.
            patience: clearly worse measurements in a row that end the run; 0 for never.
            not_before: steps up to which nothing counts against a run.
        """
        self.critic, self.patience, self.not_before = critic, patience, not_before
        self.worse: list[float] = []
        self.shown = {"train": train.tensor(slice(SCORED)), "held": held.tensor(slice(SCORED))}
        self.features, self.seed, self.folder, self.n = features, seed, folder, n
        self.target = features(torch.cat([train.tensor(), held.tensor()]))
        # Of some hundreds at most: the floor of more images is lower than any run gets.
        self.floor = real_floor(self.target[:FLOOR_IMAGES]) if len(self.target) >= 4 else 0.0
        self.best: KernelMatch | None = None

    def load(self, state: dict[str, Any]) -> None:
        """Take up where a run stopped."""
        self.best = KernelMatch(*state["best"]) if state.get("best") is not None else None
        self.worse = list(state.get("worse", ()))

    def __call__(self, step: int, generator: Generator) -> Observation:
        """Measure."""
        images = GAN(generator).sample(self.n, self.seed)
        fake = self.features(images)
        found = kernel_match(self.target, fake)
        variety = float(mean_variance(fake) / mean_variance(self.target).clamp_min(1e-12))
        if self.folder is not None:
            pictures.save_png(self.folder / "samples" / f"step-{step:06d}.png", pictures.grid(images[:16]))
        error = 0.0 if self.best is None else found.error(self.best)
        keep = self.best is None or found.value - self.best.value <= TOLERANCE * error
        if self.best is None or found.value < self.best.value:
            self.best = found
        values = {
            "kmmd_target": found.value, "kmmd_error": found.error(), "kmmd_floor": self.floor,
            "frechet_target": float(frechet_distance(self.target, fake)), "variety": variety,
            "extractor": self.features.name,
        }  # fmt: skip
        if self.critic is not None:
            shown = self.shown | {"fake": images[:SCORED]}
            values |= {
                f"critic_{name}": float(critic_scores(self.critic, x, self.shown["train"]).mean()) for name, x in shown.items()
            }
        stop = self._judge(step, keep, found.value)
        state = {"best": list(dataclasses.astuple(self.best)), "worse": list(self.worse)}
        return Observation(values, best=keep, stop=stop, state=state)

    def _judge(self, step: int, keep: bool, value: float) -> str | None:
        """Why to stop, or None; counts in ``worse``."""
        if keep or step <= self.not_before:
            self.worse.clear()
            return None
        self.worse.append(value)
        recent = self.worse[-self.patience :]
        if not self.patience or len(recent) < self.patience or value < sum(recent) / len(recent):
            return None
        return f"the last {len(self.worse)} measurements were clearly worse than the best, and not on their way back"


@torch.no_grad()
def critic_scores(critic: Critic, images: Tensor, reference: Tensor, batch: int = 256) -> Tensor:
    """What a critic says of images, (N,), without class terms.

    A critic that normalises by its batch is shown a few images at a time among many training images, so that every set is
    judged under the same statistics, near those of training.

    Args:
        critic: in any mode, which stays.
        images: (N, C, H, W) in [-1, 1].
        reference: training images, (M, C, H, W).
        batch: images at a time.
    """
    device = next(critic.parameters()).device
    with_batch = [norm for norm in norms.batch_norms(critic) if norm.training and critic.training]
    among = reference[:64].to(device) if with_batch or critic.batch_dependent else reference[:0].to(device)
    size = max(1, len(among) // 8) if len(among) else batch
    found = []
    with evaluating(critic):
        for norm in with_batch:
            norm.training = True
        for part in torch.split(images, size):
            found.append(critic(torch.cat([part.to(device), among]))[: len(part)].float().cpu())
    return torch.cat(found)
