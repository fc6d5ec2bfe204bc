"""Kernel discrepancies between two sets, in one blocked pass: memory does not grow with the number of pairs.

Source: Gretton et al. 2012, "A kernel two-sample test", equations 3 (unbiased) and 5 (biased); Hoeffding's decomposition of the
variance of U-statistics for the intervals.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 1024
EXACT_PAIRS = 4_000_000
"""Up to so many pairs products are in double precision; beyond, single precision with sums in double."""

LEAST_SHARE = 0.75
"""The variance is unbiased but noisy where the sets agree; it is kept above this share of the quadratic part alone."""

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over a kernel matrix, float64; of a set with itself the diagonal is left out.

    Attributes:
        rows: of each row, (N,).
        columns: of each column, (M,).
        squares: of all squared entries.
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
    """Everything about two sets that a kernel discrepancy needs.

    Attributes:
        real, fake: sums of kernels within the sets.
        across: sums of kernels between them, rows real.
        on_diagonal: sums of the diagonals of the two kernel matrices within.
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
        """Estimate of the squared discrepancy; may be negative."""
        n, m = self.sizes
        return self.real.total / (n * (n - 1)) + self.fake.total / (m * (m - 1)) - 2 * self.across.total / (n * m)

    def biased(self) -> float:
        """Squared discrepancy of the two empirical distributions, at least 0 up to rounding."""
        n, m = self.sizes
        within = (self.real.total + self.on_diagonal[0]) / n**2 + (self.fake.total + self.on_diagonal[1]) / m**2
        return within - 2 * self.across.total / (n * m)

    def variance(self) -> float:
        """Variance of the unbiased estimate; not a number for fewer than four images on a side."""
        if min(self.sizes) < 4:
            return float("nan")
        removing_one, quadratic = self._parts()
        return max(removing_one - quadratic, LEAST_SHARE * quadratic)

    def _parts(self) -> tuple[float, float]:
        """The jackknife's variance, which counts the quadratic part twice, and that part from the kernels' residuals."""
        n, m = self.sizes
        whole = self.across.total
        removing_one, quadratic = 0.0, 0.0
        for own, between, k, other in ((self.real, self.across.rows, n, m), (self.fake, self.across.columns, m, n)):
            within = (own.total - 2 * own.rows) / ((k - 1) * (k - 2))
            left_out = within - 2 * (whole - between) / ((k - 1) * other)
            removing_one += float((k - 1) / k * (left_out - left_out.mean()).square().sum())
            mean = own.total / (k * (k - 1))
            effects = (own.rows - (k - 1) * mean) / (k - 2)
            residual = own.squares - k * (k - 1) * mean**2 - 2 * (k - 2) * float(effects.square().sum())
            quadratic += 2 * residual / (k * (k - 3)) / (k * (k - 1))
        mean = whole / (n * m)
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
        kernel: rows (n, D) and (m, D) to a fresh (n, m), which may be changed in place.
        diagonal: rows (n, D) to the kernel of each with itself, (n,).
        exact: whether products are in double precision; by the number of pairs if None.
    """
    exact = not is_large(real, fake) if exact is None else exact
    real, fake = (x.double() if exact else x.float() for x in (real, fake))
    within = (float(diagonal(real).double().sum()), float(diagonal(fake).double().sum()))
    return Discrepancy(_within(real, kernel), _within(fake, kernel), _across(real, fake, kernel), within)


def is_large(a: Tensor, b: Tensor) -> bool:
    """Whether two sets have so many pairs that single precision is used."""
    return max(len(a), len(b)) ** 2 > EXACT_PAIRS


def _within(x: Tensor, kernel: Kernel) -> Sums:
    """Sums over a symmetric matrix: each pair of blocks is computed once."""
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
    """Sum of squares, row by row in the values' precision and then in double."""
    return float(torch.linalg.vector_norm(values, dim=1).double().square().sum())


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|a - b|^2 / (2 bandwidth)); rows should be near the origin, as distances come from products."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        ends = [torch.linalg.vector_norm(x, dim=1).square_().div_(-2 * bandwidth) for x in (a, b)]
        exponent = torch.addmm(ends[1], a, b.T, alpha=1 / bandwidth)
        return exponent.add_(ends[0][:, None]).clamp_(max=0).exp_()

    return kernel


def polynomial(dim: int) -> Kernel:
    """(a b / dim + 1)^3."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = (a @ b.T).div_(dim).add_(1)
        return base * base.square()

    return kernel
