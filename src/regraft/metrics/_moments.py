"""Compute mean and covariance of any number of rows in fixed memory."""

import torch
from torch import Tensor

from regraft.core.errors import DataError


class Moments:
    """Running mean and covariance in double precision.

    Rows are added in batches.  Accumulators can be merged, so that each shard of the data may have its own.

    Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
    """

    def __init__(self, dim: int) -> None:
        """Start without rows; each will have ``dim`` numbers."""
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Add rows, (N, dim).

        Raises:
            DataError: if the rows have another width, or a number is not finite.
        """
        if rows.dim() != 2 or rows.shape[1] != len(self.mean):
            raise DataError(f"features {tuple(rows.shape)} cannot be added to statistics of {len(self.mean)} numbers a row")
        if len(rows) == 0:
            return
        rows = rows.double()
        mean = rows.mean(0)
        if not torch.isfinite(mean).all():
            raise DataError("features with numbers that are not finite cannot be added to statistics")
        rows = rows - mean
        self._merge(len(rows), mean, rows.T @ rows)

    def merge(self, other: "Moments") -> None:
        """Add the rows of another accumulator."""
        if other.n:
            self._merge(other.n, other.mean, other.scatter)

    def _merge(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.n + n
        step = mean - self.mean
        self.scatter += scatter
        self.scatter.addr_(step, step, alpha=self.n * n / total)
        self.mean += step * (n / total)
        self.n = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, (dim, dim).

        Raises:
            DataError: with fewer than two rows.
        """
        if self.n < 2:
            raise DataError(f"a covariance needs at least 2 images, {self.n} given")
        return self.scatter / (self.n - 1)
