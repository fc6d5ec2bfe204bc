"""Distances that several metrics share."""

from torch import Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances between rows, (N, M), at least 0, and exactly 0 on the diagonal where ``a is b``."""
    products = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    if a is b:
        products.fill_diagonal_(0)
    return products.clamp_min(0)
