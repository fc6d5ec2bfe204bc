"""Fréchet distance between Gaussians fitted to the features of real and generated images.

It is called FID only under the Inception-2015 extractor.

Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", equation 6.
"""

import torch
from torch import Tensor

from regraft.metrics._intervals import combine_variances, halves_variance, student_interval
from regraft.metrics._moments import Moments
from regraft.metrics.base import Comparison, Metric, Score, require_images

MAX_HALVES = 60
HALVES_WORK = 4e9
"""Number of halves times the cube of the matrices' side that an interval may cost."""


class Frechet(Metric):
    """Fréchet distance of features."""

    summary = "Fréchet distance of features (FID under the inception extractor)"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the distance of all generated from all real images."""
        name = "FID" if comparison.extractor == "inception" else f"frechet[{comparison.extractor}]"
        require_images(2, comparison.fake, "generated", name)
        require_images(2, comparison.real, "real", name)
        real, fake = comparison.real.features.double(), comparison.fake.features.double()
        value, influence_real, influence_fake = _with_influence(real, fake)
        few, dim = min(len(real), len(fake)), real.shape[1]
        interval = student_interval(value, _variance(real, fake, influence_real, influence_fake, comparison.seed), few, low=0.0)
        return [comparison.score(name, value, "lower", interval=interval, biased=few < 10 * dim, feature_dim=dim)]


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared Fréchet distance between Gaussians with the means and covariances of two feature sets.

    Args:
        a: features, (N, D).
        b: features, (M, D).

    Returns:
        Scalar, float64, at least 0 up to rounding.
    """
    a, b = a.double(), b.double()
    (_, core_a), (_, core_b) = _factor(a), _factor(b)
    cross = torch.linalg.svdvals(core_a @ core_b.T).sum()
    distance: Tensor = (a.mean(0) - b.mean(0)).square().sum() + core_a.square().sum() + core_b.square().sum() - 2 * cross
    return distance


def _factor(x: Tensor) -> tuple[Tensor | None, Tensor]:
    """Factor the centred rows over sqrt(N - 1) into q r, with q orthonormal; q is None if it is the identity."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    if len(x) <= x.shape[1]:
        return None, centred
    q, r = torch.linalg.qr(centred)
    return q, r


def _with_influence(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distance, and N times its derivative by the weight of each row of either set, (N,) and (M,).

    With x y^T = u s v^T for the centred sets, the trace term is the sum of s, and its derivative by the weight of row i is half
    of (u s u^T)_ii.
    """
    (q_a, core_a), (q_b, core_b) = _factor(a), _factor(b)
    u, s, vh = torch.linalg.svd(core_a @ core_b.T, full_matrices=False)
    shift = a.mean(0) - b.mean(0)
    value: Tensor = shift.square().sum() + core_a.square().sum() + core_b.square().sum() - 2 * s.sum()
    influences = []
    for x, q, vectors, core, sign in ((a, q_a, u, core_a, 1), (b, q_b, vh.T, core_b, -1)):
        rows = vectors if q is None else q @ vectors
        lengths = core.square().sum(1) if q is None else (q @ core).square().sum(1)
        linear = 2 * sign * (x - x.mean(0)) @ shift + len(x) * (lengths - rows.square() @ s)
        influences.append(linear - linear.mean())
    return value, influences[0], influences[1]


def _variance(real: Tensor, fake: Tensor, influence_real: Tensor, influence_fake: Tensor, seed: int) -> float:
    """Estimate the variance of the distance; random halves are left out if they would take long."""
    linear = sum(float(x.square().sum()) / (len(x) * (len(x) - 1)) for x in (influence_real, influence_fake))
    side = min(len(real), len(fake), real.shape[1])
    replicates = int(min(MAX_HALVES, HALVES_WORK / side**3))
    if min(len(real), len(fake)) < 4 or replicates < 8:
        return linear
    rng = torch.Generator().manual_seed(seed)
    halves = halves_variance(lambda i, j: frechet_distance(real[i], fake[j]), (len(real), len(fake)), replicates, rng)
    return combine_variances(linear, float(halves))


def moments_distance(a: Moments, b: Moments) -> Tensor:
    """Return the same distance from running statistics, for more images than fit into memory."""
    return gaussian_distance(a.mean, a.covariance, b.mean, b.covariance)


def gaussian_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Return the same distance from means (D,) and covariances (D, D)."""
    # tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A)), a symmetric matrix with real eigenvalues even where A and B are singular.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance: Tensor = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return distance


PLUGIN = Frechet()
