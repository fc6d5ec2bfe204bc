"""Kernel inception distance (KID) against torchmetrics."""

import pytest
import torch

from regraft.metrics.kid import kernel_distance, subset_distance
from support.measuring import Given, comparison, normal, samples, scores


class TestKernelDistance:
    def test_against_torchmetrics(self):
        from torchmetrics.image.kid import poly_mmd

        x, y = normal(60, 12), normal(60, 12, 1, mean=0.3)
        assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-6)

    @pytest.mark.filterwarnings("ignore:Metric")
    def test_subsets_against_torchmetrics(self):
        """Subsets of everything: the mean over them is the value itself."""
        from torchmetrics.image.kid import KernelInceptionDistance

        x, y = normal(30, 8), normal(30, 8, 1, mean=0.3)
        theirs = KernelInceptionDistance(feature=Given(8), subsets=3, subset_size=30).set_dtype(torch.float64)
        theirs.update(x[:, :, None, None], real=True)
        theirs.update(y[:, :, None, None], real=False)
        ours = subset_distance(x, y, 30, 3, torch.Generator().manual_seed(0))
        assert ours[0] == pytest.approx(theirs.compute()[0].item(), rel=1e-6)
        assert ours[1] == pytest.approx(0, abs=1e-9)

    def test_is_called_kid_only_under_inception(self):
        x = samples(normal(20, 16))
        assert set(scores("kid", comparison(x, x))) == {"kid[test]"}
        assert set(scores("kid", comparison(x, x, extractor="inception"))) == {"KID"}
        assert set(scores("frechet", comparison(x, x, extractor="inception"))) == {"FID"}
