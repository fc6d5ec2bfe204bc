"""Which images count as copies of training images."""

import torch

from regraft.evaluation.verdict import judge
from support.toys import strokes


def test_many_training_images_fit_in_memory(monkeypatch):
    largest = []
    cdist = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b: largest.append(len(a) * len(b)) or cdist(a, b))
    judge(strokes(50, 1, size=8), strokes(5000, 0, size=8))
    assert max(largest) <= 2000 * 2000
