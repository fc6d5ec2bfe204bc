"""Precision and recall of distributions, density and coverage, from nearest neighbours in feature space.

A set's neighbourhood is the union of balls around its images, each as wide as the distance to its k-th neighbour of the same
set.  Precision is the share of generated images inside the real neighbourhood, recall the share of real images inside the
generated one; density counts real balls around a generated image (over k), coverage the share of real balls with a generated
image inside.  All depend on the numbers of images: compare them at equal numbers only.

Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric", section 2 (k = 3); Naeem et al. 2020, "Reliable
fidelity and diversity metrics", equations 5 and 7 (k = 5).
"""

import torch
from torch import Tensor

from regraft.data.nearest import squared_distances
from regraft.metrics._intervals import halves_variance, share_interval, student_interval
from regraft.metrics.base import Comparison, Metric, Score, equal_subsets, require_images

NEIGHBOURS = 3
NEIGHBOURS_OF_BALLS = 5
MAX_IMAGES = 10_000
HALVES_WORK = 1e8
MIN_FOR_HALVES = 8
"""Fewest images for a variance from random halves; with fewer, shares have the binomial one and the density no interval."""
CORRECTION = (0.8, 0.8, 1.5, 0.8)
"""Random halves overstate the variance of shares and understate that of the density (benchmarks/quality/intervals.py)."""
NAMES = ("precision", "recall", "density", "coverage")


class PrecisionRecall(Metric):
    """Precision, recall, density and coverage."""

    summary = "precision and recall, density and coverage of features: quality and variety apart"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure all four on equally many images of both sets."""
        require_images(2, comparison.fake, "generated", "precision_recall")
        require_images(2, comparison.real, "real", "precision_recall")
        real, fake, n = equal_subsets(comparison)
        real, fake, n = real[:MAX_IMAGES].double(), fake[:MAX_IMAGES].double(), min(n, MAX_IMAGES)
        distances = (squared_distances(real, real), squared_distances(fake, fake), squared_distances(real, fake))
        values = _from_distances(*distances)
        variances = self._variances(distances, comparison.seed)
        scores = []
        for name, value, variance in zip(NAMES, values.tolist(), variances.tolist(), strict=True):
            k = min(NEIGHBOURS if name in ("precision", "recall") else NEIGHBOURS_OF_BALLS, n - 1)
            if name == "density":
                interval = student_interval(value, variance, n, low=0.0) if n >= MIN_FOR_HALVES else None
            else:
                interval = share_interval(value, variance, n)
            scores.append(
                comparison.score(
                    f"{name}[{comparison.extractor}]", value, "higher", n_real=n, n_fake=n, neighbours=k, interval=interval
                )
            )
        return scores

    @staticmethod
    def _variances(distances: tuple[Tensor, Tensor, Tensor], seed: int) -> Tensor:
        n = len(distances[0])
        if n < MIN_FOR_HALVES:
            return torch.zeros(4, dtype=torch.float64)

        def measure_subset(i: Tensor, j: Tensor) -> Tensor:
            return _from_distances(distances[0][i][:, i], distances[1][j][:, j], distances[2][i][:, j])

        replicates = int(min(40, max(12, HALVES_WORK / n**2)))
        halves = halves_variance(measure_subset, (n, n), replicates, torch.Generator().manual_seed(seed))
        return halves * torch.tensor(CORRECTION, dtype=torch.float64)


def precision_recall(real: Tensor, fake: Tensor) -> Tensor:
    """Return precision, recall, density and coverage.

    Args:
        real: features, (N, D).
        fake: features, (M, D).

    Returns:
        (4,), float64.
    """
    real, fake = real.double(), fake.double()
    return _from_distances(squared_distances(real, real), squared_distances(fake, fake), squared_distances(real, fake))


def _from_distances(within_real: Tensor, within_fake: Tensor, across: Tensor) -> Tensor:
    """Compute the four numbers from squared distances (N, N), (M, M) and (N, M)."""
    k_real, k_fake = min(NEIGHBOURS, len(within_real) - 1), min(NEIGHBOURS, len(within_fake) - 1)
    k_balls = min(NEIGHBOURS_OF_BALLS, len(within_real) - 1)
    nearest = within_real.topk(max(k_real, k_balls) + 1, largest=False).values
    in_real = across <= nearest[:, k_real, None]
    in_fake = across <= within_fake.topk(k_fake + 1, largest=False).values[None, :, k_fake]
    in_balls = across <= nearest[:, k_balls, None]
    shares = [in_real.any(0), in_fake.any(1), in_balls.double().sum(0) / k_balls, in_balls.any(1)]
    return torch.stack([x.double().mean() for x in shares])


PLUGIN = PrecisionRecall()
