"""Miners: small networks that choose where in a generator's latent space to sample, and generators that use them.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images".
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.build import build
from regraft.config import Config, parse
from regraft.gan import CENTRE_LATENTS, ClassCode, Description, Generator, Latent, Noise
from regraft.randomness import Rng, generator_at, global_seed


class MinerConfig(Config):
    """A network from the miner's own input u to the source's latent z."""

    form: Annotated[
        Literal["residual", "mlp", "affine"],
        Field(
            description="residual: z = u + f(u), the identity at first; mlp: the published ReLU network; "
            "affine: the published BigGAN form, spectral-normalised linear maps."
        ),
    ] = "residual"
    layers: Annotated[int, Field(ge=1, le=16, description="Linear layers.")] = 2
    width: Annotated[int | None, Field(ge=1, le=16384, description="Hidden width; the latent's size if left out.")] = None
    input_dim: Annotated[
        int | None, Field(ge=1, le=16384, description="Size of u; the latent's size if left out (residual needs that).")
    ] = None


class Miner(nn.Module):
    """Maps u (N, input_dim) to z (N, dim)."""

    def __init__(self, config: MinerConfig, latent: Latent) -> None:
        super().__init__()
        self.config = config
        self.residual = config.form == "residual"
        inputs = latent.dim if self.residual else config.input_dim or latent.dim
        # A residual miner starts from the source's own distribution; the published ones from N(0, I).
        self.latent = latent if self.residual else Latent(inputs)
        widths = [inputs, *[config.width or latent.dim] * (config.layers - 1), latent.dim]
        # Linear layers and spectral norm draw from the global generator when they are made.
        with global_seed(0):
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
            if config.form == "affine":
                for layer in self.layers:
                    nn.utils.parametrizations.spectral_norm(cast(nn.Linear, layer))

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw fresh weights: Glorot-uniform (orthogonal for affine), zero biases; a residual's last layer is zero."""
        for index, layer in enumerate(self.layers):
            tensors = dict(layer.named_parameters())
            weight = tensors.get("weight", tensors.get("parametrizations.weight.original"))
            assert weight is not None  # both forms of a linear layer have it
            tensors["bias"].zero_()
            if self.residual and index == len(self.layers) - 1:
                weight.zero_()
            elif self.config.form == "affine":
                square, _ = torch.linalg.qr(torch.randn(max(weight.shape), max(weight.shape), generator=rng))
                weight.copy_(square[: weight.shape[0], : weight.shape[1]])
            else:
                bound = math.sqrt(6 / sum(weight.shape))
                weight.copy_((torch.rand(weight.shape, generator=rng) * 2 - 1) * bound)

    def forward(self, u: Tensor) -> Tensor:
        """Mine: (N, input_dim) to (N, dim)."""
        h = u
        for index, layer in enumerate(self.layers):
            h = layer(h)
            if index < len(self.layers) - 1 and self.config.form != "affine":
                h = nn.functional.relu(h)
        return u + h if self.residual else h


class MinedGenerator(Generator):
    """A source generator behind a miner."""

    def __init__(self, miner: Miner, source: Generator) -> None:
        super().__init__()
        self.miner, self.source = miner, source
        self.latent = miner.latent
        self.n_classes, self.size, self.channels = source.n_classes, source.size, source.channels

    def forward(
        self, z: Tensor, y: Tensor | ClassCode | None = None, *, psi: float = 1.0, noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:  # fmt: skip
        """See :meth:`Generator.forward`; ``psi`` is the source's where it maps to styles, else it scales u."""
        if hasattr(self.source, "mapping"):
            return cast(Tensor, self.source(self.miner(z), y, psi=psi, noise=noise, rng=rng))
        return cast(Tensor, self.source(self.miner(z * psi), y, noise=noise, rng=rng))

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        return self.source.embed(y)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        inner = self.source.describe()
        config: dict[str, Any] = {
            "miner": self.miner.config.model_dump(mode="json"),
            "source": {"kind": inner.kind, "config": inner.config},
        }
        return Description("mined", "generator", config)

    @property
    def mapping(self) -> Callable[..., Tensor]:
        """Miner and mapping network of a source with styles: u (N, dim) and classes to styles (N, num_ws, w_dim)."""
        inner = cast(nn.Module, self.source.mapping)

        def mapping(u: Tensor, y: Tensor | ClassCode | None = None) -> Tensor:
            return cast(Tensor, inner(self.miner(u), y))

        return mapping

    @property
    def synthesis(self) -> nn.Module:
        """The source's synthesis network."""
        return cast(nn.Module, self.source.synthesis)

    @property
    def style_path(self) -> list[nn.Module]:
        """See :meth:`Generator.style_path`."""
        inner = self.source.style_path
        return [self.miner, *inner] if inner else []

    def recentre(self, z: Tensor | None = None) -> None:
        """See :meth:`Generator.recentre`: over styles of mined latents."""
        if self.style_path:
            with torch.no_grad():
                u = self.latent.sample(CENTRE_LATENTS, generator_at(0, "mean style")) if z is None else z
                self.source.recentre(self.miner(u.to(next(self.miner.parameters()).device)))

    @property
    def stages(self) -> list[nn.Module]:
        """Miner, then the source's stages."""
        return [self.miner, *self.source.stages]

    @property
    def norms(self) -> list[nn.Module]:
        """The source's norms."""
        return self.source.norms


def from_description(description: Description) -> MinedGenerator:
    """Build a mined generator, weights aside."""
    inner = description.config["source"]
    source = cast(Generator, build(Description(inner["kind"], "generator", inner["config"])))
    miner = Miner(parse(MinerConfig, description.config["miner"], "miner"), source.latent)
    return MinedGenerator(miner, source)
