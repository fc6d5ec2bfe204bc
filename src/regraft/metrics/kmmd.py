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

from regraft.data.nearest import squared_distances
from regraft.metrics._intervals import student_interval
from regraft.metrics._kernels import Discrepancy, discrepancy, gaussian, is_large
from regraft.metrics.base import Comparison, Metric, Score, equal_subsets, require_images

BANDWIDTH_RULE = "sigma^2 = mean squared distance within the real set, diagonal included"


class KMMD(Metric):
    """Kernel maximum mean discrepancy of features."""

    summary = "kernel maximum mean discrepancy of features, biased (as published) and unbiased"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the biased and the unbiased estimate on equally many images of both sets."""
        require_images(2, comparison.fake, "generated", "kmmd")
        require_images(2, comparison.real, "real", "kmmd")
        real, fake, n = equal_subsets(comparison)
        sums = _sums(real, fake)
        variance = sums.variance()
        details: dict[str, Any] = {"n_real": n, "n_fake": n, "bandwidth": BANDWIDTH_RULE}
        name = f"[{comparison.extractor}]"
        ends = student_interval(max(sums.biased(), 0.0), variance, n, low=0.0)
        return [
            comparison.score(
                f"kmmd{name}",
                max(sums.biased(), 0.0) ** 0.5,
                "lower",
                interval=ends and (ends[0] ** 0.5, ends[1] ** 0.5),
                estimator="biased, square root",
                **details,
            ),
            comparison.score(
                f"kmmd_unbiased{name}",
                sums.unbiased(),
                "lower",
                interval=student_interval(sums.unbiased(), variance, n),
                estimator="unbiased, squared",
                **details,
            ),
        ]


def kmmd(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root of the biased squared discrepancy, and the unbiased squared discrepancy.

    Args:
        real: features, (N, D); the bandwidth is computed from these.
        fake: features, (M, D).

    Returns:
        Two scalars, float64; the second may be negative.
    """
    sums = _sums(real, fake)
    biased, unbiased = torch.tensor([max(sums.biased(), 0.0) ** 0.5, sums.unbiased()], dtype=torch.float64)
    return biased, unbiased


@dataclasses.dataclass(frozen=True)
class KernelMatch:
    """The unbiased squared discrepancy of a set of generated images, which can be compared with that of another set.

    Attributes:
        value: the discrepancy.
        likeness: mean kernel value of each real image with the generated ones, (N,), float64.
    """

    value: float
    likeness: Tensor

    def error(self, other: "KernelMatch | None" = None) -> float:
        """Return the standard error over the real images of ``value``, or of ``value - other.value`` (paired)."""
        likeness = self.likeness if other is None else self.likeness - other.likeness
        return float(2 * likeness.std() / len(self.likeness) ** 0.5)


def mean_match(matches: Sequence[KernelMatch]) -> KernelMatch:
    """Average discrepancies of the same images under several extractors, which is that of the mean of their kernels."""
    return KernelMatch(sum(m.value for m in matches) / len(matches), torch.stack([m.likeness for m in matches]).mean(0))


def kernel_match(real: Tensor, fake: Tensor) -> KernelMatch:
    """Return the unbiased estimate of :func:`kmmd` in a form that can be compared; arguments are as there."""
    sums = _sums(real, fake)
    return KernelMatch(sums.unbiased(), sums.across.rows / len(fake))


def real_floor(real: Tensor, seed: int = 0, splits: int = 200) -> float:
    """Return the 95th percentile of the unbiased discrepancy between two random halves of the real images.

    A smaller discrepancy may be due to chance.

    Args:
        real: features, (N, D).
        seed: draws the halves.
        splits: how often halves are drawn.
    """
    real = real.double()
    squares = squared_distances(real, real)
    kernel, n = torch.exp(squares / (-2 * squares.mean().clamp_min(1e-300))), len(real) // 2
    rng = torch.Generator().manual_seed(seed)
    discrepancies = []
    for _ in range(splits):
        order = torch.randperm(len(real), generator=rng)
        a, b = order[:n], order[n : 2 * n]
        within = _off_diagonal_mean(kernel[a][:, a]) + _off_diagonal_mean(kernel[b][:, b])
        discrepancies.append(within - 2 * kernel[a][:, b].mean())
    return float(torch.stack(discrepancies).quantile(0.95))


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
