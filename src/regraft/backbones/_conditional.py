"""Class-conditional batch normalisation in the two forms of public GANs, and the class codes that go with them.

Families with one shared class embedding map a code to each norm's gain and shift (:class:`LinearNorm`); families without one
keep a table per norm (:class:`TableNorm`), and their class code is the concatenation of all norms' gains and shifts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regraft.backbones import _spectral
from regraft.errors import ConfigError
from regraft.gan import ClassCode


class LinearNorm(nn.Module):
    """Normalise, then scale by 1 + gain(code) and shift by bias(code)."""

    def __init__(self, channels: int, code_dim: int, spectral: _spectral.Dialect | None, eps: float, sn_eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.gain = _spectral.linear(code_dim, channels, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.bias = _spectral.linear(code_dim, channels, bias=False, spectral=spectral, sn_eps=sn_eps)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, code_dim)."""
        scale, shift = 1 + self.gain(code), self.bias(code)
        return torch.addcmul(shift[:, :, None, None], self.norm(x), scale[:, :, None, None])


class TableNorm(nn.Module):
    """Normalise, then scale and shift by a row of a table: C gains, used as they are, then C shifts."""

    def __init__(self, channels: int, n_classes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.codes = nn.Parameter(torch.cat([torch.ones(n_classes, channels), torch.zeros(n_classes, channels)], dim=1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, 2 C)."""
        scale, shift = code[:, : self.channels, None, None], code[:, self.channels :, None, None]
        return torch.addcmul(shift, self.norm(x), scale)


def mixed(table: Tensor, y: Tensor) -> Tensor:
    """Rows of a table (classes, D): of indices (N,), or mixtures by weights (N, classes)."""
    return y.to(table) @ table if y.is_floating_point() else table[y]


def code_of(norms: Sequence[TableNorm], y: Tensor) -> ClassCode:
    """The class code of class indices (N,) or weights (N, classes): all norms' table rows, side by side."""
    return ClassCode(torch.cat([mixed(norm.codes, y) for norm in norms], dim=1))


def split(norms: Sequence[TableNorm], code: ClassCode) -> list[Tensor]:
    """Cut a class code into one part per norm.

    Raises:
        ConfigError: if it is not as wide as the norms need.
    """
    widths = [2 * norm.channels for norm in norms]
    if code.vector.dim() != 2 or code.vector.shape[1] != sum(widths):
        raise ConfigError(f"this generator's class codes are (N, {sum(widths)}), got {tuple(code.vector.shape)}")
    return list(torch.split(code.vector, widths, dim=1))
