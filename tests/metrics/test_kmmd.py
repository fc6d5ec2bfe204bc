"""Kernel maximum mean discrepancy (KMMD): the published formula, its floor, and planted answers."""

import math

import numpy as np
import pytest
import torch

from regraft.metrics.kmmd import kmmd, real_floor
from support.measuring import compare_vectors, normal
from support.plugins import find_plugin


def test_the_floor_is_what_halves_of_one_set_measure():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(60, 8, generator=rng)
    floor = real_floor(real)
    halves = []
    for _ in range(100):
        order = torch.randperm(60, generator=rng)
        halves.append(float(kmmd(real[order[:30]], real[order[30:]])[1]))
    assert 0.85 <= sum(h <= floor for h in halves) / 100 <= 1
    assert float(kmmd(real, torch.randn(60, 8, generator=rng) + 2)[1]) > 5 * floor


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
        scores = find_plugin("metrics", "kmmd").compute(compare_vectors(normal(50, 64), normal(20, 64, 1)))
        assert {(s.n_real, s.n_fake) for s in scores} == {(20, 20)}
        assert all(s.details["bandwidth"] for s in scores)

    def test_a_set_of_one_repeated_image_is_no_division_by_zero(self):
        assert torch.isfinite(kmmd(torch.ones(5, 3), normal(5, 3))[0])
