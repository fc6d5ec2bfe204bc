"""Features of an ImageNet MobileNet: small enough for a laptop, sees objects and faces, not only edges.

Images are resized to 128 pixels; the features are the pooled 1024 numbers after the twelfth separable convolution.  The network
itself (:func:`block_outputs`) also serves the perceptual loss of BSA.

Source: Howard et al. 2017, "MobileNets", table 1 (the network of width 1); layer settings as in Keras.
"""

import collections
import pathlib
from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors._images import resize, three_channels
from regraft.extractors._weights import read_tensors
from regraft.extractors.base import Extractor, Features

SIDE = 128
WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024)
"""Channels after the first convolution and after each of the twelve separable ones."""
STRIDED = (2, 4, 6, 12)
"""Separable convolutions, counted from 1, that halve the side."""
EPS = 1e-3


class MobileNet(Extractor):
    """Features of MobileNet v1."""

    summary = "ImageNet MobileNet v1 from a safetensors file, 1024 features: --extractor mobilenet_v1:FILE"
    costly = True

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Read and check the tensors."""
        if weights is None:
            raise ConfigError("the extractor mobilenet_v1 needs a file: --extractor mobilenet_v1:FILE")
        tensors = read_tensors(weights)
        for name, expected in tensor_shapes().items():
            shape = tuple(tensors[name].shape) if name in tensors else "nothing"
            if shape != expected:
                raise SourceError(f"{weights}: no MobileNet v1 of width 1: {name} must be {expected}, it is {shape}")

        def function(images: Tensor) -> Tensor:
            return features(tensors, resize(three_channels(images), SIDE))

        return Features("mobilenet_v1", tensor_digest(tensors), function, batch=64)


def features(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return pooled features (N, 1024) of images (N, 3, H, W) in [-1, 1]."""
    outputs = collections.deque(block_outputs(tensors, images), maxlen=1)  # only the last one stays in memory
    return outputs.pop().mean((2, 3))


def block_outputs(tensors: dict[str, Tensor], images: Tensor, blocks: int = len(WIDTHS) - 1) -> Iterator[Tensor]:
    """Run the network and yield the output of each separable convolution, image side first.

    Args:
        tensors: by the names of :func:`tensor_shapes`.
        images: (N, 3, H, W) in [-1, 1].
        blocks: separable convolutions to run, 1 to 12.
    """
    x = _layer(tensors, "conv1", images, 2)
    for k in range(1, blocks + 1):
        x = _layer(tensors, f"conv_dw_{k}", x, 2 if k in STRIDED else 1)
        x = _layer(tensors, f"conv_pw_{k}", x, 1)
        yield x


def tensor_shapes(blocks: int = len(WIDTHS) - 1) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of the network up to a separable convolution, by name."""
    kernels: dict[str, tuple[int, ...]] = {"conv1": (WIDTHS[0], 3, 3, 3)}
    for k in range(1, blocks + 1):
        kernels[f"conv_dw_{k}"] = (WIDTHS[k - 1], 1, 3, 3)
        kernels[f"conv_pw_{k}"] = (WIDTHS[k], WIDTHS[k - 1], 1, 1)
    shapes = {}
    for layer, shape in kernels.items():
        shapes[f"{layer}.weight"] = shape
        shapes |= {f"{layer}_bn.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def _layer(tensors: dict[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    """Convolve without bias, normalise, and clamp to [0, 6]."""
    kernel = tensors[f"{name}.weight"]
    padding = kernel.shape[2] // 2
    if stride == 2:
        # TensorFlow's "same" padding: even sides are padded at the far end only.
        height, width = x.shape[2:]
        x, padding = F.pad(x, (width % 2, 1, height % 2, 1)), 0
    x = F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1] if kernel.shape[1] == 1 else 1)
    mean, variance, gain, shift = (tensors[f"{name}_bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, variance, gain, shift, eps=EPS).clamp(0, 6)


PLUGIN = MobileNet()
