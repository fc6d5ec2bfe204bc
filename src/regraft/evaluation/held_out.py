"""Watches a run: measures its generator on held-out images and says which step to keep."""

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

TOLERANCE = 2.0  # standard errors


FLOOR_IMAGES = 400


SCORED = 128  # samples that the critic scores, and that are looked for among training images


ENOUGH = 50  # held-out images that are compared with alone


RISE = 1.03  # of the samples' variety from one measurement to the next; less is noise


MEMORISED = 2 / 3  # of the way from seen to generated images: how far unseen ones have fallen, for the critic


class HeldOut:
    """Watches a run: measures its generator and says which step to keep.

    Each step's generator is compared with held-out images by the unbiased kernel discrepancy, at the same latents every time.
    Measures on a few held-out images alone were often off by half and more: with fewer than 50 of them, training images are
    compared with as well.  A generator that hands training images back would win then, and so would one whose critic has
    memorised them: neither is kept, unless nothing else was ever seen.  Without augmentation a critic has memorised them when
    its scores of unseen images have fallen all the way from those of seen images to those of generated ones, or two thirds of
    it while the samples' variety no longer rises; with augmentation the gap says less.  Where there are several
    extractors, their kernels are averaged: a critic that takes every digit for much the same, or a random network that does not
    know faces, then cannot decide alone.  With 25 images the least
    value is partly chance, so the latest step that is not worse than the best by more than two standard errors (of the
    difference, paired over target images) is kept.  A run ends early after ``patience`` measurements in a row that were worse
    than that and are not on their way back.
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
        """Prepare.

        Args:
            train, held: target images in training, and those kept from it.
            extractors: at least one; variety and Fréchet distance are logged for the first.
            seed: of the samples; the same latents at every step.
            folder: where sample grids go, or None.
            n: samples per measurement.
            critic: the critic in training, if it scores images: how it scores what it saw and what it did not is logged.
            patience: clearly worse measurements in a row that end the run; 0 for never.
            not_before: steps up to which nothing counts against a run.
            augmented: whether the critic is shown augmented images.
        """
        self.critic, self.patience, self.not_before, self.augmented = critic, patience, not_before, augmented
        self.worse: list[float] = []
        self.gaps: list[float] = []
        self.variety = 0.0
        both = {"train": train, "held": held}
        self.shown = {name: some.select(subset(some.n, SCORED, seed)).tensor() for name, some in both.items()}
        self.extractors, self.seed, self.folder, self.n = extractors, seed, folder, n
        seen, unseen = train.tensor(), held.tensor()
        images = unseen if len(unseen) >= ENOUGH else torch.cat([seen, unseen])
        self.targets = [extract(images) for extract in extractors]
        self.copies = NeighbourScale(seen, unseen) if len(seen) >= 3 else None
        # Of some hundreds at most: the floor of more images is lower than any run gets.
        few = subset(len(images), FLOOR_IMAGES, seed)
        floors = [real_floor(target[few]) for target in self.targets if len(target) >= 4]
        self.floor = sum(floors) / len(floors) if floors else 0.0
        self.best: KernelMatch | None = None

    def load(self, state: dict[str, Any]) -> None:
        """Take up where a run stopped."""
        self.best = KernelMatch(*state["best"]) if state.get("best") is not None else None
        self.worse = list(state.get("worse", ()))
        self.gaps, self.variety = list(state.get("gaps", ())), float(state.get("variety", 0.0))

    def __call__(self, step: int, generator: Generator) -> Observation:
        """Measure."""
        images = GAN(generator).sample(self.n, self.seed)
        fakes = [extract(images) for extract in self.extractors]
        found = mean_match([kernel_match(target, fake) for target, fake in zip(self.targets, fakes, strict=True)])
        target, fake = self.targets[0], fakes[0]
        variety = float(mean_variance(fake) / mean_variance(target).clamp_min(1e-12))
        if self.folder is not None:
            pictures.save_png(RunFolder(self.folder).step_samples(step), pictures.grid(images[:16]))
        error = 0.0 if self.best is None else found.error(self.best)
        keep = self.best is None or found.value - self.best.value <= TOLERANCE * error
        copied = self.copies.share_on_training_images(images[:SCORED]) if self.copies is not None else 0.0
        shown = None if self.critic is None else self._scored(self.critic, images[:SCORED])
        hopeless = self._memorised(shown, variety) or (self.copies is not None and self.copies.is_alarming(copied))
        if hopeless:
            keep = self.best is None
        elif self.best is None or found.value < self.best.value:
            self.best = found
        few = min(len(target), len(fake))
        values = {
            "kmmd_target": found.value,
            "kmmd_error": found.error(),
            "kmmd_floor": self.floor,
            "frechet_target": float(frechet_distance(target, fake)),
            "variety": variety,
            "recall": float(precision_recall(target[:few], fake[:few])[1]),
            "copies": copied,
            "extractor": "+".join(extract.name for extract in self.extractors),
        }
        values |= {f"critic_{name}": score for name, score in (shown or {}).items()}
        stop = self._reason_to_stop(step, keep, found.value, hopeless)
        best = None if self.best is None else list(dataclasses.astuple(self.best))
        state = {"best": best, "worse": list(self.worse), "gaps": list(self.gaps), "variety": self.variety}
        return Observation(values, best=keep, stop=stop, state=state)

    def _scored(self, critic: Critic, fake: Tensor) -> dict[str, float]:
        """Mean scores of seen, unseen and generated images."""
        shown = self.shown | {"fake": fake}
        return {name: float(critic_scores(critic, x, self.shown["train"]).mean()) for name, x in shown.items()}

    def _memorised(self, scores: dict[str, float] | None, variety: float) -> bool:
        """Whether the critic has memorised what it is shown, by the mean of two measurements."""
        rises, self.variety = variety > RISE * self.variety, variety
        found = None if scores is None or self.augmented else critic_gap(**scores)
        if found is None:
            return False
        self.gaps = [*self.gaps[-1:], found]
        gap = sum(self.gaps) / len(self.gaps)
        return gap > 1 or (gap > MEMORISED and not rises)

    def _reason_to_stop(self, step: int, keep: bool, value: float, hopeless: bool = False) -> str | None:
        """Why to stop, or None; counts in ``worse``."""
        if keep or step <= self.not_before:
            self.worse.clear()
            return None
        self.worse.append(value)
        recent = self.worse[-self.patience :]
        if not self.patience or len(recent) < self.patience or (not hopeless and value < sum(recent) / len(recent)):
            return None
        if hopeless:
            return f"the last {len(self.worse)} measurements were no better, and training images are being memorised"
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
    device = device_of(critic)
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
