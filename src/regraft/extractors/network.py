"""Any network as an extractor; a card names its file, its input and the layer that is read.

    file: vgg.safetensors        # beside the card; .safetensors, .onnx with its sha256, or TorchScript
    size: 224
    mean: [0.485, 0.456, 0.406]  # of colours in [0, 1]; range instead for plain scaling
    std: [0.229, 0.224, 0.225]
    layers:                      # of a safetensors file
      - conv: features.0
        padding: 1
      - relu
      - pool: 2
    layer: 3                     # read after so many layers; all if left out

A TorchScript file is a program, which may read and write the user's files, loop, and exhaust memory.  A card cannot vouch for
the program beside it, as both may come from one archive: it runs only if the user names its sha256 in ``REGRAFT_TRUST``.
ONNX files are graphs without code of their own, run by ONNX Runtime (``pip install 'regraft[onnx]'``); their card must contain
their sha256, and they must contain all their weights, so that the digest covers these.
"""

import os
import pathlib
import re
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.config import Config, parse, read_yaml
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.extractors import _onnx, _weights
from regraft.extractors._images import resize, three_channels
from regraft.extractors.base import Extractor, Features

TRUST = "REGRAFT_TRUST"
"""Environment variable with the sha256 of the TorchScript files that may run, separated by commas."""


class Layer(Config):
    """One layer of a network that a card describes."""

    conv: Annotated[str | None, Field(description="A convolution: name of its tensors, without .weight.")] = None
    linear: Annotated[str | None, Field(description="A linear layer on the flattened image: name of its tensors.")] = None
    norm: Annotated[str | None, Field(description="A batch normalisation: name of its tensors.")] = None
    pool: Annotated[int | None, Field(ge=2, le=64, description="A maximum pool: its side in pixels.")] = None
    stride: Annotated[
        int | None, Field(ge=1, le=64, description="Stride; default: 1 for a convolution, its side for a pool.")
    ] = None
    padding: Annotated[int, Field(ge=0, le=64, description="Zeros around the image of a convolution, in pixels.")] = 0
    groups: Annotated[int, Field(ge=1, description="Groups of a convolution.")] = 1
    eps: Annotated[float, Field(gt=0, description="Added to the variance of a normalisation.")] = 1e-5


class Card(Config):
    """The card of a network."""

    file: Annotated[str, Field(description="File of the network, relative to the card's folder, or an absolute path.")]
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$", description="Digest of the file; required for ONNX.")] = None
    name: Annotated[str | None, Field(description="Name in scores; default: the file's name.")] = None
    size: Annotated[int, Field(ge=4, le=4096, description="Side that images are resized to, in pixels.")]
    range: Annotated[tuple[float, float], Field(description="Values of black and white.")] = (0.0, 1.0)
    mean: Annotated[
        tuple[float, float, float] | None, Field(description="Subtracted from red, green and blue, after range.")
    ] = None
    std: Annotated[tuple[float, float, float] | None, Field(description="Divides red, green and blue, after mean.")] = None
    layers: Annotated[
        tuple[Layer | Literal["relu", "relu6", "flatten", "mean"], ...], Field(description="Layers in order.")
    ] = ()
    layer: Annotated[int | None, Field(ge=1, description="Number of layers after which features are read; default: all.")] = (
        None
    )
    logits: Annotated[bool, Field(description="Whether the features are class logits.")] = False


