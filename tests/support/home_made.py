"""Generators and critics as people write them at home."""

import torch
from torch import nn

from regraft.core.latent import Latent


class Reshape(nn.Module):
    """Rows of numbers as maps."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(len(x), *self.shape)


class Up(nn.Module):
    """Nearest upsampling by 2."""

    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2)


def deconvs(*widths, last=3, final=(4, 2, 1), bias=False):
    """The generator of PyTorch's DCGAN example: 4x4, then doublings."""
    layers = [nn.ConvTranspose2d(10, widths[0], 4, 1, 0, bias=bias), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], last, *final, bias=bias), nn.Tanh())


def convs(channels, *widths, last=(4, 1, 0)):
    """The critic of PyTorch's DCGAN example: halvings, then one number."""
    layers = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, *last, bias=False))


def linear_upsampling():
    """Linear, batch norm on maps, nearest upsampling and 3x3 convolutions, as many tutorials do."""
    return nn.Sequential(
        nn.Linear(10, 8 * 8 * 8),
        Reshape(8, 8, 8),
        nn.BatchNorm2d(8),
        Up(),
        nn.Conv2d(8, 6, 3, 1, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        Up(),
        nn.Conv2d(6, 3, 3, 1, 1),
        nn.Tanh(),
    )


def settle(generator, spatial=True):
    """Give norms the statistics of their own inputs, as training would."""
    return train_statistics(generator, Latent(10), spatial)


def train_statistics(generator, latent, spatial=True):
    """Plain averages of batch statistics: without a trace of their initial values, as after long training."""
    for module in generator.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(20):
            z = latent.sample(64, rng)
            generator(z[:, :, None, None] if spatial else z)
    return generator.eval()
