"""What BigGAN and BigGAN-deep share: widths, the first layer, the critic's head, new classes and fresh weights.

Source: Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis".
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _spectral
from regraft.backbones._attention import SelfAttention
from regraft.backbones._conditional import TableNorm, look_up_rows
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import ClassCode, Generator
from regraft.core.randomness import generator_at

GeneratorT = TypeVar("GeneratorT", bound=Generator)

CLASS_DIM = 128
"""Width of the class table that :meth:`Generator.with_classes` gives a generator; the published width."""

UP_MULTIPLES = {
    32: ((4, 4, 4), (4, 4, 4)),
    64: ((16, 16, 8, 4), (16, 8, 4, 2)),
    128: ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1)),
    256: ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1)),
    512: ((16, 16, 8, 8, 4, 2, 1), (16, 8, 8, 4, 2, 1, 1)),
}
"""For each image side: channels into and out of each upsampling block, in multiples of the base width, latent side first."""

DOWN_MULTIPLES = {
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
}
"""For each image side: multiples of the base width out of each critic block, image side first; all but the last halve."""


def up_multiples(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the multiples of the base width into, and out of, each doubling; sides below 32 follow the 32 px network.

    Raises:
        ConfigError: if there is no BigGAN for images of that side.
    """
    doublings = size.bit_length() - 3
    if size not in UP_MULTIPLES and (doublings < 1 or size != 4 << doublings or size > 32):
        raise ConfigError(f"a BigGAN has a side of 8, 16, 32, 64, 128, 256 or 512, not {size}")
    return UP_MULTIPLES.get(size, ((4,) * doublings, (4,) * doublings))


class Entry(nn.Module):
    """The first layer: the class table, where there is one, and the linear map from the latent to the smallest feature map."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        side: int,
        n_classes: int,
        class_dim: int,
        spectral: _spectral.Dialect | None,
        sn_eps: float,
    ) -> None:
        super().__init__()
        self.side = side
        # Never spectrally normalised, whatever the other layers are.
        self.shared = nn.Embedding(n_classes, class_dim) if n_classes and class_dim else None
        self.linear = _spectral.linear(inputs, channels * side * side, spectral=spectral, sn_eps=sn_eps)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, inputs) to (N, channels, side, side)."""
        out: Tensor = self.linear(z).view(len(z), -1, self.side, self.side)
        return out

    def embed(self, y: Tensor) -> ClassCode:
        """Return class vectors: rows of the class table, or mixtures of them."""
        if self.shared is None:
            raise MissingCapability("this generator has no class table")
        return ClassCode(look_up_rows(self.shared.weight, y))


class Head(nn.Module):
    """The critic's end: relu, sum over places to h, score linear(h) + h . class vector.

    Source: Miyato & Koyama 2018, "cGANs with projection discriminator".
    """

    def __init__(self, channels: int, n_classes: int, spectral: _spectral.Dialect | None, sn_eps: float) -> None:
        super().__init__()
        self.linear = _spectral.linear(channels, 1, spectral=spectral, sn_eps=sn_eps)
        self.classes: nn.Embedding | None = None
        if n_classes and spectral is not None:
            self.classes = _spectral.Embedding(n_classes, channels, dialect=spectral, sn_eps=sn_eps)
        elif n_classes:
            self.classes = nn.Embedding(n_classes, channels)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Score features (N, C, H, W) under classes (N,), or without any class term; returns (N,)."""
        pooled = functional.relu(x).sum((2, 3))
        scores: Tensor = self.linear(pooled).squeeze(1)
        if y is None or self.classes is None:
            return scores
        aligned: Tensor = (self.classes(y) * pooled).sum(1)
        return scores + aligned


@torch.no_grad()
def add_class_inputs(conditional: GeneratorT, generator: Generator, *, class_first: bool) -> GeneratorT:
    """Fill a generator with classes from one without, so that it makes the same images for every class.

    Args:
        conditional: the generator that is filled and returned; its class table is drawn from a fixed seed.
        generator: the generator from which all other tensors are copied; additional inputs get zero columns.
        class_first: whether class vectors come before the latent.
    """
    tensors = {}
    for name, value in conditional.state_dict().items():
        if name == "entry.shared.weight":
            tensors[name] = torch.randn(value.shape, generator=generator_at(0, "class table"))
            continue
        old = generator.state_dict()[name]
        added = value.shape[-1] - old.shape[-1] if old.dim() else 0
        padding = (added, 0) if class_first else (0, added)
        tensors[name] = functional.pad(old, padding) if added else old.clone()
    conditional.load_state_dict(tensors, strict=True)
    return conditional.train(generator.training)


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw orthogonal weights, and biases as torch's constructors draw them, uniform within 1 / sqrt(fan in)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(module.weight)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.bias, -bound, bound)
        if isinstance(module, _spectral.Spectral):
            nn.init.normal_(module.u)
            module.iterate(3)
        if isinstance(module, TableNorm):
            for half, centre in zip(module.codes.chunk(2, dim=1), (1.0, 0.0), strict=True):
                half.copy_(nn.init.orthogonal_(torch.empty_like(half)) + centre)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, SelfAttention):
            module.gamma.zero_()
