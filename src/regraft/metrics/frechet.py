"""Fréchet distance between Gaussians fitted to the features of real and generated images.

It is FID only under the Inception-2015 extractor, and called so only there.

Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6.
"""

import torch
from torch import Tensor

from regraft.metrics.base import Comparison, Metric, Score, at_least


class Frechet(Metric):
    """Fréchet distance."""

    summary = "Fréchet distance of features (FID under the inception extractor)"

    def compute(self, comparison: Comparison) -> list[Score]:
        """Distance of all fake from all real images."""
        name = "FID" if comparison.extractor == "inception" else f"frechet[{comparison.extractor}]"
        at_least(2, comparison.fake, "generated", name)
        at_least(2, comparison.real, "real", name)
        value = frechet_distance(comparison.real.features, comparison.fake.features)
        few = min(comparison.real.n, comparison.fake.n)
        dim = comparison.real.features.shape[1]
        return [comparison.score(name, value, "lower", biased=few < 10 * dim, feature_dim=dim)]


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared Fréchet distance between Gaussians with the means and covariances of two feature sets.

    Args:
        a: features, (N, D).
        b: features, (M, D).

    Returns:
        Scalar, float64, at least 0 up to rounding.
    """
    a, b = a.double(), b.double()
    return gaussian_distance(a.mean(0), covariance(a), b.mean(0), covariance(b))


def gaussian_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """The same from means (D,) and covariances (D, D)."""
    # tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A)), a symmetric matrix with real eigenvalues even where A and B are singular.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance: Tensor = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return distance


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance of rows, (D, D), also for D = 1."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


PLUGIN = Frechet()