class Network(Extractor):
    """Features of any network, by a card."""

    summary = "any TorchScript, ONNX or safetensors network by a small card: --extractor network:CARD.yaml"
    costly = True

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Read the card and its network, and try it on one image."""
        if weights is None:
            raise ConfigError("the extractor network needs a card: --extractor network:CARD.yaml")
        card = parse(Card, read_yaml(weights, "a card of an extractor"), str(weights))
        path = weights.parent / card.file
        digest = _weights.sha256_of(path)
        if card.sha256 is not None and card.sha256 != digest:
            raise SourceError(f"{path}: has sha256 {digest}, and its card {weights} says {card.sha256}")
        if path.suffix.lower() == ".safetensors":
            function = _sequence(card, _weights.read_tensors(path), path)
        else:
            function = _load_program(card, path, weights, digest)

        def features(images: Tensor) -> Tensor:
            return _as_rows(function(_network_input(card, images)), path)

        with torch.no_grad():
            try:
                features(torch.zeros(1, 3, card.size, card.size))
            except (RuntimeError, ValueError, IndexError) as error:
                reason = " ".join(str(error).split())[-200:]
                raise SourceError(f"{weights}: the network does not run on one image of {card.size} pixels: {reason}") from None

        def classify(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = features(images)
            return logits, logits

        # Two cards for one file are two extractors.
        digest = tensor_digest({digest: torch.tensor(list(card.model_dump_json(exclude={"file", "name"}).encode()))})
        name = f"network:{card.name or path.name}"
        return Features(name, digest, features, classify if card.logits else None, batch=64)


def _network_input(card: Card, images: Tensor) -> Tensor:
    """Bring images (N, 1 or 3, H, W) in [-1, 1] to the size and the values of a card."""
    low, high = card.range
    x = (resize(three_channels(images), card.size) + 1) / 2 * (high - low) + low
    for constants, apply in ((card.mean, torch.sub), (card.std, torch.div)):
        if constants is not None:
            x = apply(x, torch.tensor(constants).view(1, 3, 1, 1))
    return x


def _as_rows(output: object, path: pathlib.Path) -> Tensor:
    """Check the output of a network and average it over the image if it has sides.

    Returns:
        Features, (N, D).

    Raises:
        SourceError: if the output is no tensor (N, D) or (N, C, H, W).
    """
    if isinstance(output, Tensor) and output.dim() == 4:
        return output.mean((2, 3))
    if isinstance(output, Tensor) and output.dim() == 2:
        return output
    kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise SourceError(f"{path}: gives {kind}; it must give one tensor (N, D) or (N, C, H, W)")


def _load_program(card: Card, path: pathlib.Path, where: pathlib.Path, digest: str) -> Callable[[Tensor], object]:
    """Load a TorchScript or ONNX file that may be run."""
    is_graph = path.suffix.lower() == ".onnx"
    if is_graph and card.sha256 is None:
        raise SourceError(f"{path}: an ONNX file needs its digest in the card; write 'sha256: {digest}' into {where}")
    if not is_graph and digest not in re.findall("[0-9a-f]{64}", os.environ.get(TRUST, "").lower()):
        raise SourceError(
            f"{path}: a TorchScript file is a program, which may read and write your files; if you trust where it comes from, "
            f"set the environment variable {TRUST}={digest}"
        )
    if card.layers or card.layer is not None:
        raise ConfigError(f"{where}: layers are for safetensors files; a TorchScript or ONNX file gives what it gives")
    return _onnx.graph(path) if is_graph else _weights.load_torchscript(path)


def _sequence(card: Card, tensors: dict[str, Tensor], path: pathlib.Path) -> Callable[[Tensor], object]:
    """Build a network of a card's layers."""
    if not card.layers:
        raise ConfigError(f"{path}: holds tensors only; write the network's layers into its card")
    layers = card.layers[: card.layer]

    def tensor(name: str) -> Tensor:
        if name not in tensors:
            raise SourceError(f"{path}: holds no tensor {name}; it has {', '.join(sorted(tensors)[:6])} ...")
        return tensors[name]

    def run(images: Tensor) -> Tensor:
        x = images
        for layer in layers:
            x = _FUNCTIONS[layer](x) if isinstance(layer, str) else _apply(layer, x, tensor, tensors.get)
        return x

    return run


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "flatten": lambda x: x.flatten(1),
    "mean": lambda x: x.mean((2, 3)),
}


def _apply(layer: Layer, x: Tensor, required: Callable[[str], Tensor], optional: Callable[[str], Tensor | None]) -> Tensor:
    """Apply a layer of a card.

    Args:
        layer: the layer.
        x: its input.
        required: returns the tensor of a name, or raises.
        optional: returns the tensor of a name, or None.
    """
    given = [n for n in ("conv", "linear", "norm", "pool") if getattr(layer, n) is not None]
    if len(given) != 1:
        raise ConfigError(f"a layer is one of conv, linear, norm and pool; this one is {' and '.join(given) or 'nothing'}")
    if layer.pool is not None:
        return F.max_pool2d(x, layer.pool, layer.stride or layer.pool)
    name = str(getattr(layer, given[0]))
    weight, bias = required(f"{name}.weight"), optional(f"{name}.bias")
    if layer.conv is not None:
        return F.conv2d(x, weight, bias, layer.stride or 1, layer.padding, groups=layer.groups)
    if layer.linear is not None:
        return F.linear(x.flatten(1), weight, bias)
    mean, variance = required(f"{name}.running_mean"), required(f"{name}.running_var")
    return F.batch_norm(x, mean, variance, weight, bias, eps=layer.eps)


PLUGIN = Network()
