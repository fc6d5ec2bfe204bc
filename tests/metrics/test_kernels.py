"""Kernel sums in blocks against direct ones, and their variance."""

import numpy as np
import pytest
import torch

from regraft.metrics import _kernels
from regraft.metrics.kid import kernel_distance
from regraft.metrics.kmmd import kernel_match, kmmd
from support.measuring import normal


class TestBlocks:
    @pytest.mark.parametrize("sizes", [(40, 40), (33, 57)])
    def test_blocked_sums_equal_direct_ones(self, monkeypatch, sizes):
        monkeypatch.setattr(_kernels, "BLOCK", 16)
        x, y = normal(sizes[0], 5), normal(sizes[1], 5, 1)
        found = _kernels.discrepancy(x, y, _kernels.polynomial(5), lambda r: (r.square().sum(1) / 5 + 1) ** 3)
        kxx, kyy, kxy = ((a @ b.T / 5 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        n, m = sizes
        wanted = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1)) - 2 * kxy.mean()
        assert found.unbiased() == pytest.approx(wanted.item(), rel=1e-9)
        assert found.biased() == pytest.approx((kxx.mean() + kyy.mean() - 2 * kxy.mean()).item(), rel=1e-9)
        assert found.across.squares == pytest.approx(kxy.square().sum().item())
        assert torch.allclose(found.fake.rows, kyy.sum(1) - kyy.diagonal())

    def test_single_precision_for_many_pairs_is_close(self, monkeypatch):
        x, y = normal(300, 200).float().relu(), normal(300, 200, 1).float().relu() * 1.1
        exact = [float(v) for v in kmmd(x, y)] + [kernel_distance(x, y)]
        monkeypatch.setattr(_kernels, "EXACT_PAIRS", 10)
        rough = [float(v) for v in kmmd(x, y)] + [kernel_distance(x, y)]
        assert exact != rough
        assert rough == pytest.approx(exact, rel=1e-4)

    def test_kernel_match_keeps_the_likeness_of_each_real_image(self):
        x, y = normal(20, 5), normal(25, 5, 1)
        s = torch.cdist(x, x).square().mean()
        wanted = torch.exp(-torch.cdist(x, y).square() / (2 * s)).mean(1)
        assert torch.allclose(kernel_match(x, y).likeness, wanted)

    def test_variance_is_that_of_repeated_draws(self):
        draws = [kernel_sums(seed) for seed in range(300)]
        assert np.mean([d.variance() for d in draws]) == pytest.approx(np.var([d.unbiased() for d in draws]), rel=0.25)


def kernel_sums(seed):
    x, y = normal(30, 4, 2 * seed), normal(40, 4, 2 * seed + 1, mean=0.5)
    return _kernels.discrepancy(x, y, _kernels.gaussian(8.0), lambda r: r.new_ones(len(r)))
