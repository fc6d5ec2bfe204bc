"""Mean variance: known variances, ratios, and values without single images."""

import pytest
import torch

from regraft.metrics.mean_variance import left_out, mean_variance
from support.measuring import compare_vectors, normal
from support.plugins import find_plugin


def test_mean_variance_left_out():
    x = normal(9, 5)
    wanted = [mean_variance(torch.cat([x[:i], x[i + 1 :]])).item() for i in range(9)]
    assert left_out(x).tolist() == pytest.approx(wanted)


class TestMeanVariance:
    def test_collapsed_is_zero_and_known_variance_is_known(self):
        assert mean_variance(torch.ones(9, 4)).item() == 0
        assert mean_variance(normal(4000, 10, scale=3.0)).item() == pytest.approx(9, rel=0.05)

    def test_ratio_to_itself_is_one(self):
        x = normal(30, 64)
        scores = {s.name: s for s in find_plugin("metrics", "mean_variance").compute(compare_vectors(x, x))}
        assert scores["mv_ratio_pixel"].value == pytest.approx(1)
        assert scores["mv_ratio_feature[test]"].value == pytest.approx(1)
        assert scores["mv_pixel"].extractor == "pixels"
