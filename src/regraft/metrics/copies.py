"""Copy rate: the share of generated images that lie nearer to a training image than unseen real images do.

The threshold is the 1st percentile of the distances from unseen real images to their nearest training image, so that a perfect
generator scores about 1 %.  In pixels the distance is the least over mirroring and shifts of up to two pixels.

Replaying training images beats most generators under every distance between distributions when images are few; a result above
the copy bound does not count.
"""

from typing import Any

import torch
from torch import Tensor

from regraft.metrics._distances import squared_distances
from regraft.metrics.base import Comparison, Metric, Score, at_least

SHIFT = 2
PERCENTILE = 0.01


class Copies(Metric):
    """Share of near-copies of training images."""

    summary = "share of samples that copy a training image, in features and in pixels"
    needs_training = True

    def compute(self, comparison: Comparison) -> list[Score]:
        """Two shares."""
        training = comparison.training
        if training is None:
            return []
        at_least(1, training, "training", "copies")
        at_least(1, comparison.real, "unseen", "copies")
        few = comparison.real.n < 100
        details: dict[str, Any] = {"n_training": training.n, "percentile": PERCENTILE, "threshold_uncertain": few}
        fake, real = (
            squared_distances(s.features.double(), training.features.double()).min(1).values.sqrt()
            for s in (comparison.fake, comparison.real)
        )
        rate, threshold = copy_rate(fake, real)
        scores = [comparison.score(f"copies[{comparison.extractor}]", rate, "lower", threshold=threshold, **details)]
        fake, real = (nearest_in_pixels(s.images, training.images)[0] for s in (comparison.fake, comparison.real))
        rate, threshold = copy_rate(fake, real)
        details["invariance"] = f"mirroring, shifts of {SHIFT} pixels"
        return [*scores, comparison.score("copies[pixels]", rate, "lower", pixels=True, threshold=threshold, **details)]


def copy_rate(fake: Tensor, unseen: Tensor) -> tuple[float, float]:
    """Share of ``fake`` distances below the 1st percentile of ``unseen`` distances, and that threshold."""
    threshold = float(torch.quantile(unseen.double(), PERCENTILE))
    return float((fake < threshold).double().mean()), threshold


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
    inner = images[:, :, m : height - m, m : width - m].flatten(1).double()
    variants = []
    for mirrored in (training, training.flip(3)):
        for dy in range(2 * m + 1):
            for dx in range(2 * m + 1):
                view = mirrored[:, :, dy : dy + height - 2 * m, dx : dx + width - 2 * m]
                variants.append(view.flatten(1).double())
    best = torch.full((len(images),), float("inf"), dtype=torch.float64)
    which = torch.zeros(len(images), dtype=torch.long)
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        for variant in variants:
            distance, index = squared_distances(inner[rows], variant).min(1)
            nearer = distance < best[rows]
            best[rows] = torch.where(nearer, distance, best[rows])
            which[rows] = torch.where(nearer, index, which[rows])
    return (best / inner.shape[1]).sqrt(), which


PLUGIN = Copies()
