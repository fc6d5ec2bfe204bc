"""Kernel distance of Bińkowski et al.: the unbiased squared discrepancy under the kernel (a b / D + 1)^3.

It is called KID only under the Inception-2015 extractor.  The value is over all pairs of images; the usual
mean over random subsets has the same expectation and more noise (:func:`subset_distance` computes it).

Source: Bińkowski et al. 2018, "Demystifying MMD GANs", section 4.
"""

import torch
from torch import Tensor

from regraft.metrics._intervals import student_interval
from regraft.metrics._kernels import Discrepancy, discrepancy, polynomial
from regraft.metrics.base import Comparison, Metric, Score, require_images


class KernelDistance(Metric):
    """Kernel distance of features."""

    summary = "kernel distance of features (KID under the inception extractor): unbiased, also with few images"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the unbiased estimate from all images."""
        name = "KID" if comparison.extractor == "inception" else f"kid[{comparison.extractor}]"
        require_images(2, comparison.fake, "generated", name)
        require_images(2, comparison.real, "real", name)
        sums = _sums(comparison.real.features, comparison.fake.features)
        interval = student_interval(sums.unbiased(), sums.variance(), min(sums.sizes))
        return [
            comparison.score(
                name,
                sums.unbiased(),
                "lower",
                interval=interval,
                kernel="(a b / D + 1)^3",
                estimator="unbiased, squared, all pairs",
            )
        ]


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Return the unbiased estimate from features (N, D) and (M, D), which may be negative."""
    return _sums(real, fake).unbiased()


def subset_distance(real: Tensor, fake: Tensor, size: int, subsets: int, rng: torch.Generator) -> tuple[float, float]:
    """Return mean and standard deviation of the estimate over random subsets, as published tables give it.

    Args:
        real: features, (N, D).
        fake: features, (M, D).
        size: images of a subset, at most N and M.
        subsets: number of subsets.
        rng: draws the subsets.
    """
    values = torch.tensor(
        [kernel_distance(*(x[torch.randperm(len(x), generator=rng)[:size]] for x in (real, fake))) for _ in range(subsets)],
        dtype=torch.float64,
    )
    return float(values.mean()), float(values.std(correction=0))


def _sums(real: Tensor, fake: Tensor) -> Discrepancy:
    dim = real.shape[1]
    return discrepancy(real, fake, polynomial(dim), lambda rows: (rows.square().sum(1) / dim + 1) ** 3)


PLUGIN = KernelDistance()
