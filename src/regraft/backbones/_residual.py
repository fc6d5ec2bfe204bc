"""Residual blocks of the SNGAN line of GANs, with the habits in which public implementations differ as settings."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _spectral
from regraft.backbones._conditional import LinearNorm, TableNorm
from regraft.core.config import Config

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Upsampling = Literal["nearest", "bilinear"]


class BlockConfig(Config):
    """One residual block and the attention layer that may follow it."""

    inputs: Width
    hidden: Width
    outputs: Width
    resample: Annotated[bool, Field(description="Doubles the side in a generator, halves it in a critic.")] = True
    shortcut: Annotated[bool, Field(description="A 1x1 convolution on the shortcut.")] = True
    attention: Annotated[
        tuple[Width, Width] | None, Field(description="Channels of keys and of values of self-attention after the block.")
    ] = None

    @model_validator(mode="after")
    def _fits(self) -> "BlockConfig":
        if not self.shortcut and (self.inputs != self.outputs or self.resample):
            raise ValueError("a block that changes the map's shape needs a shortcut convolution")
        return self


def check_chain(blocks: tuple[BlockConfig, ...]) -> None:
    """Check that every block takes what the one before gives.

    Raises:
        ValueError: if there is no block, or two do not fit.
    """
    if not blocks:
        raise ValueError("a network needs at least one block")
    for index, (a, b) in enumerate(zip(blocks[:-1], blocks[1:], strict=True)):
        if a.outputs != b.inputs:
            raise ValueError(f"block {index} gives {a.outputs} channels, block {index + 1} takes {b.inputs}")


class Attention(nn.Module):
    """Self-attention over the map, keys and values pooled 2x2, without a temperature.

    Source: Zhang et al. 2019, "Self-attention generative adversarial networks"; the pooling and widths of its public code.
    """

    def __init__(self, channels: int, keys: int, values: int, **spectral: Any) -> None:
        super().__init__()
        self.query = _spectral.conv(channels, keys, 1, bias=False, **spectral)
        self.key = _spectral.conv(channels, keys, 1, bias=False, **spectral)
        self.value = _spectral.conv(channels, values, 1, bias=False, **spectral)
        self.out = _spectral.conv(values, channels, 1, bias=False, **spectral)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within maps (N, C, H, W)."""
        key = functional.max_pool2d(self.key(x), 2).flatten(2)
        value = functional.max_pool2d(self.value(x), 2).flatten(2)
        weights = torch.softmax(self.query(x).flatten(2).transpose(1, 2) @ key, dim=-1)
        seen = (value @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        result: Tensor = x + self.strength * self.out(seen)
        return result


class OneHotNorm(nn.Module):
    """Normalise, then scale by 1 + gain and shift by bias, both linear in the one-hot class.

    Attributes:
        codes: what each class gives, (n_classes, 2 C): gains with the 1 added, then shifts.
    """

    def __init__(self, channels: int, n_classes: int, spectral: _spectral.Dialect | None, eps: float, sn_eps: float) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.gain = _spectral.linear(n_classes, channels, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.bias = _spectral.linear(n_classes, channels, bias=False, spectral=spectral, sn_eps=sn_eps)

    @property
    def codes(self) -> Tensor:
        """See the class."""
        gain, bias = (m.normalised if isinstance(m, _spectral.Linear) else m.weight for m in (self.gain, self.bias))
        return torch.cat([1 + gain.t(), bias.t()], dim=1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, 2 C)."""
        scale, shift = code[:, : self.channels, None, None], code[:, self.channels :, None, None]
        return torch.addcmul(shift, self.norm(x), scale)


Norm = nn.BatchNorm2d | TableNorm | OneHotNorm | LinearNorm


class GeneratorBlock(nn.Module):
    """norm, relu, upsampling, 3x3, norm, relu, 3x3, beside an upsampled 1x1 shortcut; attention may follow."""

    def __init__(self, config: BlockConfig, norms: tuple[Norm, Norm], upsampling: Upsampling, **spectral: Any) -> None:
        super().__init__()
        self.config, self.upsampling = config, upsampling
        c = config
        self.norm1, self.norm2 = norms
        self.conv1 = _spectral.conv(c.inputs, c.hidden, 3, padding=1, **spectral)
        self.conv2 = _spectral.conv(c.hidden, c.outputs, 3, padding=1, **spectral)
        self.shortcut = _spectral.conv(c.inputs, c.outputs, 1, **spectral) if c.shortcut else None
        self.attention = Attention(c.outputs, *c.attention, **spectral) if c.attention else None

    def forward(self, x: Tensor, codes: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map (N, C, H, W); ``codes`` are those of the two norms where they take any."""
        h = self.norm1(x) if codes is None else self.norm1(x, codes[0])
        h = self.conv1(self._up(functional.relu(h)))
        h = self.norm2(h) if codes is None else self.norm2(h, codes[1])
        h = self.conv2(functional.relu(h))
        x = h + (x if self.shortcut is None else self.shortcut(self._up(x)))
        return x if self.attention is None else self.attention(x)

    def _up(self, x: Tensor) -> Tensor:
        if not self.config.resample:
            return x
        align = False if self.upsampling == "bilinear" else None
        return functional.interpolate(x, scale_factor=2, mode=self.upsampling, align_corners=align)


class CriticBlock(nn.Module):
    """relu, 3x3, relu, 3x3, pooling, beside a shortcut; attention may follow.

    The first block of a critic has no relu before its first convolution and pools before its shortcut.  ``rectified`` takes
    the shortcut from relu(x): public code rectifies in place, so files were trained that way.
    """

    def __init__(self, config: BlockConfig, *, first: bool, rectified: bool, norm_eps: float | None, **spectral: Any) -> None:
        super().__init__()
        self.config, self.first, self.rectified = config, first, rectified
        c = config
        self.conv1 = _spectral.conv(c.inputs, c.hidden, 3, padding=1, **spectral)
        self.conv2 = _spectral.conv(c.hidden, c.outputs, 3, padding=1, **spectral)
        self.shortcut = _spectral.conv(c.inputs, c.outputs, 1, **spectral) if c.shortcut else None
        normed = norm_eps is not None
        eps = norm_eps or 0.0
        self.norm0 = nn.BatchNorm2d(c.inputs, eps=eps) if normed and c.shortcut else None
        self.norm1 = nn.BatchNorm2d(c.inputs, eps=eps) if normed and not first else None
        self.norm2 = nn.BatchNorm2d(c.hidden, eps=eps) if normed else None
        self.attention = Attention(c.outputs, *c.attention, **spectral) if c.attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W)."""
        h = x if self.norm1 is None else self.norm1(x)
        h = self.conv1(h if self.first else functional.relu(h))
        h = h if self.norm2 is None else self.norm2(h)
        h = self._pooled(self.conv2(functional.relu(h)))
        x = h + self._skip(x)
        return x if self.attention is None else self.attention(x)

    def _skip(self, x: Tensor) -> Tensor:
        if self.rectified and not self.first:
            x = functional.relu(x)
        if self.first:
            x = self._pooled(x)
        if self.shortcut is not None:
            x = self.shortcut(x if self.norm0 is None else self.norm0(x))
        return x if self.first else self._pooled(x)

    def _pooled(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2) if self.config.resample else x


class First(nn.Module):
    """Latent to the first map, channel by channel."""

    def __init__(self, inputs: int, channels: int, side: int, **spectral: Any) -> None:
        super().__init__()
        self.side = side
        self.linear = _spectral.linear(inputs, channels * side * side, **spectral)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, inputs) to (N, C, side, side)."""
        x: Tensor = self.linear(z)
        return x.view(len(z), -1, self.side, self.side)


class Last(nn.Module):
    """norm, relu, 3x3, tanh."""

    def __init__(self, inputs: int, channels: int, eps: float, **spectral: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, eps=eps)
        self.conv = _spectral.conv(inputs, channels, 3, padding=1, **spectral)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to images (N, C, H, W)."""
        return torch.tanh(self.conv(functional.relu(self.norm(x))))


class Head(nn.Module):
    """relu, pooling over the map, linear score; a class term or class logits where the critic has them."""

    def __init__(
        self,
        inputs: int,
        n_classes: int,
        kind: Literal["none", "projection", "auxiliary"],
        pooling: Literal["sum", "mean"],
        bias: bool,
        **spectral: Any,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.score = _spectral.linear(inputs, 1, **spectral)
        self.classes: nn.Embedding | None = None
        if kind == "projection":
            dialect, eps = spectral["spectral"], spectral["sn_eps"]
            table: nn.Embedding = nn.Embedding(n_classes, inputs)
            if dialect is not None:
                table = _spectral.Embedding(n_classes, inputs, dialect=dialect, sn_eps=eps)
            self.classes = table
        self.classifier = _spectral.linear(inputs, n_classes, bias=bias, **spectral) if kind == "auxiliary" else None

    def features(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C)."""
        x = functional.relu(x)
        return x.sum((2, 3)) if self.pooling == "sum" else x.mean((2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Score maps (N, C, H, W), (N,); ``y`` (N,) adds the projection."""
        features = self.features(x)
        scores: Tensor = self.score(features).squeeze(1)
        if y is None or self.classes is None:
            return scores
        aligned: Tensor = (self.classes(y) * features).sum(1)
        return scores + aligned


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Glorot's uniform weights, sqrt(2) times as wide inside blocks; zero biases; settled power iterations.

    Source: Miyato et al. 2018, appendix; Miyato and Koyama 2018.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            wide = name.endswith((".conv1", ".conv2"))
            nn.init.xavier_uniform_(module.weight, math.sqrt(2) if wide else 1.0)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, TableNorm):
            nn.init.normal_(module.codes[:, : module.channels], 1.0, 0.02)
            nn.init.zeros_(module.codes[:, module.channels :])
        if isinstance(module, Attention):
            nn.init.zeros_(module.strength)
    for module in network.modules():
        if isinstance(module, _spectral.Spectral):
            # Evaluation with stored vectors needs them to be those of the weights from the start.
            for _ in range(15):
                module.train().after_step()
