"""Features of an ImageNet MobileNet: small enough for a laptop, sees objects and faces, not only edges.

Images are resized to 128 pixels; the features are the pooled 1024 numbers after the twelfth separable convolution.

Source: Howard et al. 2017, "MobileNets", table 1 (the network of width 1); layer settings as in Keras.
"""

import pathlib

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors import _tensors
from regraft.extractors.base import Extractor, Features

SIDE = 128
WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024)
STRIDED = (2, 4, 6, 12)
EPS = 1e-3


class MobileNet(Extractor):
    """MobileNet v1."""

    summary = "ImageNet MobileNet v1 from a safetensors file, 1024 features: --extractor mobilenet_v1:FILE"
    costly = True

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Read and check the tensors."""
        if weights is None:
            raise ConfigError("the extractor mobilenet_v1 needs a file: --extractor mobilenet_v1:FILE")
        tensors = _tensors.read(weights)
        _check(tensors, weights)

        def function(images: Tensor) -> Tensor:
            return features(tensors, _tensors.resized(_tensors.coloured(images), SIDE))

        return Features("mobilenet_v1", tensor_digest(tensors), function, batch=64)


def features(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Pooled features (N, 1024) of images (N, 3, H, W) in [-1, 1], sides multiples of 32."""
    x = _layer(tensors, "conv1", x, 2)
    for i in range(1, len(WIDTHS)):
        x = _layer(tensors, f"conv_dw_{i}", x, 2 if i in STRIDED else 1)
        x = _layer(tensors, f"conv_pw_{i}", x, 1)
    return x.mean((2, 3))


def _layer(tensors: dict[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    kernel = tensors[f"{name}.weight"]
    padding = kernel.shape[2] // 2
    if stride == 2:
        # TensorFlow pads even sides at the far end only.
        x, padding = F.pad(x, (0, 1, 0, 1)), 0
    x = F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1] if kernel.shape[1] == 1 else 1)
    mean, variance = tensors[f"{name}_bn.running_mean"], tensors[f"{name}_bn.running_var"]
    return F.relu6(F.batch_norm(x, mean, variance, tensors[f"{name}_bn.weight"], tensors[f"{name}_bn.bias"], eps=EPS))


def _check(tensors: dict[str, Tensor], path: pathlib.Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {"conv1": (32, 3, 3, 3)}
    for i in range(1, len(WIDTHS)):
        shapes[f"conv_dw_{i}"] = (WIDTHS[i - 1], 1, 3, 3)
        shapes[f"conv_pw_{i}"] = (WIDTHS[i], WIDTHS[i - 1], 1, 1)
    for name, shape in shapes.items():
        parts = {f"{name}.weight": shape}
        parts |= {f"{name}_bn.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        for key, wanted in parts.items():
            got = tuple(tensors[key].shape) if key in tensors else "nothing"
            if got != wanted:
                raise SourceError(f"{path}: no MobileNet v1 of width 1: {key} must be {wanted}, it is {got}")


PLUGIN = MobileNet()
