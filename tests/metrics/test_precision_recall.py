"""Precision, recall, density and coverage against their definitions."""

import numpy as np
import pytest
import torch

from regraft.metrics.precision_recall import precision_recall
from support.measuring import normal


class TestPrecisionRecall:
    def test_against_the_definitions(self):
        x, y = normal(40, 3), normal(40, 3, 1, mean=1.0)
        dx, dy, dxy = torch.cdist(x, x), torch.cdist(y, y), torch.cdist(x, y)
        rx, ry, r5 = (d.sort(1).values[:, k] for d, k in ((dx, 3), (dy, 3), (dx, 5)))
        wanted = [
            np.mean([any(dxy[i, j] <= rx[i] for i in range(40)) for j in range(40)]),
            np.mean([any(dxy[i, j] <= ry[j] for j in range(40)) for i in range(40)]),
            np.mean([sum(dxy[i, j] <= r5[i] for i in range(40)) / 5 for j in range(40)]),
            np.mean([dxy[i].min() <= r5[i] for i in range(40)]),
        ]
        assert precision_recall(x, y).tolist() == pytest.approx(wanted)

    def test_far_apart_and_the_same(self):
        x = normal(50, 4)
        assert precision_recall(x, x + 100).tolist() == [0, 0, 0, 0]
        assert precision_recall(x, x).tolist() == pytest.approx([1, 1, 1.2, 1])

    def test_collapse_keeps_precision_and_loses_recall(self):
        x = normal(200, 4)
        y = normal(200, 4, 1, scale=0.05)
        precision, recall, _, coverage = precision_recall(x, y).tolist()
        assert precision == 1
        assert recall < 0.05
        assert coverage < 0.5
