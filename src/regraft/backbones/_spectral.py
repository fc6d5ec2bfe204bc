"""Spectral normalisation in the dialects of public checkpoints, without writing buffers while a loss is computed.

A layer keeps the plain ``weight`` W and the vectors of the power iteration, ``u`` (out,) and ``v`` (in,).  Its largest singular
value is estimated as sigma = u W v.  In evaluation the dialect decides which vectors are used: ``stored`` (torch's own) takes
the stored ones, ``fresh`` (BigGAN, mimicry's own class) does one power step from u without keeping its result.  In training
both do one step from the stored u, and :meth:`Spectral.after_step` keeps its result.

Source: Miyato et al. 2018, "Spectral normalization for generative adversarial networks".
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Dialect = Literal["stored", "fresh"]

SETTLING_STEPS = 15
"""Power steps after which stored vectors are those of a new weight."""


class Spectral(nn.Module):
    """Mixed into a layer with a ``weight``: divides the weight by an estimate of its largest singular value."""

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
    def iterate(self, steps: int) -> None:
        """Do some power steps and keep their result."""
        for _ in range(steps):
            u, v = self._power_step()
            self.u.copy_(u)
            self.v.copy_(v)

    def after_step(self) -> None:
        """Do one power step and keep its result, in training only."""
        if self.training:
            self.iterate(1)


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
    """A table with spectral normalisation, whose rows can be mixed."""

    def forward(self, y: Tensor) -> Tensor:
        """Look up the rows of indices (N,), or mix rows with weights (N, rows)."""
        table = self.normalised
        return y @ table if y.is_floating_point() else functional.embedding(y, table)


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    padding: int = 0,
    bias: bool = True,
    spectral: Dialect | None,
    sn_eps: float = 1e-12,
) -> nn.Conv2d:
    """Build a convolution, with spectral normalisation unless ``spectral`` is None."""
    if spectral is None:
        return nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias)
    return Conv2d(inputs, outputs, kernel, padding=padding, bias=bias, dialect=spectral, sn_eps=sn_eps)


def linear(inputs: int, outputs: int, *, bias: bool = True, spectral: Dialect | None, sn_eps: float = 1e-12) -> nn.Linear:
    """Build a linear layer, with spectral normalisation unless ``spectral`` is None."""
    if spectral is None:
        return nn.Linear(inputs, outputs, bias=bias)
    return Linear(inputs, outputs, bias=bias, dialect=spectral, sn_eps=sn_eps)
