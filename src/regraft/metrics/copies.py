"""Copy rate: the share of generated images that lie nearer to a training image than unseen real images do.

The threshold is the 1st percentile of the distances from unseen real images to their nearest training image, so that a
perfect generator scores about 1 %.  Unseen images that are training images, pixel for pixel, are left out of it: with them the
threshold would be zero, and nothing a copy.  In pixels the distance is the least over mirroring and shifts of up to two pixels.

Replaying training images beats most generators under every distance between distributions when images are few; a result above
the copy bound does not count.
"""

import hashlib
import itertools
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.metrics._distances import squared_distances
from regraft.metrics._intervals import half_variance, share
from regraft.metrics.base import Comparison, Metric, Score, at_least

SHIFT = 2
PERCENTILE = 0.01
BOUND = 0.05
ALL_SEEN = "every real image is one that training saw; name images that it did not see"
HALVES = 200


class Copies(Metric):
    """Share of near-copies of training images."""

    summary = "share of samples that copy a training image, in features and in pixels"
    needs_training = True
    has_floor = False  # it is the percentile, by construction

    def unfit(self, comparison: Comparison) -> str | None:
        """See :meth:`Metric.unfit`: nothing is known of unseen images where there are none."""
        training = comparison.training
        if training is None or not seen(comparison.real.images, training.images).all():
            return None
        return ALL_SEEN

    def measure(self, comparison: Comparison) -> list[Score]:
        """Two shares."""
        training = comparison.training
        if training is None:
            return []
        at_least(1, training, "training", "copies")
        at_least(1, comparison.real, "unseen", "copies")
        new = ~seen(comparison.real.images, training.images)
        if not new.any():
            raise DataError(f"copies: {ALL_SEEN}")
        few = int(new.sum()) < 100
        details: dict[str, Any] = {
            "n_training": training.n,
            "percentile": PERCENTILE,
            "floor": PERCENTILE,
            "threshold_uncertain": few,
            "unseen_that_were_seen": int((~new).sum()),
        }
        fake, real = (
            squared_distances(s.features.double(), training.features.double()).min(1).values.sqrt()
            for s in (comparison.fake, comparison.real)
        )
        real = real[new]
        rate, threshold = copy_rate(fake, real)
        interval = _interval(fake, real, rate, comparison.seed)
        name = f"copies[{comparison.extractor}]"
        scores = [comparison.score(name, rate, "lower", interval=interval, threshold=threshold, **details)]
        fake = nearest_in_pixels(comparison.fake.images, training.images)[0]
        real = nearest_in_pixels(comparison.real.images[new], training.images)[0]
        rate, threshold = copy_rate(fake, real)
        details["invariance"] = f"mirroring, shifts of {SHIFT} pixels"
        interval = _interval(fake, real, rate, comparison.seed)
        return [
            *scores,
            comparison.score("copies[pixels]", rate, "lower", pixels=True, interval=interval, threshold=threshold, **details),
        ]


def seen(images: Tensor, training: Tensor) -> Tensor:
    """Which of some images (N, C, H, W) are training images (M, C, H, W), value for value, (N,)."""
    here, there = ([hashlib.sha256(row.numpy()).digest() for row in x.cpu().contiguous()] for x in (images, training))
    known = set(there)
    return torch.tensor([digest in known for digest in here], dtype=torch.bool)


def copy_rate(fake: Tensor, unseen: Tensor) -> tuple[float, float]:
    """Share of ``fake`` distances below the 1st percentile of ``unseen`` distances, and that threshold."""
    threshold = float(torch.quantile(unseen.double(), PERCENTILE))
    return float((fake < threshold).double().mean()), threshold


def too_many(score: Score | dict[str, Any]) -> bool:
    """Whether a copy rate is surely so high that a generator's other numbers do not count: 5 % above a perfect generator's.

    Below a hundred unseen images the threshold is the nearest of them, and a perfect generator is expected at 1 / (n + 1);
    below twenty nothing is sure.
    """
    said = score if isinstance(score, dict) else score.to_dict()
    least = said["interval"][0] if said.get("interval") else said["value"]
    return bool(said["n_real"] >= 20 and least > max(PERCENTILE, 1 / (said["n_real"] + 1)) + BOUND)


def _interval(fake: Tensor, unseen: Tensor, rate: float, seed: int) -> tuple[float, float]:
    """Of the rate: generated images and the threshold's unseen images both vary."""
    rng = torch.Generator().manual_seed(seed)

    def again(i: Tensor, j: Tensor) -> Tensor:
        return torch.tensor(copy_rate(fake[i], unseen[j])[0])

    small = min(len(fake), len(unseen)) < 4
    variance = 0.0 if small else float(half_variance(again, (len(fake), len(unseen)), HALVES, rng))
    return share(rate, variance, len(fake))


def nearest_in_pixels(images: Tensor, training: Tensor, block: int = 256) -> tuple[Tensor, Tensor]:
    """Distance of each image to its nearest training image over mirroring and small shifts, and which one it is.

    Only the part that overlaps at every shift is compared, so that no invented border counts.

    Args:
        images: (N, C, H, W).
        training: (M, C, H, W).
        block: images at a time.

    Returns:
        Root mean squared difference, (N,), and index of the training image, (N,).
    """
    height, width = images.shape[2:]
    m = SHIFT if min(height, width) > 4 * SHIFT else 0

    def view(stack: Tensor, change: tuple[bool, int, int]) -> Tensor:
        mirrored, dy, dx = change
        stack = stack.flip(3) if mirrored else stack
        return stack[:, :, dy : dy + height - 2 * m, dx : dx + width - 2 * m].flatten(1)

    inner = images[:, :, m : height - m, m : width - m].flatten(1).float()
    changes = list(itertools.product((False, True), range(2 * m + 1), range(2 * m + 1)))
    best = torch.full((len(images),), float("inf"))
    which, how = torch.zeros(len(images), dtype=torch.long), torch.zeros(len(images), dtype=torch.long)
    for number, change in enumerate(changes):
        variant = view(training, change).float()
        for start in range(0, len(images), block):
            rows = slice(start, start + block)
            distance, index = squared_distances(inner[rows], variant).min(1)
            nearer = distance < best[rows]
            best[rows] = torch.where(nearer, distance, best[rows])
            which[rows] = torch.where(nearer, index, which[rows])
            how[rows] = torch.where(nearer, number, how[rows])
    # Found in single precision; the distance itself is taken anew, as products of large numbers lose small differences.
    found = torch.zeros(len(images), dtype=torch.float64)
    for number, change in enumerate(changes):
        chosen = (how == number).nonzero()[:, 0]
        if len(chosen):
            other = view(training[which[chosen]], change).double()
            found[chosen] = (inner[chosen].double() - other).square().mean(1)
    return found.sqrt(), which


PLUGIN = Copies()
