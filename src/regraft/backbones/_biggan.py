"""What BigGAN and BigGAN-deep share: the way in, the critic's head, class vectors and fresh weights.

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
"""Width of the class table that a generator without one is given, as published."""

UP = {
    32: ((4, 4, 4), (4, 4, 4)),
    64: ((16, 16, 8, 4), (16, 8, 4, 2)),
    128: ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1)),
    256: ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1)),
    512: ((16, 16, 8, 8, 4, 2, 1), (16, 8, 8, 4, 2, 1, 1)),
}
"""Multiples of the base width into and out of each doubling of the generator, latent side first."""

DOWN = {
    64: (1, 2, 4, 8, 16),
    128: (1, 2, 4, 8, 16, 16),
    256: (1, 2, 4, 8, 8, 16, 16),
    512: (1, 1, 2, 4, 8, 8, 16, 16),
}
"""Multiples of the base width out of each critic block, image side first; all but the last halve the side."""


def up_multiples(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Width multiples of the generator; sides below 32 follow the 32 px network.

    Raises:
        ConfigError: if there is no such network.
    """
    doublings = size.bit_length() - 3
    if size not in UP and (doublings < 1 or size != 4 << doublings or size > 32):
        raise ConfigError(f"a BigGAN has a side of 8, 16, 32, 64, 128, 256 or 512, not {size}")
    return UP.get(size, ((4,) * doublings, (4,) * doublings))


class Entry(nn.Module):
    """The class table, where there is one, and the linear map from the latent to the smallest feature map."""

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
        """Rows of the class table."""
        if self.shared is None:
            raise MissingCapability("this generator has no class table")
        return ClassCode(look_up_rows(self.shared.weight, y))


class Head(nn.Module):
    """relu, sum over places, linear score plus the projection on a class vector.

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


def class_vector(generator: Generator, y: Tensor | ClassCode | None, width: int) -> Tensor:
    """The class vector (N, width) that a conditional generator was asked for.

    Raises:
        MissingCapability: if no class was given.
        ConfigError: if a class code has another width.
    """
    if y is None:
        raise MissingCapability("this generator is conditional: give class indices or a class code as y")
    vector = (y if isinstance(y, ClassCode) else generator.embed(y)).vector
    if vector.dim() != 2 or vector.shape[1] != width:
        raise ConfigError(f"this generator's class codes are (N, {width}), got {tuple(vector.shape)}")
    return vector


@torch.no_grad()
def add_class_inputs(made: GeneratorT, generator: Generator, *, first: bool) -> GeneratorT:
    """Fill a generator with classes from one without, so that it makes the same images for every class.

    Args:
        made: is filled and returned; its class table is drawn anew, from a fixed seed.
        generator: what all other tensors are from; inputs that ``made`` has more get zero columns.
        first: whether class vectors come before the latent.
    """
    tensors = {}
    for name, value in made.state_dict().items():
        if name == "entry.shared.weight":
            tensors[name] = torch.randn(value.shape, generator=generator_at(0, "class table"))
            continue
        old = generator.state_dict()[name]
        more = value.shape[-1] - old.shape[-1] if old.dim() else 0
        padding = (more, 0) if first else (0, more)
        tensors[name] = functional.pad(old, padding) if more else old.clone()
    made.load_state_dict(tensors, strict=True)
    return made.train(generator.training)


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw orthogonal weights; biases stay as torch's constructors draw them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(module.weight)
            bias = getattr(module, "bias", None)
            if bias is not None:
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(bias, -bound, bound)
        if isinstance(module, _spectral.Spectral):
            nn.init.normal_(module.u)
            for _ in range(3):
                u, v = module._power_step()
                module.u.copy_(u)
                module.v.copy_(v)
        if isinstance(module, TableNorm):
            for half, centre in zip(module.codes.chunk(2, dim=1), (1.0, 0.0), strict=True):
                half.copy_(nn.init.orthogonal_(torch.empty_like(half)) + centre)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, SelfAttention):
            module.gamma.zero_()
