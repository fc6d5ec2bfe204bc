"""Distances within the clusters that training images gather."""

import pytest
import torch

from regraft.metrics.intra_cluster import intra_cluster


def test_intra_cluster_of_known_clusters():
    training = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    fake = torch.tensor([[0.0, 1.0], [0.0, 4.0], [101.0, 0.0], [100.0, 0.0], [104.0, 0.0], [0.0, 99.0]])
    value, others, used = intra_cluster(fake, training)
    assert used == 2
    assert value == pytest.approx((3 + (1 + 3 + 4) / 3) / 2)
    assert others[2].item() == pytest.approx((3 + 4) / 2)
    assert intra_cluster(training.repeat(4, 1), training)[0] == 0
    assert intra_cluster(fake[-1:], training)[0] == 0
