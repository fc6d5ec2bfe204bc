"""Measure a run's generator on held-out images, decide which step to keep, and when to stop."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core import norms
from regraft.core.device import device_of
from regraft.core.gan import GAN
from regraft.core.networks import Critic, Generator, evaluating
from regraft.core.randomness import subset
from regraft.data import pictures
from regraft.data.images import Images
from regraft.evaluation.copying import NeighbourScale, critic_gap
from regraft.extractors.base import Features
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import KernelMatch, kernel_match, mean_match, real_floor
from regraft.metrics.mean_variance import mean_variance
from regraft.metrics.precision_recall import precision_recall
from regraft.runs.folder import RunFolder
from regraft.training.observation import Observation
from regraft.training.updates import class_shares

TOLERANCE = 2.0
"""Standard errors by which a step that is kept may be worse than the best one."""
MAX_FLOOR_IMAGES = 400
"""Images that the floor is measured on; that of more images is lower than any run gets."""
MAX_SCORED = 128
"""Images of each set that the critic scores, and samples that are compared with training images."""
ENOUGH_HELD_OUT = 50
"""Held-out images from which on generators are compared with these alone."""
VARIETY_RISE = 1.03
"""Least ratio of the samples' variety to that of the last measurement that counts as a rise; less is noise."""
MEMORISED_GAP = 2 / 3
"""Critic's gap (:func:`critic_gap`) beyond which it has memorised the training images if variety no longer rises."""


