"""MindGANs: small networks that generate and score an autoencoder's codes, and generators made of one and the decoder.

Source: Fregier & Gouray 2019, "Mind2Mind: transfer learning for GANs", arXiv:1906.11613; widths from the authors' code.
"""

import math
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.core.build import build
from regraft.core.config import Config, parse
from regraft.core.errors import MissingCapability
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.networks import Autoencoder, ClassCode, Description, Generator, Noise
from regraft.core.randomness import Rng, global_seed

CodeRange = Literal["none", "tanh", "relu"]
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...], Field(max_length=32)]


class MindConfig(Config):
    """Settings of a network that maps latents to codes."""

    code_dim: Annotated[int, Field(ge=1, le=1 << 24, description="How many numbers a code has.")]
    widths: Annotated[Widths, Field(description="Hidden widths, from latents to codes; none for a single linear map.")] = (
        512,
        512,
    )
    norm: Annotated[Literal["none", "batch"], Field(description="Normalisation after each hidden layer.")] = "none"
    output: Annotated[CodeRange, Field(description="Activation of the output, by the range of the codes.")] = "none"
    latent_dim: Annotated[int, Field(ge=1, le=1 << 16, description="How many numbers a latent has.")] = 128
    distribution: Annotated[
        Literal["uniform", "normal"], Field(description="Distribution of the latent; uniform is on [-1, 1].")
    ] = "uniform"
    n_classes: Annotated[int, Field(ge=0, le=1 << 16, description="Number of classes, 0 for none.")] = 0
    class_dim: Annotated[int, Field(ge=1, le=1 << 12, description="How many numbers a class vector has.")] = 32


class Norm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of vectors."""

    def _check_input_dim(self, input: Tensor) -> None:
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, D); a single row in training has no statistics of its own and is normalised with the stored ones."""
        if len(input) > 1 or not self.training:
            return super().forward(input)
        return nn.functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Mind(nn.Module):
    """Maps latents (N, latent_dim), and classes, to codes (N, code_dim).

    Attributes:
        mean: mean code of the target in the autoencoder's units, towards which truncation pulls.
        shift, scale: mean and deviation that codes were standardised with; 0 and 1 if they were not.
    """

    mean: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, config: MindConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.latent_dim + (config.class_dim if config.n_classes else 0), *config.widths, config.code_dim]
        with global_seed(0):
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
            if config.n_classes:
                self.classes = nn.Parameter(torch.randn(config.n_classes, config.class_dim))
        self.norms = nn.ModuleList(Norm(w) for w in config.widths) if config.norm == "batch" else None
        self.register_buffer("mean", torch.zeros(config.code_dim))
        self.register_buffer("shift", torch.zeros(config.code_dim))
        self.register_buffer("scale", torch.ones(config.code_dim))

    def initialise(self, rng: torch.Generator) -> None:
        """Draw new weights; those of linear layers as torch does, which is the published way."""
        with global_seed(int(torch.randint(1 << 62, (), generator=rng))):
            for layer in self.layers:
                cast(nn.Linear, layer).reset_parameters()
            if self.config.n_classes:
                nn.init.normal_(self.classes)

    def forward(self, z: Tensor, code: Tensor | None = None) -> Tensor:
        """Make codes as the critic sees them, standardised if they were standardised for training.

        Args:
            z: latents (N, latent_dim).
            code: class vectors (N, class_dim), or None without classes.
        """
        x = z if code is None else torch.cat([z, code.to(z)], dim=1)
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k < len(self.layers) - 1:
                x = nn.functional.relu(x if self.norms is None else self.norms[k](x))
        return code_activation(x, self.config.output)

    def unstandardise(self, codes: Tensor) -> Tensor:
        """Bring standardised codes (N, code_dim) back to the autoencoder's units: codes * scale + shift."""
        return codes * self.scale + self.shift


def code_activation(x: Tensor, output: CodeRange) -> Tensor:
    """Apply the activation that brings numbers into the range of codes."""
    return torch.tanh(x) if output == "tanh" else nn.functional.relu(x) if output == "relu" else x


