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

    def error(self, other: "KernelMatch") -> float:
        """Standard error of the difference of two discrepancies from the same real images, paired over these."""
        return float(2 * (self.likeness - other.likeness).std() / len(self.likeness) ** 0.5)


def mean_match(matches: Sequence[KernelMatch]) -> KernelMatch:
    """Discrepancies of the same images in several features as one: that of the mean of their kernels."""
    return KernelMatch(sum(m.value for m in matches) / len(matches), torch.stack([m.likeness for m in matches]).mean(0))


def kernel_match(real: Tensor, fake: Tensor) -> KernelMatch:
    """The unbiased estimate of :func:`kmmd`, kept for comparison; arguments as there."""
    real, fake = real.double(), fake.double()
    bandwidth = _bandwidth(real)
    across = _kernel(real, fake, bandwidth)
    value = _off_diagonal_mean(_kernel(real, real, bandwidth)) + _off_diagonal_mean(_kernel(fake, fake, bandwidth))
    return KernelMatch(float(value - 2 * across.mean()), across.mean(1))


def _bandwidth(real: Tensor) -> Tensor:
    bandwidth = squared_distances(real, real).mean()
    return torch.ones_like(bandwidth) if bandwidth == 0 else bandwidth


def _kernel(a: Tensor, b: Tensor, bandwidth: Tensor) -> Tensor:
    return torch.exp(squared_distances(a, b) / (-2 * bandwidth))


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


PLUGIN = KMMD()
