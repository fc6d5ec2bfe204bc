"""Residual blocks of the SNGAN line of GANs; where public implementations differ, a setting says how."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _spectral
from regraft.backbones._conditional import LinearNorm, TableNorm
from regraft.backbones._spectral import Dialect
from regraft.core.config import Config

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Upsampling = Literal["nearest", "bilinear"]


class BlockConfig(Config):
    """Settings of one residual block and of the attention layer that may follow it."""

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
    """Check that every block takes as many channels as the one before gives.

    Raises:
        ValueError: if there is no block, or two do not fit.
    """
    if not blocks:
        raise ValueError("a network needs at least one block")
    for index, (a, b) in enumerate(zip(blocks[:-1], blocks[1:], strict=True)):
        if a.outputs != b.inputs:
            raise ValueError(f"block {index} gives {a.outputs} channels, block {index + 1} takes {b.inputs}")


class Attention(nn.Module):
    """x + strength * out(values, mixed by softmax(queries . keys)); keys and values are pooled 2x2, there is no temperature.

    Source: Zhang et al. 2019, "Self-attention generative adversarial networks"; the pooling and widths of its public code.
    """

    def __init__(self, channels: int, keys: int, values: int, *, spectral: Dialect | None, sn_eps: float) -> None:
        super().__init__()
        self.query = _spectral.conv(channels, keys, 1, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.key = _spectral.conv(channels, keys, 1, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.value = _spectral.conv(channels, values, 1, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.out = _spectral.conv(values, channels, 1, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within maps (N, C, H, W)."""
        key = functional.max_pool2d(self.key(x), 2).flatten(2)
        value = functional.max_pool2d(self.value(x), 2).flatten(2)
        weights = torch.softmax(self.query(x).flatten(2).transpose(1, 2) @ key, dim=-1)
        attended = (value @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        out: Tensor = x + self.strength * self.out(attended)
        return out


class OneHotNorm(nn.Module):
    """Normalise, then scale by 1 + gain and shift by bias, both linear in the one-hot class.

    Attributes:
        codes: factors 1 + gain, then shifts, of each class, (n_classes, 2 C).
    """

    def __init__(self, channels: int, n_classes: int, spectral: Dialect | None, eps: float, sn_eps: float) -> None:
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

    def __init__(
        self, config: BlockConfig, norms: tuple[Norm, Norm], upsampling: Upsampling, *, spectral: Dialect | None, sn_eps: float
    ) -> None:
        super().__init__()
        self.config, self.upsampling = config, upsampling
        c = config
        self.norm1, self.norm2 = norms
        self.conv1 = _spectral.conv(c.inputs, c.hidden, 3, padding=1, spectral=spectral, sn_eps=sn_eps)
        self.conv2 = _spectral.conv(c.hidden, c.outputs, 3, padding=1, spectral=spectral, sn_eps=sn_eps)
        self.shortcut = _spectral.conv(c.inputs, c.outputs, 1, spectral=spectral, sn_eps=sn_eps) if c.shortcut else None
        self.attention = Attention(c.outputs, *c.attention, spectral=spectral, sn_eps=sn_eps) if c.attention else None

    def forward(self, x: Tensor, codes: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map (N, C, H, W); ``codes`` are the codes of the two norms if they are conditional, else None."""
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

    The first block of a critic has no relu before its first convolution and pools before its shortcut.  With ``rectified`` the
    shortcut starts from relu(x): public code rectifies in place, so its files were trained that way.
    """

    def __init__(
        self,
        config: BlockConfig,
        *,
        first: bool,
        rectified: bool,
        norm_eps: float | None,
        spectral: Dialect | None,
        sn_eps: float,
    ) -> None:
        super().__init__()
        self.config, self.first, self.rectified = config, first, rectified
        c = config
        self.conv1 = _spectral.conv(c.inputs, c.hidden, 3, padding=1, spectral=spectral, sn_eps=sn_eps)
        self.conv2 = _spectral.conv(c.hidden, c.outputs, 3, padding=1, spectral=spectral, sn_eps=sn_eps)
        self.shortcut = _spectral.conv(c.inputs, c.outputs, 1, spectral=spectral, sn_eps=sn_eps) if c.shortcut else None
        has_norms, eps = norm_eps is not None, norm_eps or 0.0
        self.norm0 = nn.BatchNorm2d(c.inputs, eps=eps) if has_norms and c.shortcut else None
        self.norm1 = nn.BatchNorm2d(c.inputs, eps=eps) if has_norms and not first else None
        self.norm2 = nn.BatchNorm2d(c.hidden, eps=eps) if has_norms else None
        self.attention = Attention(c.outputs, *c.attention, spectral=spectral, sn_eps=sn_eps) if c.attention else None

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
    """The first layer: a linear map from the latent to the first feature map, channel by channel."""

    def __init__(self, inputs: int, channels: int, side: int, *, spectral: Dialect | None, sn_eps: float) -> None:
        super().__init__()
        self.side = side
        self.linear = _spectral.linear(inputs, channels * side * side, spectral=spectral, sn_eps=sn_eps)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, inputs) to (N, C, side, side)."""
        x: Tensor = self.linear(z)
        return x.view(len(z), -1, self.side, self.side)


class Last(nn.Module):
    """The last layer: norm, relu, 3x3, tanh."""

    def __init__(self, inputs: int, channels: int, eps: float, *, spectral: Dialect | None, sn_eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, eps=eps)
        self.conv = _spectral.conv(inputs, channels, 3, padding=1, spectral=spectral, sn_eps=sn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to images (N, C, H, W)."""
        return torch.tanh(self.conv(functional.relu(self.norm(x))))


class Head(nn.Module):
    """The critic's end: relu, pooling over places, linear score, and a projection or class logits where the critic has them."""

    def __init__(
        self,
        inputs: int,
        n_classes: int,
        kind: Literal["none", "projection", "auxiliary"],
        pooling: Literal["sum", "mean"],
        bias: bool,
        *,
        spectral: Dialect | None,
        sn_eps: float,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.score = _spectral.linear(inputs, 1, spectral=spectral, sn_eps=sn_eps)
        self.classes: nn.Embedding | None = None
        if kind == "projection":
            self.classes = nn.Embedding(n_classes, inputs)
            if spectral is not None:
                self.classes = _spectral.Embedding(n_classes, inputs, dialect=spectral, sn_eps=sn_eps)
        self.classifier = (
            _spectral.linear(inputs, n_classes, bias=bias, spectral=spectral, sn_eps=sn_eps) if kind == "auxiliary" else None
        )

    def features(self, x: Tensor) -> Tensor:
        """Rectify and pool (N, C, H, W) to (N, C)."""
        x = functional.relu(x)
        return x.sum((2, 3)) if self.pooling == "sum" else x.mean((2, 3))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Score maps (N, C, H, W); classes ``y`` (N,) add the projection.  Returns (N,)."""
        features = self.features(x)
        scores: Tensor = self.score(features).squeeze(1)
        if y is None or self.classes is None:
            return scores
        aligned: Tensor = (self.classes(y) * features).sum(1)
        return scores + aligned


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw Glorot's uniform weights, sqrt(2) times as wide inside blocks; set biases to zero; settle power iterations.

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
            module.iterate(_spectral.SETTLING_STEPS)
