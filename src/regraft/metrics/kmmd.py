"""Kernel maximum mean discrepancy with a Gaussian kernel, at equal numbers of real and generated images.

The name and the formula are those of Xu et al. 2018, "An empirical study on evaluation metrics of generative adversarial
networks": k(a, b) = exp(-|a - b|^2 / (2 sigma^2 s)) with sigma = 1 and s the mean squared distance within the real set, zeros
of the diagonal included; KMMD is the root of the biased estimate.  The floor of that estimate depends on the number of images,
so it is always computed at the same number on both sides and given with that number.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from regraft.metrics._distances import squared_distances
from regraft.metrics.base import Comparison, Metric, Score, at_least, equal_subsets

BANDWIDTH_RULE = "sigma^2 = mean squared distance within the real set, diagonal included"


class KMMD(Metric):
    """Kernel maximum mean discrepancy."""

    summary = "kernel maximum mean discrepancy of features, biased (as published) and unbiased"

    def compute(self, comparison: Comparison) -> list[Score]:
        """Both estimates on equal subsets."""
        at_least(2, comparison.fake, "generated", "kmmd")
        at_least(2, comparison.real, "real", "kmmd")
        real, fake, n = equal_subsets(comparison)
        biased, unbiased = kmmd(real, fake)
        details: dict[str, Any] = {"n_real": n, "n_fake": n, "bandwidth": BANDWIDTH_RULE}
        name = f"[{comparison.extractor}]"
        return [
            comparison.score(f"kmmd{name}", biased, "lower", estimator="biased, square root", **details),
            comparison.score(f"kmmd_unbiased{name}", unbiased, "lower", estimator="unbiased, squared", **details),
        ]


def kmmd(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Root of the biased and the unbiased squared discrepancy.

    Args:
        real: features, (N, D); set the bandwidth.
        fake: features, (M, D).

    Returns:
        Two scalars, float64; the second may be negative.
    """
    real, fake = real.double(), fake.double()
    bandwidth = _bandwidth(real)
    within_real, within_fake, across = (_kernel(a, b, bandwidth) for a, b in ((real, real), (fake, fake), (real, fake)))
    biased = (within_real.mean() + within_fake.mean() - 2 * across.mean()).clamp_min(0).sqrt()
    return biased, _off_diagonal_mean(within_real) + _off_diagonal_mean(within_fake) - 2 * across.mean()


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


def kernel_match(real: Tensor, fake: Tensor) -> KernelMatch:
    """The unbiased estimate of :func:`kmmd`, kept for comparison; arguments as there."""
    real, fake = real.double(), fake.double()
    bandwidth = _bandwidth(real)
    across = _kernel(real, fake, bandwidth)
    value = _off_diagonal_mean(_kernel(real, real, bandwidth)) + _off_diagonal_mean(_kernel(fake, fake, bandwidth))
    return KernelMatch(float(value - 2 * across.mean()), across.mean(1))


def real_floor(real: Tensor, seed: int = 0, splits: int = 200) -> float:
    """What two halves of the real images measure against each other, unbiased: its 95th percentile over random halves.

    A discrepancy below it is no more than chance tells two sets of so many images apart.
    """
    real = real.double()
    kernel, n = _kernel(real, real, _bandwidth(real)), len(real) // 2
    rng = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(splits):
        order = torch.randperm(len(real), generator=rng)
        a, b = order[:n], order[n : 2 * n]
        within = _off_diagonal_mean(kernel[a][:, a]) + _off_diagonal_mean(kernel[b][:, b])
        found.append(within - 2 * kernel[a][:, b].mean())
    return float(torch.stack(found).quantile(0.95))


def _bandwidth(real: Tensor) -> Tensor:
    bandwidth = squared_distances(real, real).mean()
    return torch.ones_like(bandwidth) if bandwidth == 0 else bandwidth


def _kernel(a: Tensor, b: Tensor, bandwidth: Tensor) -> Tensor:
    return torch.exp(squared_distances(a, b) / (-2 * bandwidth))


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


PLUGIN = KMMD()
