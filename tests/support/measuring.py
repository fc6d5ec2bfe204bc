"""Feature vectors and comparisons for tests of metrics."""

import torch

from regraft.metrics.base import Comparison, Samples
from support.plugins import find_plugin


def normal(n, d, seed=0, mean=0.0, scale=1.0):
    """Normal draws (n, d) in double precision."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + mean


def samples(x, side=4, **more):
    """Features (N, D) whose first numbers are also the images, of one channel."""
    return Samples(x[:, : side * side].float().reshape(len(x), 1, side, side), x, **more)


def samples_of(images):
    """Images (N, C, H, W) that are their own features."""
    return Samples(images, images.flatten(1))


def comparison(fake, real, training=None, extractor="test"):
    """Generated and real samples, and those that training saw, ready for a metric."""
    return Comparison(fake, real, training, extractor, "0" * 64, 0)


def compare_vectors(fake, real, training=None, side=8):
    """A comparison of features (N, side * side), also taken for images, and three classes that the first numbers decide."""
    sets = (None if x is None else samples(x, side, probabilities=x[:, :3].softmax(1)) for x in (fake, real, training))
    return comparison(*sets)


def scores(metric, given):
    """What a metric measures, by the name of the score."""
    return {s.name: s for s in find_plugin("metrics", metric).compute(given)}


class Given(torch.nn.Module):
    """Features handed in as images (N, D, 1, 1), for torchmetrics."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d
        self.dummy = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.flatten(1).double()