class HeldOut:
    """Measures a run's generator on held-out images, decides which step to keep, and when to stop.

    The generator of each step is compared with held-out images by the unbiased kernel discrepancy, always at the same latents.
    With fewer than 50 held-out images it is compared with training images as well, because measures on a few held-out images
    alone were often off by half and more.  The kernels of several extractors are averaged, so that a critic to which all digits
    look alike, or a random network that does not know faces, cannot decide alone.

    A generator that hands training images back would be the nearest, and so would one whose critic has memorised them.  Neither
    is kept, unless no other was measured before.  A critic without augmentation has memorised them if its scores of held-out
    images have fallen all the way from those of training images to those of generated ones, or two thirds of the way while the
    samples' variety no longer rises.  With augmentation this gap says less and does not count.

    With 25 images the least value is partly chance.  So the latest step is kept that is not worse than the best by more than
    two standard errors (of the difference, paired over target images).  A run ends early after ``patience`` measurements in a
    row that were worse than that and are not on their way back.
    """

    def __init__(
        self,
        train: Images,
        held: Images,
        extractors: Sequence[Features],
        seed: int,
        folder: pathlib.Path | None,
        n: int = 500,
        *,
        critic: Critic | None = None,
        patience: int = 0,
        not_before: int = 0,
        augmented: bool = True,
    ) -> None:
        """Extract the features of the target images and measure the floor.

        Args:
            train, held: target images to train on, and held-out ones.
            extractors: at least one; variety and Fréchet distance are logged for the first.
            seed: seed of the samples' latents, which are the same at every step.
            folder: run folder for sample grids, or None.
            n: samples per measurement.
            critic: the critic in training if it scores images; its scores of all three sets are logged.
            patience: clearly worse measurements in a row that end the run; 0 for never.
            not_before: step up to which no measurement counts against a run.
            augmented: whether the critic is shown augmented images.
        """
        self.critic, self.patience, self.not_before, self.augmented = critic, patience, not_before, augmented
        self.worse: list[float] = []
        self.gaps: list[float] = []
        self.variety = 0.0
        self.train = train
        sets = {"train": train, "held": held}
        self.scored = {name: images.select(subset(images.n, MAX_SCORED, seed)).tensor() for name, images in sets.items()}
        self.extractors, self.seed, self.folder, self.n = extractors, seed, folder, n
        training, unseen = train.tensor(), held.tensor()
        real = unseen if len(unseen) >= ENOUGH_HELD_OUT else torch.cat([training, unseen])
        self.targets = [extract(real) for extract in extractors]
        self.scale = NeighbourScale(training, unseen) if len(training) >= 3 else None
        some = subset(len(real), MAX_FLOOR_IMAGES, seed)
        floors = [real_floor(target[some]) for target in self.targets if len(target) >= 4]
        self.floor = sum(floors) / len(floors) if floors else 0.0
        self.best: KernelMatch | None = None

    def load(self, state: dict[str, Any]) -> None:
        """Restore the state of the last observation before a stop."""
        self.best = KernelMatch(*state["best"]) if state.get("best") is not None else None
        self.worse = list(state.get("worse", ()))
        self.gaps, self.variety = list(state.get("gaps", ())), float(state.get("variety", 0.0))

    def __call__(self, step: int, generator: Generator) -> Observation:
        """Measure the generator of a step."""
        images = GAN(generator, class_shares=class_shares(self.train, generator)).sample(self.n, self.seed)
        fakes = [extract(images) for extract in self.extractors]
        match = mean_match([kernel_match(target, fake) for target, fake in zip(self.targets, fakes, strict=True)])
        target, fake = self.targets[0], fakes[0]
        variety = float(mean_variance(fake) / mean_variance(target).clamp_min(1e-12))
        if self.folder is not None:
            pictures.save_png(RunFolder(self.folder).step_samples(step), pictures.grid(images[:16]))
        error = 0.0 if self.best is None else match.error(self.best)
        keep = self.best is None or match.value - self.best.value <= TOLERANCE * error
        copies = self.scale.share_on_training_images(images[:MAX_SCORED]) if self.scale is not None else 0.0
        scores = None if self.critic is None else self._mean_scores(self.critic, images[:MAX_SCORED])
        copying = self.scale is not None and self.scale.is_alarming(copies)
        replays = self._memorised(scores, variety) or copying
        if replays:
            keep = self.best is None
        elif self.best is None or match.value < self.best.value:
            self.best = match
        n = min(len(target), len(fake))
        values = {
            "kmmd_target": match.value,
            "kmmd_error": match.error(),
            "kmmd_floor": self.floor,
            "frechet_target": float(frechet_distance(target, fake)),
            "variety": variety,
            "recall": float(precision_recall(target[:n], fake[:n])[1]),
            "copies": copies,
            "extractor": "+".join(extract.name for extract in self.extractors),
        }
        values |= {f"critic_{name}": score for name, score in (scores or {}).items()}
        stop = self._reason_to_stop(step, keep, match.value, replays)
        best = None if self.best is None else list(dataclasses.astuple(self.best))
        state = {"best": best, "worse": list(self.worse), "gaps": list(self.gaps), "variety": self.variety}
        return Observation(values, best=keep, stop=stop, state=state)

    def _mean_scores(self, critic: Critic, fake: Tensor) -> dict[str, float]:
        """Return the critic's mean scores of training, held-out and generated images."""
        sets = self.scored | {"fake": fake}
        return {name: float(critic_scores(critic, images, self.scored["train"]).mean()) for name, images in sets.items()}

    def _memorised(self, scores: dict[str, float] | None, variety: float) -> bool:
        """Return whether the critic has memorised the training images, by its mean gap at this and the last measurement."""
        rises, self.variety = variety > VARIETY_RISE * self.variety, variety
        gap = None if scores is None or self.augmented else critic_gap(**scores)
        if gap is None:
            return False
        self.gaps = [*self.gaps[-1:], gap]
        mean_gap = sum(self.gaps) / len(self.gaps)
        return mean_gap > 1 or (mean_gap > MEMORISED_GAP and not rises)

    def _reason_to_stop(self, step: int, keep: bool, value: float, replays: bool = False) -> str | None:
        """Count worse measurements in a row, and return why to stop, or None.

        Args:
            step: the step that was measured.
            keep: whether its generator is kept.
            value: its discrepancy.
            replays: whether it hands training images back, or its critic has memorised them.
        """
        if keep or step <= self.not_before:
            self.worse.clear()
            return None
        self.worse.append(value)
        recent = self.worse[-self.patience :]
        if not self.patience or len(recent) < self.patience or (not replays and value < sum(recent) / len(recent)):
            return None
        if replays:
            return f"the last {len(self.worse)} measurements were no better, and training images are being memorised"
        return f"the last {len(self.worse)} measurements were clearly worse than the best, and not on their way back"


@torch.no_grad()
def critic_scores(critic: Critic, images: Tensor, reference: Tensor, batch: int = 256) -> Tensor:
    """Score images with a critic, without class terms.

    A critic that normalises by its batch is shown a few images at a time among many training images, so that every set is
    scored under the same statistics, which are near those of training.

    Args:
        critic: in any mode, which is restored.
        images: (N, C, H, W) in [-1, 1].
        reference: training images, (M, C, H, W).
        batch: images at a time.

    Returns:
        Scores, (N,), on the CPU.
    """
    device = device_of(critic)
    batch_norms = [norm for norm in norms.batch_norms(critic) if norm.training and critic.training]
    fillers = reference[:64].to(device) if batch_norms or critic.batch_dependent else reference[:0].to(device)
    size = max(1, len(fillers) // 8) if len(fillers) else batch
    scores = []
    with evaluating(critic):
        for norm in batch_norms:
            norm.training = True
        for part in torch.split(images, size):
            scores.append(critic(torch.cat([part.to(device), fillers]))[: len(part)].float().cpu())
    return torch.cat(scores)
