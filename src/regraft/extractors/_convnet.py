"""The small classifier that ``regraft train-classifier`` makes."""

import json

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import SourceError
from regraft.extractors._tensors import Tensors, coloured, resized

MARK = "regraft_classifier"
WIDTHS = (32, 64, 128, 128)
GROUPS = 8
MOST_SIDE = 256
MOST_CLASSES = 100_000


def fresh(size: int, classes: tuple[str, ...], rng: torch.Generator) -> Tensors:
    """Weights at the start of training.

    Args:
        size: side of the images that it sees.
        classes: names.
        rng: draws the weights.
    """
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
    return tensors


def check(tensors: Tensors) -> tuple[int, tuple[str, ...]]:
    """Side of the images and class names of a file's tensors.

    Raises:
        SourceError: if something is missing or misshapen; without the file's name.
    """
    try:
        size = int(tensors[f"{MARK}.size"])
        names = json.loads(bytes(tensors[f"{MARK}.classes"].to(torch.uint8).flatten().tolist()))
        shapes = {"linear.weight": (len(names), WIDTHS[-1]), "linear.bias": (len(names),)}
        width = 3
        for i, out in enumerate(WIDTHS):
            shapes |= {f"conv{i}.weight": (out, width, 3, 3), f"norm{i}.weight": (out,), f"norm{i}.bias": (out,)}
            width = out
        got = {name: tuple(tensors[name].shape) for name in shapes}
    except KeyError as error:
        raise SourceError(f"a classifier without the tensor {error}") from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise SourceError(f"damaged size or class names ({error})") from None
    if got != shapes:
        wrong = next(name for name in shapes if got[name] != shapes[name])
        raise SourceError(f"{wrong} must be {shapes[wrong]}, it is {got[wrong]}")
    if not (8 <= size <= MOST_SIDE and 1 <= len(names) <= MOST_CLASSES and all(isinstance(n, str) for n in names)):
        raise SourceError(f"images of {size} pixels and {len(names)} classes are out of range")
    return size, tuple(names)


def run(tensors: Tensors, size: int, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 128) and logits (N, K) of images (N, 1 or 3, H, W) in [-1, 1]."""
    x = resized(coloured(images), size)
    for i in range(len(WIDTHS)):
        x = F.conv2d(x, tensors[f"conv{i}.weight"], stride=1 if i == 0 else 2, padding=1)
        x = F.relu(F.group_norm(x, GROUPS, tensors[f"norm{i}.weight"], tensors[f"norm{i}.bias"]))
    features = x.mean((2, 3))
    return features, F.linear(features, tensors["linear.weight"], tensors["linear.bias"])
