"""A convolutional network with fixed random weights, which needs neither a file nor a download.

Its features show colours, edges and their arrangement, not meaning; distances between them only compare with one another.
"""

import pathlib

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors._images import three_channels
from regraft.extractors.base import Extractor, Features

WIDTHS = (3, 32, 64, 128)
SEED = 20200


class RandomConv(Extractor):
    """Three strided random layers, each pooled over the image."""

    summary = "a fixed random network: needs nothing, relative measure"

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Draw the weights from the fixed seed."""
        if weights is not None:
            raise ConfigError("the extractor random_conv reads no file; leave the weights out, or choose classifier")
        rng = torch.Generator().manual_seed(SEED)
        kernels = []
        for inputs, outputs in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
            matrix = torch.randn(outputs, inputs * 9, generator=rng)
            # Each kernel of norm sqrt(2), which keeps the variance of what ReLU halves.
            kernels.append(F.normalize(matrix, dim=1).view(outputs, inputs, 3, 3) * 2**0.5)
        digest = tensor_digest({str(i): k for i, k in enumerate(kernels)})

        def function(images: Tensor) -> Tensor:
            x = three_channels(images)
            pooled = [x.mean((2, 3))]
            for kernel in kernels:
                x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel.to(x)))
                x = F.avg_pool2d(x, 2, ceil_mode=True)
                pooled.append(x.mean((2, 3)))
            return torch.cat(pooled, dim=1)

        return Features("random_conv", digest, function)


PLUGIN = RandomConv()
