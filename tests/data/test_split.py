"""Which images a run holds out."""

import pytest
import torch

from regraft.data.split import _interleave_classes, held_out_count


def test_held_out_images_are_of_all_classes():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = _interleave_classes(torch.randperm(100, generator=torch.Generator().manual_seed(0)), labels)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.bincount(labels[order[:10]]).tolist() == [6, 3, 1]


@pytest.mark.parametrize(("n", "least", "most"), [(4, 1, 2), (10, 2, 3), (25, 3, 6), (100, 8, 20), (10_000, 100, 1000)])
def test_held_out_is_a_modest_share(n, least, most):
    assert least <= held_out_count(n) <= most
