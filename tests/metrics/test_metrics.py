"""Metrics against closed forms, independent libraries and planted answers."""

import math

import numpy as np
import pytest
import torch

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.metrics.base import Comparison, Samples
from regraft.metrics.copies import copy_rate, nearest_in_pixels
from regraft.metrics.frechet import frechet_distance, gaussian_distance
from regraft.metrics.kmmd import kmmd
from regraft.metrics.mean_variance import mean_variance
from support.plugins import find_plugin


def normal(n, d, seed=0, mean=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + mean


def comparison(fake, real, training=None, size=8):
    def samples(x):
        return None if x is None else Samples(x.float().view(len(x), 1, size, size), x, x[:, :3].softmax(1))

    return Comparison(samples(fake), samples(real), samples(training), "test", "0" * 64, 0)


class TestFrechet:
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
        score = find_plugin("metrics", "frechet").compute(comparison(x, x))[0]
        assert score.name == "frechet[test]"


class TestKMMD:
    def test_against_the_published_formula(self):
        x, y = normal(25, 5), normal(20, 5, 1, mean=0.4)
        s = np.mean([[((a - b) ** 2).sum().item() for b in x] for a in x])

        def k(a, b):
            return math.exp(-((a - b) ** 2).sum().item() / (2 * s))

        xx = np.array([[k(a, b) for b in x] for a in x])
        yy = np.array([[k(a, b) for b in y] for a in y])
        xy = np.array([[k(a, b) for b in y] for a in x])
        biased, unbiased = kmmd(x, y)
        assert biased.item() == pytest.approx(math.sqrt(xx.mean() + yy.mean() - 2 * xy.mean()), rel=1e-9)
        n, m = len(x), len(y)
        wanted = (xx.sum() - n) / (n * (n - 1)) + (yy.sum() - m) / (m * (m - 1)) - 2 * xy.mean()
        assert unbiased.item() == pytest.approx(wanted, rel=1e-9)

    def test_floor_and_collapse_at_25_vectors(self):
        """The spec's plausibility check: same distribution 0.18, full collapse 0.65."""
        same, collapsed = [], []
        for seed in range(10):
            x = normal(25, 100, 2 * seed)
            same.append(kmmd(x, normal(25, 100, 2 * seed + 1))[0].item())
            collapsed.append(kmmd(x, x[:1].expand(25, -1))[0].item())
        assert np.mean(same) == pytest.approx(0.18, abs=0.03)
        assert np.mean(collapsed) == pytest.approx(0.65, abs=0.12)

    def test_unbiased_estimate_is_centred_on_zero(self):
        values = [kmmd(normal(20, 3, 2 * s), normal(20, 3, 2 * s + 1))[1].item() for s in range(200)]
        assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200)

    def test_equal_numbers_are_used_and_said(self):
        scores = find_plugin("metrics", "kmmd").compute(comparison(normal(50, 64), normal(20, 64, 1)))
        assert {(s.n_real, s.n_fake) for s in scores} == {(20, 20)}
        assert all(s.details["bandwidth"] for s in scores)

    def test_a_set_of_one_repeated_image_is_no_division_by_zero(self):
        assert torch.isfinite(kmmd(torch.ones(5, 3), normal(5, 3))[0])


class TestMeanVariance:
    def test_collapsed_is_zero_and_known_variance_is_known(self):
        assert mean_variance(torch.ones(9, 4)).item() == 0
        assert mean_variance(normal(4000, 10, scale=3.0)).item() == pytest.approx(9, rel=0.05)

    def test_ratio_to_itself_is_one(self):
        x = normal(30, 64)
        scores = {s.name: s for s in find_plugin("metrics", "mean_variance").compute(comparison(x, x))}
        assert scores["mv_ratio_pixel"].value == pytest.approx(1)
        assert scores["mv_ratio_feature[test]"].value == pytest.approx(1)
        assert scores["mv_pixel"].extractor == "pixels"


class TestCopies:
    def images(self, n, seed):
        return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    def score(self, fake, real, training):
        sets = [Samples(x, x.flatten(1)) for x in (fake, real, training)]
        return [s.value for s in find_plugin("metrics", "copies").compute(Comparison(*sets, "test", None, 0))]

    def test_replayed_training_images_are_all_copies(self):
        training, unseen = self.images(10, 0), self.images(200, 1)
        assert self.score(training, unseen, training) == [1.0, 1.0]

    def test_unseen_images_are_copies_at_the_chosen_percentile(self):
        training, unseen = self.images(10, 0), self.images(400, 1)
        for value in self.score(unseen, unseen, training):
            assert value == pytest.approx(0.01, abs=0.005)

    @pytest.mark.parametrize("change", ["flip", "shift", "both"])
    def test_mirrored_and_shifted_copies_are_found_in_pixels(self, change):
        training, unseen = self.images(10, 0), self.images(200, 1)
        fake = training.flip(3) if change in ("flip", "both") else training
        fake = torch.roll(fake, (2, -1), (2, 3)) if change in ("shift", "both") else fake
        features, pixels = self.score(fake, unseen, training)
        assert pixels == 1.0
        assert features < 0.5

    def test_nearest_names_the_right_image(self):
        training = self.images(20, 0)
        distance, which = nearest_in_pixels(training[[7, 3]].flip(3), training)
        assert which.tolist() == [7, 3]
        assert distance.max() < 1e-5

    def test_rate_and_threshold(self):
        rate, threshold = copy_rate(torch.tensor([0.0, 5.0, 9.0, 9.0]), torch.linspace(1, 101, 101))
        assert threshold == pytest.approx(2.0)
        assert rate == 0.25


@pytest.mark.parametrize("name", discover.names("metrics"))
def test_too_few_images_is_a_clear_error(name):
    one = normal(1, 64)
    metric = find_plugin("metrics", name)
    if not metric.needs_training and not metric.needs_labels:
        with pytest.raises(DataError, match=r"needs at least \d generated images, 1 given"):
            metric.compute(comparison(one, normal(5, 64), normal(5, 64)))
