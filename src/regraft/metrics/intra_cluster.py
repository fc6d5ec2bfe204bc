"""Few-shot diversity: how far apart those generated images are that resemble the same training image.

Each generated image is assigned to its nearest training image, which makes one cluster for each training image.  The metric is
the mean distance within a cluster, averaged over clusters of at least two images.  It is 0 for a generator that replays its
training images, however many there are.  Published values are under LPIPS; here the distance is Euclidean in feature space.

Source: Ojha et al. 2021, "Few-shot image generation via cross-domain correspondence", section 4.1.
"""

import torch
from torch import Tensor

from regraft.data.nearest import squared_distances
from regraft.metrics._intervals import jackknife_variance, student_interval
from regraft.metrics.base import Comparison, Metric, Score, require_images

PAIRS = 0.7
"""Weight of a cluster of two in the jackknife, as it is no cluster without either image.

Weight 1 makes the variance too large, weight 0 too small (benchmarks/quality/intervals.py).
"""


class IntraCluster(Metric):
    """Mean distance within clusters around training images."""

    summary = "few-shot diversity: mean distance between samples that resemble the same training image"
    needs_training = True

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the distance, and the one of unseen real images."""
        training = comparison.training
        if training is None:
            return []
        require_images(2, comparison.fake, "generated", "intra_cluster")
        require_images(1, training, "training", "intra_cluster")
        value, left_out, used = intra_cluster(comparison.fake.features, training.features)
        measurable = used > 0 and bool(torch.isfinite(left_out).all())
        interval = student_interval(value, jackknife_variance(left_out), comparison.fake.n, low=0.0) if measurable else None
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
    """Return the mean distance within clusters, also without each image in turn.

    Args:
        fake: features, (N, D).
        training: features, (M, D).

    Returns:
        The distance, 0 if no cluster has two images; the distance without each image, (N,), float64; the number of clusters of
        at least two images.
    """
    fake, training = fake.double(), training.double()
    nearest = squared_distances(fake, training).argmin(1)
    means = []
    # By how much leaving an image out changes the sum of the clusters' means, and their number.
    shifts, lost_clusters = (torch.zeros(len(fake), dtype=torch.float64) for _ in range(2))
    for cluster in sorted(set(nearest.tolist())):
        members = (nearest == cluster).nonzero()[:, 0]
        n = len(members)
        if n < 2:
            continue
        centred = fake[members] - fake[members].mean(0)
        rows = squared_distances(centred, centred).sqrt().sum(1)
        mean = rows.sum() / (n * (n - 1))
        means.append(mean)
        if n > 2:
            shifts[members] = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2)) - mean
        else:
            lost_clusters[members] = PAIRS
            shifts[members] = -PAIRS * mean
    used = len(means)
    if not used:
        return 0.0, torch.zeros(len(fake), dtype=torch.float64), 0
    total = torch.stack(means).sum()
    left_out = (total + shifts) / (used - lost_clusters).clamp_min(1)
    return float(total / used), left_out, used


PLUGIN = IntraCluster()
