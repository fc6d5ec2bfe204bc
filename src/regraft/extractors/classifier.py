"""Penultimate features of a classifier read from a file.

Three kinds are recognised by their tensors: what ``regraft train-classifier`` writes (128 features), LeNet-5 for 32x32 digits
(84 features) and the CIFAR-10 ResNets of He et al. 2016, section 4.2, with padded shortcuts (64 features).  The file is read as
plain tensors; no code in it is run.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors._images import resize, three_channels
from regraft.extractors._weights import Tensors, read_tensors
from regraft.extractors.base import Extractor, Features

MARK = "regraft_classifier"
"""Prefix of the tensors that hold the settings of a :class:`ConvNet`."""
WIDTHS = (32, 64, 128, 128)
GROUPS = 8
MAX_SIDE = 256
MAX_CLASSES = 100_000


class Classifier(Extractor):
    """Features of a classifier's last hidden layer."""

    summary = "penultimate features of a classifier from a file (train-classifier's own, LeNet-5, CIFAR ResNet)"

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Read the file and recognise the network."""
        if weights is None:
            raise ConfigError("the extractor classifier needs a file: --extractor classifier:FILE")
        tensors = read_classifier(weights)
        network = _network(tensors, weights)
        classes = network.classes if isinstance(network, ConvNet) else ()
        digest = tensor_digest(tensors)
        return Features(f"classifier:{weights.name}", digest, lambda x: network(x)[0], classify=network, classes=classes)


@dataclasses.dataclass(frozen=True)
class ConvNet:
    """The small classifier that ``regraft train-classifier`` makes.

    Attributes:
        tensors: weights, side and class names, as its file holds them.
        size: side of the images that it is given.
        classes: names of the classes.
    """

    tensors: Tensors
    size: int
    classes: tuple[str, ...]

    @classmethod
    def new(cls, size: int, classes: tuple[str, ...], rng: torch.Generator) -> "ConvNet":
        """Draw the weights that training starts from."""
        tensors: Tensors = {}
        width = 3
        for i, out in enumerate(WIDTHS):
            tensors[f"conv{i}.weight"] = torch.randn(out, width, 3, 3, generator=rng) * (2 / (width * 9)) ** 0.5
            tensors[f"norm{i}.weight"], tensors[f"norm{i}.bias"] = torch.ones(out), torch.zeros(out)
            width = out
        tensors["linear.weight"] = torch.randn(len(classes), width, generator=rng) * width**-0.5
        tensors["linear.bias"] = torch.zeros(len(classes))
        tensors[f"{MARK}.size"] = torch.tensor(size)
        tensors[f"{MARK}.classes"] = torch.tensor(list(json.dumps(classes).encode()), dtype=torch.uint8)
        return cls(tensors, size, classes)

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> "ConvNet":
        """Check the tensors of a file.

        Raises:
            SourceError: if a tensor is missing or has the wrong shape; the message does not name the file.
        """
        try:
            size = int(tensors[f"{MARK}.size"])
            names = json.loads(bytes(tensors[f"{MARK}.classes"].to(torch.uint8).flatten().tolist()))
            expected = {"linear.weight": (len(names), WIDTHS[-1]), "linear.bias": (len(names),)}
            width = 3
            for i, out in enumerate(WIDTHS):
                expected |= {f"conv{i}.weight": (out, width, 3, 3), f"norm{i}.weight": (out,), f"norm{i}.bias": (out,)}
                width = out
            shapes = {name: tuple(tensors[name].shape) for name in expected}
        except KeyError as error:
            raise SourceError(f"a classifier without the tensor {error}") from None
        except (ValueError, TypeError, RuntimeError) as error:
            raise SourceError(f"damaged size or class names ({error})") from None
        if shapes != expected:
            wrong = next(name for name in expected if shapes[name] != expected[name])
            raise SourceError(f"{wrong} must be {expected[wrong]}, it is {shapes[wrong]}")
        if not (8 <= size <= MAX_SIDE and 1 <= len(names) <= MAX_CLASSES and all(isinstance(n, str) for n in names)):
            raise SourceError(f"images of {size} pixels and {len(names)} classes are out of range")
        return cls(tensors, size, tuple(names))

    def parameters(self) -> list[Tensor]:
        """Return the tensors that training changes."""
        return [tensor for name, tensor in self.tensors.items() if not name.startswith(MARK)]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, 128) and class logits (N, K) of images (N, 1 or 3, H, W) in [-1, 1]."""
        x = resize(three_channels(images), self.size)
        for i in range(len(WIDTHS)):
            x = F.conv2d(x, self.tensors[f"conv{i}.weight"], stride=1 if i == 0 else 2, padding=1)
            x = F.relu(F.group_norm(x, GROUPS, self.tensors[f"norm{i}.weight"], self.tensors[f"norm{i}.bias"]))
        features = x.mean((2, 3))
        return features, F.linear(features, self.tensors["linear.weight"], self.tensors["linear.bias"])


def class_logits(weights: pathlib.Path, images: Tensor, batch: int = 256) -> Tensor:
    """Return class logits (N, K) of images (N, C, H, W) in [-1, 1] under a classifier file.

    Raises:
        SourceError: if the file is no known classifier.
    """
    network = _network(read_classifier(weights), weights)
    with torch.no_grad():
        return torch.cat([network(part)[1] for part in torch.split(images, batch)])


def read_classifier(path: pathlib.Path) -> Tensors:
    """Read the tensors of a classifier file.

    Raises:
        SourceError: if it cannot be read, or holds anything but named tensors.
    """
    return read_tensors(path, "classifier")


def _network(tensors: Tensors, path: pathlib.Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Recognise a classifier by its tensors, as a function of images that returns features and logits."""
    try:
        if f"{MARK}.size" in tensors:
            return ConvNet.from_tensors(tensors)
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
    """Build LeNet-5 for 32x32 digits."""

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
    """Build a CIFAR-10 ResNet; tensor names say how many blocks each stage has."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    blocks = [
        sorted(int(k.split(".")[1]) for k in t if k.startswith(f"layer{s}.") and k.endswith("conv1.weight")) for s in (1, 2, 3)
    ]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = t[f"{name}.running_mean"], t[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, t[f"{name}.weight"], t[f"{name}.bias"], eps=1e-5)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        x = resize(three_channels(images), 32)
        x = ((x + 1) / 2 - mean) / std
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
