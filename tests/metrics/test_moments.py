"""Means and covariances that are gathered batch by batch."""

import math

import pytest
import torch

from regraft.core.errors import DataError
from regraft.metrics._moments import Moments
from support.measuring import normal


def test_moments_in_batches_equal_direct_ones():
    x = normal(1000, 7, mean=50.0)
    whole, shards = Moments(7), [Moments(7), Moments(7)]
    for i, part in enumerate(torch.split(x, 93)):
        whole.add(part)
        shards[i % 2].add(part)
    shards[0].merge(shards[1])
    for found in (whole, shards[0]):
        assert found.n == 1000
        assert torch.allclose(found.mean, x.mean(0), rtol=1e-12)
        assert torch.allclose(found.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-12)


def test_moments_refuse_what_does_not_fit():
    moments = Moments(3)
    moments.add(torch.zeros(0, 3))
    with pytest.raises(DataError, match=r"features \(2, 4\) cannot be added to statistics of 3"):
        moments.add(torch.zeros(2, 4))
    with pytest.raises(DataError, match="not finite"):
        moments.add(torch.full((2, 3), math.nan))
    with pytest.raises(DataError, match="at least 2 images, 0 given"):
        _ = moments.covariance
