"""Penultimate features of a classifier read from a file.

Known by their tensors: what ``regraft train-classifier`` writes (128 features), LeNet-5 for 32x32 digits (84 features) and the
CIFAR-10 ResNets of He et al. 2016, section 4.2, with padded shortcuts (64 features).  The file is read as plain tensors; no
code of it is run.
"""

import pathlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors import _convnet, _tensors
from regraft.extractors._tensors import Tensors
from regraft.extractors.base import Extractor, Features


class Classifier(Extractor):
    """A classifier's features."""

    summary = "penultimate features of a classifier from a file (train-classifier's own, LeNet-5, CIFAR ResNet)"

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Read the file and recognise the network."""
        if weights is None:
            raise ConfigError("the extractor classifier needs a file: --extractor classifier:FILE")
        tensors = read_classifier(weights)
        function = _network(tensors, weights)
        classes = _convnet.check(tensors)[1] if f"{_convnet.MARK}.size" in tensors else ()
        digest = tensor_digest(tensors)
        return Features(f"classifier:{weights.name}", digest, lambda x: function(x)[0], classify=function, classes=classes)


def class_logits(weights: pathlib.Path, images: Tensor, batch: int = 256) -> Tensor:
    """Class logits (N, K) of images (N, C, H, W) in [-1, 1] under a classifier file.

    Raises:
        SourceError: if the file is no known classifier.
    """
    function = _network(read_classifier(weights), weights)
    with torch.no_grad():
        return torch.cat([function(part)[1] for part in torch.split(images, batch)])


def read_classifier(path: pathlib.Path) -> Tensors:
    """Tensors of a classifier file.

    Raises:
        SourceError: if it cannot be read, or holds anything but named tensors.
    """
    return _tensors.read(path, "classifier")


def _network(tensors: Tensors, path: pathlib.Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Images to (features, logits)."""
    try:
        if f"{_convnet.MARK}.size" in tensors:
            size, _ = _convnet.check(tensors)
            return lambda images: _convnet.run(tensors, size, images)
        if "convnet.c1.weight" in tensors:
            return _lenet(tensors)
        if "layer1.0.conv1.weight" in tensors and "linear.weight" in tensors:
            return _cifar_resnet(tensors)
    except KeyError as error:
        raise SourceError(f"{path}: a classifier without the tensor {error}") from None
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None
    raise SourceError(
        f"{path}: no classifier that regraft knows (its own, LeNet-5 or CIFAR ResNet); it holds "
        f"{next(iter(tensors), 'nothing')} ..."
    )


def _lenet(t: Tensors) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        x = (images.mean(1, keepdim=True) + 1) / 2
        if x.shape[2:] != (32, 32):
            x = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
        x = F.max_pool2d(F.relu(F.conv2d(x, t["convnet.c1.weight"], t["convnet.c1.bias"])), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, t["convnet.c3.weight"], t["convnet.c3.bias"])), 2)
        x = F.relu(F.conv2d(x, t["convnet.c5.weight"], t["convnet.c5.bias"])).flatten(1)
        features = F.relu(F.linear(x, t["fc.f6.weight"], t["fc.f6.bias"]))
        return features, F.linear(features, t["fc.f7.weight"], t["fc.f7.bias"])

    return run


def _cifar_resnet(t: Tensors) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    spread = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    blocks = [
        sorted(int(k.split(".")[1]) for k in t if k.startswith(f"layer{s}.") and k.endswith("conv1.weight")) for s in (1, 2, 3)
    ]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = t[f"{name}.running_mean"], t[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, t[f"{name}.weight"], t[f"{name}.bias"], eps=1e-5)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        if x.shape[2:] != (32, 32):
            x = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False, antialias=True)
        x = ((x + 1) / 2 - mean) / spread
        x = F.relu(norm(F.conv2d(x, t["conv1.weight"], padding=1), "bn1"))
        for stage, numbers in enumerate(blocks, start=1):
            for number in numbers:
                name = f"layer{stage}.{number}"
                stride = 2 if stage > 1 and number == 0 else 1
                h = F.relu(norm(F.conv2d(x, t[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
                h = norm(F.conv2d(h, t[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
                if stride == 2:
                    # The shortcut drops every other pixel and pads a quarter of the new channels on each side with zeros.
                    x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, h.shape[1] // 4, h.shape[1] // 4))
                x = F.relu(h + x)
        features = x.mean((2, 3))
        return features, F.linear(features, t["linear.weight"], t["linear.bias"])

    return run


PLUGIN = Classifier()
