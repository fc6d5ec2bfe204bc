"""How often each source wins among targets, with what the critic confuses taken out."""

import pytest
import torch

from regraft.methods._target_shares import TargetShares, nearest_kind
from support.toys import rng


def test_share_takes_confusion_out():
    selector = TargetShares(2, 0.02)
    selector.confusion.copy_(torch.tensor([[0.8, 0.2], [0.1, 0.9]]))
    share = torch.tensor([0.3, 0.7])
    selector.seen.copy_(share @ selector.confusion)
    for _ in range(20):
        selector.correct_for_confusion()
    assert torch.allclose(selector.shares, share, atol=1e-3)


def test_nearest_kind_of_separate_clouds():
    clouds = torch.stack([torch.randn(8, 3, generator=rng(k)) * 0.1 + 5 * k for k in range(3)])
    real = torch.cat([clouds[0, :3] + 0.01, clouds[2, :1] + 0.01])
    confusion, looks = nearest_kind(clouds, real)
    assert torch.equal(confusion, torch.eye(3))
    assert looks.tolist() == [0.75, 0.0, 0.25]


def test_nearest_kind_of_equal_clouds_is_chance():
    confusion, looks = nearest_kind(torch.randn(2, 500, 2, generator=rng()), torch.randn(2000, 2, generator=rng(1)))
    assert confusion[0, 0].item() == pytest.approx(0.5, abs=0.1)
    assert looks[0].item() == pytest.approx(0.5, abs=0.1)


def test_a_share_that_went_to_nothing_comes_back():
    looks = TargetShares(2, 0.02)
    looks.confusion.copy_(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    for seen, want in (([0.9, 0.1], [1.0, 0.0]), ([0.1, 0.9], [0.0, 1.0]), ([0.5, 0.5], [0.5, 0.5])):
        looks.seen.copy_(torch.tensor(seen))
        for _ in range(100):
            looks.correct_for_confusion()
        assert looks.shares.tolist() == pytest.approx(want, abs=0.03)
