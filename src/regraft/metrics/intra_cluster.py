"""Few-shot diversity: how far apart generated images are that resemble the same training image.

Each generated image is assigned to its nearest training image; the mean distance between the images of one training image,
averaged over training images with at least two, is 0 for a generator that replays its training images however many there are.
Published values are under LPIPS; here the distance is Euclidean in feature space.

Source: Ojha et al. 2021, "Few-shot image generation via cross-domain correspondence", section 4.1.
"""

import torch
from torch import Tensor

from regraft.metrics._distances import squared_distances
from regraft.metrics._intervals import around, jackknife
from regraft.metrics.base import Comparison, Metric, Score, at_least

PAIRS = 0.7
"""A pair without one image is no cluster any more.  Counted whole that makes the variance too large, not counted at all too
small (benchmarks/quality/intervals.py)."""


class IntraCluster(Metric):
    """Mean distance within clusters around training images."""

    summary = "few-shot diversity: mean distance between samples that resemble the same training image"
    needs_training = True

    def measure(self, comparison: Comparison) -> list[Score]:
        """The distance, with the one that unseen real images have."""
        training = comparison.training
        if training is None:
            return []
        at_least(2, comparison.fake, "generated", "intra_cluster")
        at_least(1, training, "training", "intra_cluster")
        value, left_out, used = intra_cluster(comparison.fake.features, training.features)
        known = used > 0 and bool(torch.isfinite(left_out).all())
        interval = around(value, jackknife(left_out), comparison.fake.n, low=0.0) if known else None
        reference = intra_cluster(comparison.real.features, training.features)[0]
        return [
            comparison.score(
                f"intra_cluster[{comparison.extractor}]",
                value,
                "higher",
                interval=interval,
                real_value=reference,
                clusters=training.n,
                clusters_used=used,
                distance="Euclidean",
            )
        ]


def intra_cluster(fake: Tensor, training: Tensor) -> tuple[float, Tensor, int]:
    """The distance, the same without each image in turn, and how many clusters have two images.

    Args:
        fake: features, (N, D).
        training: features, (M, D).

    Returns:
        0 where no cluster has two images; (N,), float64; a count.
    """
    fake, training = fake.double(), training.double()
    nearest = squared_distances(fake, training).argmin(1)
    means, shifts, gone = [], *(torch.zeros(len(fake), dtype=torch.float64) for _ in range(2))
    for cluster in sorted(set(nearest.tolist())):
        members = (nearest == cluster).nonzero()[:, 0]
        n = len(members)
        if n < 2:
            continue
        own = fake[members] - fake[members].mean(0)
        rows = squared_distances(own, own).sqrt().sum(1)
        mean = rows.sum() / (n * (n - 1))
        means.append(mean)
        if n > 2:
            shifts[members] = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2)) - mean
        else:
            gone[members] = PAIRS
            shifts[members] = -PAIRS * mean
    used = len(means)
    if not used:
        return 0.0, torch.zeros(len(fake), dtype=torch.float64), 0
    total = torch.stack(means).sum()
    left_out = (total + shifts) / (used - gone).clamp_min(1)
    return float(total / used), left_out, used


PLUGIN = IntraCluster()