class MindCritic(nn.Module):
    """Scores codes (N, code_dim); classes enter by projection."""

    def __init__(self, code_dim: int, widths: tuple[int, ...], n_classes: int = 0) -> None:
        super().__init__()
        self.n_classes = n_classes
        pairs = zip((code_dim, *widths), (*widths, 1), strict=True)
        with global_seed(0):
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
            if n_classes:
                self.classes = nn.Embedding(n_classes, widths[-1] if widths else code_dim)

    def initialise(self, rng: torch.Generator) -> None:
        """Draw new weights, as published; class vectors start at zero."""
        with global_seed(int(torch.randint(1 << 62, (), generator=rng))):
            for layer in self.layers:
                cast(nn.Linear, layer).reset_parameters()
        if self.n_classes:
            nn.init.zeros_(self.classes.weight)

    def forward(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """Return unbounded scores (N,); ``y=None`` leaves the class term out."""
        x = codes
        for layer in self.layers[:-1]:
            x = nn.functional.relu(layer(x))
        scores: Tensor = self.layers[-1](x).squeeze(1)
        return scores if y is None or not self.n_classes else scores + (self.classes(y) * x).sum(1)


class Decoding(nn.Module):
    """An autoencoder's decoder as a module of its own, which hooks can follow."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, codes: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Decode flat codes (N, D) to images (N, C, H, W)."""
        return self.autoencoder.decode(codes.view(len(codes), *self.autoencoder.code_shape), noise=noise, rng=rng)


class DecodedGenerator(Generator):
    """A network that makes codes, and an autoencoder's decoder that makes images of them."""

    def __init__(self, mind: Mind, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.mind, self.decoding = mind, Decoding(autoencoder)
        config = mind.config
        self.latent = Latent(config.latent_dim, config.distribution)
        self.n_classes, self.size, self.channels = config.n_classes, autoencoder.size, autoencoder.channels

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder whose decoder makes the images."""
        return self.decoding.autoencoder

    def codes(self, z: Tensor, y: Tensor | ClassCode | None = None, psi: float = 1.0) -> Tensor:
        """Make the codes (N, D) of latents (N, dim); below 1, ``psi`` pulls them towards the target's mean code."""
        vector = None
        if self.n_classes:
            if y is None:
                raise MissingCapability("this generator is conditional: give class indices or a class code as y")
            vector = (y if isinstance(y, ClassCode) else self.embed(y)).vector
        codes = self.mind.unstandardise(self.mind(z, vector))
        # Training on standardised codes has no output activation, so the codes are brought to the decoder's range here.
        codes = codes.clamp(-1, 1) if self.autoencoder.code_range == "tanh" else codes
        codes = codes.clamp(min=0) if self.autoencoder.code_range == "relu" else codes
        return codes if psi == 1.0 else self.mind.mean.lerp(codes, psi)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` pulls codes towards the target's mean code."""
        images: Tensor = self.decoding(self.codes(z, y, psi), noise, rng)
        return images

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        if not self.n_classes:
            return super().embed(y)
        return ClassCode(y @ self.mind.classes if y.is_floating_point() else self.mind.classes[y])

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        inner = self.autoencoder.describe()
        config: dict[str, Any] = {
            "mind": self.mind.config.model_dump(mode="json"),
            "autoencoder": {"kind": inner.kind, "config": inner.config},
        }
        return Description("decoded", "generator", config)

    @property
    def stages(self) -> list[nn.Module]:
        """See :meth:`Generator.stages`: the network that makes codes, then the decoder."""
        return [self.mind, self.decoding]


def autoencoder_of(generator: Generator, source: GAN | None) -> Autoencoder | None:
    """Return the autoencoder that belongs to an adapted generator, or None.

    A decoded generator has its own, whose decoder may have been trained; for all others it is the source's.
    """
    if isinstance(generator, DecodedGenerator):
        return generator.autoencoder
    return source.autoencoder if source is not None else None


def from_description(description: Description) -> DecodedGenerator:
    """Build a decoded generator; its weights must be set."""
    inner = description.config["autoencoder"]
    autoencoder = cast(Autoencoder, build(Description(inner["kind"], "autoencoder", inner["config"])))
    return DecodedGenerator(Mind(parse(MindConfig, description.config["mind"], "mind")), autoencoder)


def gaussian_prior(autoencoder: Autoencoder) -> DecodedGenerator:
    """Return a generator for an autoencoder alone: a linear map of normal latents, then the decoder.

    :func:`fit_prior` then fits the map to codes of images.
    """
    dim = math.prod(autoencoder.code_shape)
    config = MindConfig(code_dim=dim, widths=(), output=autoencoder.code_range, latent_dim=dim, distribution="normal")
    return DecodedGenerator(Mind(config), autoencoder)


@torch.no_grad()
def fit_prior(generator: DecodedGenerator, codes: Tensor) -> None:
    """Fit a Gaussian prior to codes, taken before their activation, and use their mean for truncation.

    Args:
        generator: one that :func:`gaussian_prior` returned; changed in place.
        codes: (N, D).
    """
    flat = codes.flatten(1).double()
    raw = torch.atanh(flat.clamp(-0.9999, 0.9999)) if generator.mind.config.output == "tanh" else flat
    centred = raw - raw.mean(0)
    spread = centred.T @ centred / max(1, len(raw) - 1)
    spread += 1e-6 * spread.diagonal().mean().clamp_min(1e-6) * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    layer = cast(nn.Linear, generator.mind.layers[0])
    layer.weight.copy_(torch.linalg.cholesky(spread))
    layer.bias.copy_(raw.mean(0))
    generator.mind.mean.copy_(flat.mean(0))
    if generator.autoencoder.mean_code is not None:
        generator.autoencoder.mean_code.copy_(codes.mean(0))
