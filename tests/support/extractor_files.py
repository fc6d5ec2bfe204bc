"""Files that extractors are made from."""

import safetensors.torch
import torch

from regraft.extractors.mobilenet_v1 import WIDTHS
from regraft.methods._perceptual import VGG_CONVS


def network_card(folder, text):
    """Write the card of a network; return the extractor's name with it."""
    path = folder / "card.yaml"
    path.write_text(text)
    return f"network:{path}"


class Program(torch.nn.Module):
    """Counts nothing, keeps what it was given visible: the mean of each colour of its bytes."""

    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(3, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False):
        return img.float().mean((2, 3)) if return_features else self.output(img.float().mean((2, 3)))


def vgg16_state(dialect):
    """VGG16 of random weights under the names of a dialect, ``caffe`` or ``torch``."""
    rng = torch.Generator().manual_seed(0)
    blocks = [f"conv{b}_{k}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3)) for k in range(1, n + 1)]
    names = blocks if dialect == "caffe" else [f"features.{n}" for n, _ in VGG_CONVS]
    tensors, inputs = {}, 3
    for name, (_, width) in zip(names, VGG_CONVS):
        tensors[f"{name}.weight"] = torch.randn(width, inputs, 3, 3, generator=rng) * (2 / (9 * inputs)) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(width, generator=rng) * 0.1
        inputs = width
    return tensors | {"classifier.0.weight": torch.zeros(3)}


def write_mobilenet(path):
    """MobileNet of random weights in the published names and shapes."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"conv1": (32, 3, 3, 3)}
    for i in range(1, len(WIDTHS)):
        shapes |= {f"conv_dw_{i}": (WIDTHS[i - 1], 1, 3, 3), f"conv_pw_{i}": (WIDTHS[i], WIDTHS[i - 1], 1, 1)}
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=rng) * (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}_bn.{part}"] = torch.rand(shape[0], generator=rng) * 0.2 + (
                0.9 if part in ("weight", "running_var") else 0
            )
    safetensors.torch.save_file(tensors, path)
    return path
