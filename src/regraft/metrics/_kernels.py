"""Compute kernel discrepancies between two sets block by block, so that memory does not grow with the number of pairs.

Source: Gretton et al. 2012, "A kernel two-sample test", equations 3 (unbiased) and 5 (biased); Hoeffding's decomposition of the
variance of U-statistics for the intervals.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 1024
EXACT_PAIRS = 4_000_000
"""Number of pairs up to which products are in double precision; beyond, they are in single precision and sums in double."""

MIN_SHARE = 0.75
"""The variance is at least this share of its quadratic part: the unbiased estimate is noisy if the sets agree."""

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over a kernel matrix, float64, without the diagonal if it is that of a set with itself.

    Attributes:
        rows: sum of each row, (N,).
        columns: sum of each column, (M,).
        squares: sum of all squared entries.
    """

    rows: Tensor
    columns: Tensor
    squares: float

    @property
    def total(self) -> float:
        """Sum of all entries."""
        return float(self.rows.sum())


@dataclasses.dataclass(frozen=True)
class Discrepancy:
    """Sums of kernel values that the discrepancy of two sets is computed from.

    Attributes:
        real, fake: sums of the kernel within each set.
        across: sums of the kernel between the sets; rows are real, columns generated.
        on_diagonal: sums of the diagonals of the kernel matrices within the sets.
    """

    real: Sums
    fake: Sums
    across: Sums
    on_diagonal: tuple[float, float]

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of real and generated images."""
        return len(self.across.rows), len(self.across.columns)

    def unbiased(self) -> float:
        """Return the unbiased estimate of the squared discrepancy, which may be negative."""
        n, m = self.sizes
        return self.real.total / (n * (n - 1)) + self.fake.total / (m * (m - 1)) - 2 * self.across.total / (n * m)

    def biased(self) -> float:
        """Return the squared discrepancy of the two empirical distributions, at least 0 up to rounding."""
        n, m = self.sizes
        within = (self.real.total + self.on_diagonal[0]) / n**2 + (self.fake.total + self.on_diagonal[1]) / m**2
        return within - 2 * self.across.total / (n * m)

    def variance(self) -> float:
        """Return the variance of the unbiased estimate; NaN if a set has fewer than four images."""
        if min(self.sizes) < 4:
            return float("nan")
        removing_one, quadratic = self._parts()
        return max(removing_one - quadratic, MIN_SHARE * quadratic)

    def _parts(self) -> tuple[float, float]:
        """Return the jackknife's variance, which counts the quadratic part twice, and the quadratic part alone.

        The quadratic part follows from the residuals of the kernel values.
        """
        n, m = self.sizes
        across_total = self.across.total
        removing_one, quadratic = 0.0, 0.0
        for sums, between, k, other in ((self.real, self.across.rows, n, m), (self.fake, self.across.columns, m, n)):
            within = (sums.total - 2 * sums.rows) / ((k - 1) * (k - 2))
            left_out = within - 2 * (across_total - between) / ((k - 1) * other)
            removing_one += float((k - 1) / k * (left_out - left_out.mean()).square().sum())
            mean = sums.total / (k * (k - 1))
            effects = (sums.rows - (k - 1) * mean) / (k - 2)
            residual = sums.squares - k * (k - 1) * mean**2 - 2 * (k - 2) * float(effects.square().sum())
            quadratic += 2 * residual / (k * (k - 3)) / (k * (k - 1))
        mean = across_total / (n * m)
        rows, columns = self.across.rows / m - mean, self.across.columns / n - mean
        residual = self.across.squares - n * m * mean**2 - m * float(rows.square().sum()) - n * float(columns.square().sum())
        return removing_one, max(quadratic + 4 * residual / ((n - 1) * (m - 1)) / (n * m), 0.0)


def discrepancy(
    real: Tensor, fake: Tensor, kernel: Kernel, diagonal: Callable[[Tensor], Tensor], exact: bool | None = None
) -> Discrepancy:
    """Sum a kernel within and between two sets.

    Args:
        real: features, (N, D).
        fake: features, (M, D).
        kernel: maps rows (n, D) and (m, D) to a new tensor (n, m), which may be changed in place.
        diagonal: maps rows (n, D) to the kernel of each row with itself, (n,).
        exact: whether products are in double precision; None decides by the number of pairs.
    """
    exact = not is_large(real, fake) if exact is None else exact
    real, fake = (x.double() if exact else x.float() for x in (real, fake))
    within = (float(diagonal(real).double().sum()), float(diagonal(fake).double().sum()))
    return Discrepancy(_within(real, kernel), _within(fake, kernel), _across(real, fake, kernel), within)


def is_large(a: Tensor, b: Tensor) -> bool:
    """Return whether two sets have so many pairs that products are in single precision."""
    return max(len(a), len(b)) ** 2 > EXACT_PAIRS


def _within(x: Tensor, kernel: Kernel) -> Sums:
    """Sum over a symmetric matrix, computing each pair of blocks once."""
    rows = torch.zeros(len(x), dtype=torch.float64)
    squares = 0.0
    starts = range(0, len(x), BLOCK)
    for i in starts:
        for j in starts[i // BLOCK :]:
            values = kernel(x[i : i + BLOCK], x[j : j + BLOCK])
            if i == j:
                values.fill_diagonal_(0)
            else:
                rows[j : j + BLOCK] += values.sum(0).double()
            rows[i : i + BLOCK] += values.sum(1).double()
            squares += (1 if i == j else 2) * _squares(values)
    return Sums(rows, rows, squares)


def _across(a: Tensor, b: Tensor, kernel: Kernel) -> Sums:
    """Sum over the matrix between two sets."""
    rows, columns = (torch.zeros(len(x), dtype=torch.float64) for x in (a, b))
    squares = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            values = kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            rows[i : i + BLOCK] += values.sum(1).double()
            columns[j : j + BLOCK] += values.sum(0).double()
            squares += _squares(values)
    return Sums(rows, columns, squares)


def _squares(values: Tensor) -> float:
    """Sum squares over each row in the values' precision, and these sums in double precision."""
    return float(torch.linalg.vector_norm(values, dim=1).double().square().sum())


def gaussian(bandwidth: float) -> Kernel:
    """Return the kernel exp(-|a - b|^2 / (2 bandwidth)).

    Distances come from products, so rows should be near the origin.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        norms = [torch.linalg.vector_norm(x, dim=1).square_().div_(-2 * bandwidth) for x in (a, b)]
        exponent = torch.addmm(norms[1], a, b.T, alpha=1 / bandwidth)
        return exponent.add_(norms[0][:, None]).clamp_(max=0).exp_()

    return kernel


def polynomial(dim: int) -> Kernel:
    """Return the kernel (a b / dim + 1)^3."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = (a @ b.T).div_(dim).add_(1)
        return base * base.square()

    return kernel
