"""Kernel maximum mean discrepancy (KMMD): the published formula, its floor, and planted answers."""

import torch

from regraft.metrics.kmmd import kmmd, real_floor


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
