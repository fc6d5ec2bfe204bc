"""Spectral normalisation in the dialects of public checkpoints, without writing buffers while a loss is computed.

A layer keeps the plain ``weight`` and the power iteration's vectors ``u`` (out,) and ``v`` (in,).  In evaluation the dialect
decides sigma: ``stored`` (torch's own) is u W v of the stored vectors, ``fresh`` (BigGAN, mimicry's own class) does one power
step from u without keeping it.  In training both take one step from the stored u; :meth:`after_step` keeps it.

Source: Miyato et al. 2018, "Spectral normalization for generative adversarial networks".
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Dialect = Literal["stored", "fresh"]


class Spectral(nn.Module):
    """Mixed into a layer with a ``weight``; divides it by an estimate of its largest singular value."""

    weight: Tensor
    u: Tensor
    v: Tensor

    def __init__(self, *args: Any, dialect: Dialect = "stored", sn_eps: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dialect, self.sn_eps = dialect, sn_eps
        matrix = self.weight.flatten(1)
        self.register_buffer("u", functional.normalize(torch.randn(matrix.shape[0]), dim=0))
        self.register_buffer("v", functional.normalize(torch.randn(matrix.shape[1]), dim=0))

    def _power_step(self) -> tuple[Tensor, Tensor]:
        matrix = self.weight.detach().flatten(1)
        v = functional.normalize(self.u @ matrix, dim=0, eps=self.sn_eps)
        return functional.normalize(matrix @ v, dim=0, eps=self.sn_eps), v

    @property
    def normalised(self) -> Tensor:
        """The weight over sigma; gradients flow through sigma, not through its vectors."""
        u, v = self._power_step() if self.training or self.dialect == "fresh" else (self.u, self.v)
        return self.weight / (u @ (self.weight.flatten(1) @ v))

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep one power step."""
        if self.training:
            u, v = self._power_step()
            self.u.copy_(u)
            self.v.copy_(v)


class Conv2d(Spectral, nn.Conv2d):
    """A convolution with spectral normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        out: Tensor = self._conv_forward(x, self.normalised, self.bias)
        return out


class Linear(Spectral, nn.Linear):
    """A linear layer with spectral normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return functional.linear(x, self.normalised, self.bias)


class Embedding(Spectral, nn.Embedding):
    """A table with spectral normalisation; rows can be mixed."""

    def forward(self, y: Tensor) -> Tensor:
        """Rows of indices (N,), or mixtures by weights (N, rows)."""
        table = self.normalised
        return y @ table if y.is_floating_point() else functional.embedding(y, table)


def conv(*args: Any, spectral: Dialect | None, sn_eps: float = 1e-12, **kwargs: Any) -> nn.Conv2d:
    """A convolution, with spectral normalisation unless ``spectral`` is None."""
    return nn.Conv2d(*args, **kwargs) if spectral is None else Conv2d(*args, dialect=spectral, sn_eps=sn_eps, **kwargs)


def linear(*args: Any, spectral: Dialect | None, sn_eps: float = 1e-12, **kwargs: Any) -> nn.Linear:
    """A linear layer, with spectral normalisation unless ``spectral`` is None."""
    return nn.Linear(*args, **kwargs) if spectral is None else Linear(*args, dialect=spectral, sn_eps=sn_eps, **kwargs)
