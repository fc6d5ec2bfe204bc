"""Kernel maximum mean discrepancy with a Gaussian kernel, at equal numbers of real and generated images.

The name and the formula are those of Xu et al. 2018, "An empirical study on evaluation metrics of generative adversarial
networks": k(a, b) = exp(-|a - b|^2 / (2 sigma^2 s)) with sigma = 1 and s the mean squared distance within the real set, zeros
of the diagonal included; KMMD is the root of the biased estimate.  The floor of that estimate depends on the number of images,
so it is always computed at the same number on both sides and given with that number.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.metrics._distances import squared_distances
from regraft.metrics._intervals import around
from regraft.metrics._kernels import Discrepancy, discrepancy, gaussian, is_large
from regraft.metrics.base import Comparison, Metric, Score, at_least, equal_subsets

BANDWIDTH_RULE = "sigma^2 = mean squared distance within the real set, diagonal included"


class KMMD(Metric):
    """Kernel maximum mean discrepancy."""

    summary = "kernel maximum mean discrepancy of features, biased (as published) and unbiased"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Both estimates on equal subsets."""
        at_least(2, comparison.fake, "generated", "kmmd")
        at_least(2, comparison.real, "real", "kmmd")
        real, fake, n = equal_subsets(comparison)
        found = _sums(real, fake)
        variance = found.variance()
        details: dict[str, Any] = {"n_real": n, "n_fake": n, "bandwidth": BANDWIDTH_RULE}
        name = f"[{comparison.extractor}]"
        ends = around(max(found.biased(), 0.0), variance, n, low=0.0)
        return [
            comparison.score(
                f"kmmd{name}",
                max(found.biased(), 0.0) ** 0.5,
                "lower",
                interval=ends and (ends[0] ** 0.5, ends[1] ** 0.5),
                estimator="biased, square root",
                **details,
            ),
            comparison.score(
                f"kmmd_unbiased{name}",
                found.unbiased(),
                "lower",
                interval=around(found.unbiased(), variance, n),
                estimator="unbiased, squared",
                **details,
            ),
        ]


def kmmd(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Root of the biased and the unbiased squared discrepancy.

    Args:
        real: features, (N, D); set the bandwidth.
        fake: features, (M, D).

    Returns:
        Two scalars, float64; the second may be negative.
    """
    found = _sums(real, fake)
    biased, unbiased = torch.tensor([max(found.biased(), 0.0) ** 0.5, found.unbiased()], dtype=torch.float64)
    return biased, unbiased


@dataclasses.dataclass(frozen=True)
class KernelMatch:
    """The unbiased squared discrepancy of one set of generated images, with what comparing it with another needs.

    Attributes:
        value: the discrepancy.
        likeness: mean kernel value of each real image with the generated ones, (N,), float64.
    """

    value: float
    likeness: Tensor

    def error(self, other: "KernelMatch | None" = None) -> float:
        """Standard error over the real images: of the value, or of its difference from another's, paired."""
        likeness = self.likeness if other is None else self.likeness - other.likeness
        return float(2 * likeness.std() / len(self.likeness) ** 0.5)


def mean_match(matches: Sequence[KernelMatch]) -> KernelMatch:
    """Discrepancies of the same images in several features as one: that of the mean of their kernels."""
    return KernelMatch(sum(m.value for m in matches) / len(matches), torch.stack([m.likeness for m in matches]).mean(0))


def kernel_match(real: Tensor, fake: Tensor) -> KernelMatch:
    """The unbiased estimate of :func:`kmmd`, kept for comparison; arguments as there."""
    found = _sums(real, fake)
    return KernelMatch(found.unbiased(), found.across.rows / len(fake))


def real_floor(real: Tensor, seed: int = 0, splits: int = 200) -> float:
    """What two halves of the real images measure against each other, unbiased: its 95th percentile over random halves.

    A discrepancy below it is no more than chance tells two sets of so many images apart.
    """
    real = real.double()
    apart = squared_distances(real, real)
    kernel, n = torch.exp(apart / (-2 * apart.mean().clamp_min(1e-300))), len(real) // 2
    rng = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(splits):
        order = torch.randperm(len(real), generator=rng)
        a, b = order[:n], order[n : 2 * n]
        within = _off_diagonal_mean(kernel[a][:, a]) + _off_diagonal_mean(kernel[b][:, b])
        found.append(within - 2 * kernel[a][:, b].mean())
    return float(torch.stack(found).quantile(0.95))


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def _sums(real: Tensor, fake: Tensor) -> Discrepancy:
    if real.dtype != torch.float32 or not is_large(real, fake):
        real, fake = real.double(), fake.double()
    centre = real.mean(0, dtype=torch.float64).to(real.dtype)
    real, fake = real - centre, fake - centre
    # The mean squared distance within a set is twice its mean squared distance to its mean.
    bandwidth = 2 * float(real.square().sum(1).double().sum()) / len(real)
    return discrepancy(real, fake, gaussian(bandwidth or 1.0), lambda rows: rows.new_ones(len(rows)))


PLUGIN = KMMD()
