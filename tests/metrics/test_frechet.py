"""Fréchet distance: closed forms, independent libraries, and the influence of single images."""

import numpy as np
import pytest
import torch

from regraft.metrics._moments import Moments
from regraft.metrics.frechet import _with_influence, frechet_distance, gaussian_distance, moments_distance
from support.measuring import compare_vectors, normal
from support.plugins import find_plugin


class TestFrechet:
    @pytest.mark.parametrize("sizes", [(30, 40, 6), (12, 9, 30), (12, 40, 20)])
    def test_influence_is_the_derivative_by_an_images_weight(self, sizes):
        """A weight is raised by giving every other image again."""
        n, m, d = sizes
        a, b = normal(n, d), normal(m, d, 1, mean=0.2, scale=1.3)
        value, first, second = _with_influence(a, b)
        assert value.item() == pytest.approx(frechet_distance(a, b).item(), rel=1e-9)
        assert first.mean().item() == pytest.approx(0, abs=1e-9)
        if d < min(n, m):
            for x, influence, at in ((a, first, 0), (b, second, 1)):
                times = 400
                repeated = torch.cat([x.repeat(times, 1), x[:1]])
                sets = [repeated, b] if at == 0 else [a, repeated]
                base = [x.repeat(times, 1), b] if at == 0 else [a, x.repeat(times, 1)]
                change = frechet_distance(*sets) - frechet_distance(*base)
                assert change.item() * len(repeated) == pytest.approx(influence[0].item(), rel=0.1, abs=0.05)

    def test_distance_from_moments(self):
        x, y = normal(90, 5), normal(70, 5, 1, mean=0.5)
        moments = [Moments(5), Moments(5)]
        moments[0].add(x)
        moments[1].add(y)
        assert moments_distance(*moments).item() == pytest.approx(frechet_distance(x, y).item(), rel=1e-9)

    def test_of_equal_sets_is_zero(self):
        x = normal(50, 5)
        assert frechet_distance(x, x).item() == pytest.approx(0, abs=1e-9)

    def test_of_two_gaussians(self):
        """|m|^2 + sum (a_i - b_i)^2 for diagonal covariances a^2 and b^2."""
        a, b, m = (
            torch.tensor([1.0, 2.0, 0.0]).double(),
            torch.tensor([3.0, 0.5, 1.0]).double(),
            torch.tensor([1.0, 0, 2]).double(),
        )
        value = gaussian_distance(torch.zeros(3).double(), torch.diag(a**2), m, torch.diag(b**2))
        assert value.item() == pytest.approx((m.square().sum() + (a - b).square().sum()).item())

    def test_against_scipy(self):
        import scipy.linalg

        x, y = normal(40, 6), normal(30, 6, 1) @ normal(6, 6, 2)
        cov_x, cov_y = np.cov(x.numpy().T), np.cov(y.numpy().T)
        root = scipy.linalg.sqrtm(cov_x @ cov_y).real
        wanted = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(cov_x + cov_y - 2 * root)
        assert frechet_distance(x, y).item() == pytest.approx(wanted, rel=1e-8)

    def test_against_torchmetrics(self):
        from torchmetrics.image.fid import _compute_fid

        x, y = normal(300, 16), normal(200, 16, 1, mean=0.3)
        wanted = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
        assert frechet_distance(x, y).item() == pytest.approx(wanted.item(), rel=1e-6)

    def test_symmetric_invariant_to_rotation_and_more_features_than_images(self):
        x, y = normal(10, 30), normal(12, 30, 1, mean=0.5)
        q, _ = torch.linalg.qr(normal(30, 30, 2))
        value = frechet_distance(x, y)
        assert frechet_distance(y, x).item() == pytest.approx(value.item(), rel=1e-6)
        assert frechet_distance(x @ q, y @ q).item() == pytest.approx(value.item(), rel=1e-6)

    def test_is_called_fid_only_under_inception(self):
        x = normal(20, 64)
        score = find_plugin("metrics", "frechet").compute(compare_vectors(x, x))[0]
        assert score.name == "frechet[test]"
