"""Wasserstein distance by an independent critic."""

import torch

from regraft.metrics import wasserstein
from regraft.metrics.base import Samples
from support.measuring import comparison
from support.plugins import find_plugin


def test_an_independent_critic_tells_shifted_images_and_not_equal_ones(monkeypatch):
    monkeypatch.setattr(wasserstein, "STEPS", 30)
    real, same = (torch.rand(40, 1, 9, 7, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (0, 1))
    given = [comparison(Samples(x, x.flatten(1)), Samples(real, real.flatten(1))) for x in (same, same * 0.2 + 0.5)]
    metric = find_plugin("metrics", "wasserstein")
    equal, shifted = (metric.measure(g)[0] for g in given)
    assert abs(equal.value) < 0.3
    assert shifted.value > 0.5
    assert shifted.interval[0] > equal.interval[1]
    assert shifted.extractor == "pixels"
    assert metric.measure(given[1])[0].value == shifted.value
