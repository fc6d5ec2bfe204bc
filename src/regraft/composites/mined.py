"""Miners: small networks that choose the part of a generator's latent and class space to sample from.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images".
"""

import dataclasses
import math
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.core.build import build
from regraft.core.config import Config, parse
from regraft.core.device import device_of
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS, ClassCode, Description, Generator, Noise, Styles
from regraft.core.randomness import Rng, generator_at, global_seed

CLASS_CONTRAST = 32.0
"""Variance of a new class miner's logits, so that most inputs u get one class."""
VECTOR_CONTRAST = 8.0
"""Factor of the distances between a free class vector and the classes, in the softmax that turns them into weights."""
LEAST_SPREAD = 0.01
"""Least spread of each number of a free class vector."""


class MinerConfig(Config):
    """Settings of a miner, a network that maps its own input u to the source's latent z."""

    form: Annotated[
        Literal["residual", "mlp", "affine"],
        Field(
            description="residual: z = u + f(u), at first the identity; mlp: a ReLU network, as published; affine: linear maps "
            "with spectral normalisation, as published for BigGAN."
        ),
    ] = "residual"
    layers: Annotated[int, Field(ge=1, le=16, description="Number of linear layers.")] = 2
    width: Annotated[int | None, Field(ge=1, le=16384, description="Hidden width. Default: the size of the latent.")] = None
    input_dim: Annotated[
        int | None, Field(ge=1, le=16384, description="Size of u. Default: the size of the latent, which residual requires.")
    ] = None
    prior_weight: Annotated[
        float,
        Field(
            ge=0,
            description="Factor of the gap in mean and spread between mined latents and the source's own. 0 as published; "
            "mining can then run into one corner of the latent space if no image of the source is near the targets.",
        ),
    ] = 1.0
    classes: Annotated[
        Literal["onehot", "embedding", "keep"],
        Field(
            description="Classes of a conditional source. embedding: mine a free vector of its class space; onehot: mine "
            "weights of its classes; keep: mine none, and the adapted generator has the same classes."
        ),
    ] = "embedding"
    class_weight: Annotated[
        float,
        Field(
            ge=0,
            description="Factor of the gap between the shares of mined classes and of targets that look like each class, for "
            "sources of up to 32 classes. 0 as published; rare classes can then get lost.",
        ),
    ] = 1.0

    @model_validator(mode="after")
    def _fits(self) -> "MinerConfig":
        if self.form == "residual" and self.input_dim is not None:
            raise ValueError(
                f"input_dim={self.input_dim}: a residual miner's input has the size of the latent; leave input_dim out, or "
                "choose form=mlp"
            )
        return self


class Miner(nn.Module):
    """Maps the miner's input u (N, input_dim) to latents z (N, dim)."""

    def __init__(self, config: MinerConfig, latent: Latent) -> None:
        super().__init__()
        self.config = config
        self.residual = config.form == "residual"
        inputs = latent.dim if self.residual else config.input_dim or latent.dim
        # A residual miner starts from the source's own distribution; the published ones from N(0, I).
        self.latent = latent if self.residual else Latent(inputs)
        self.prior = latent
        widths = [inputs, *[config.width or latent.dim] * (config.layers - 1), latent.dim]
        # Linear layers and spectral norm draw from torch's global generator when they are made.
        with global_seed(0):
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
            if config.form == "affine":
                for layer in self.layers:
                    nn.utils.parametrizations.spectral_norm(cast(nn.Linear, layer))

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw new weights: Glorot-uniform (orthogonal for affine), zero biases; a residual miner's last layer is zero."""
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
        """Map u (N, input_dim) to z (N, dim)."""
        h = u
        for index, layer in enumerate(self.layers):
            h = layer(h)
            if index < len(self.layers) - 1 and self.config.form != "affine":
                h = nn.functional.relu(h)
        return u + h if self.residual else h


class ClassMiner(nn.Module):
    """Maps u (N, inputs) to a source's class space: to weights of its classes (onehot) or a free vector (embedding).

    New miners spread over all classes: onehot gives most u nearly one class each, embedding gives vectors with the mean and
    spread of the classes' own.

    Attributes:
        centre, spread: mean and spread of the source's class vectors; empty for onehot.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, form: Literal["onehot", "embedding"], inputs: int, outputs: int) -> None:
        super().__init__()
        self.form, self.outputs = form, outputs
        with global_seed(0):
            self.layers = nn.ModuleList([nn.Linear(inputs, max(64, inputs)), nn.Linear(max(64, inputs), outputs)])
        shape = (outputs,) if form == "embedding" else (0,)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    @torch.no_grad()
    def centre_on(self, source: Generator) -> None:
        """Measure ``centre`` and ``spread`` on a source's class vectors."""
        if self.form == "embedding":
            table = _class_table(source)
            self.centre.copy_(table.mean(0))
            spread = table.std(0, correction=0)
            # Numbers that hardly differ between classes may move a little too.
            self.spread.copy_(spread.clamp_min(max(0.1 * float(spread.mean()), LEAST_SPREAD)))

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw new weights; biases of the second layer cancel the mean of its inputs."""
        first, second = (cast(nn.Linear, layer) for layer in self.layers)
        for layer, gain in ((first, 2.0), (second, CLASS_CONTRAST if self.form == "onehot" else 2.0)):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng) * (gain / layer.weight.shape[1]) ** 0.5)
        first.bias.zero_()
        # The mean of relu(s x) for a standard normal x is s / sqrt(2 pi).
        second.bias.copy_(-(second.weight @ first.weight.norm(dim=1)) / math.sqrt(2 * math.pi))

    def raw(self, u: Tensor) -> Tensor:
        """Return the output of the last layer, (N, outputs): logits of classes, or standardised class vectors."""
        first, second = self.layers
        h: Tensor = second(nn.functional.relu(first(u)))
        return h

    def weights(self, u: Tensor, source: Generator) -> Tensor:
        """Return the weights of the source's classes, (N, n_classes); each row adds up to 1."""
        h = self.raw(u)
        if self.form == "onehot":
            return h.softmax(1)
        # Each number in units of its spread over the classes, so that mean squared distances between two classes are about 2.
        table = (_class_table(source) - self.centre) / self.spread
        return torch.softmax(-(h[:, None] - table).square().mean(2) * VECTOR_CONTRAST, dim=1)

    def forward(self, u: Tensor, source: Generator) -> ClassCode:
        """Map each u to a class code."""
        h = self.raw(u)
        if self.form == "onehot":
            return source.embed(h.softmax(1))
        return ClassCode(self.centre + self.spread * h)


def new_class_miner(config: MinerConfig, source: Generator, inputs: int) -> ClassMiner | None:
    """Return a class miner for a source, its weights not yet drawn; None if the source's classes are not mined."""
    if not source.n_classes or config.classes == "keep":
        return None
    outputs = source.n_classes if config.classes == "onehot" else _class_table(source).shape[1]
    miner = ClassMiner(config.classes, inputs, outputs)
    miner.centre_on(source)
    return miner


def _class_table(source: Generator) -> Tensor:
    """Return the class vectors of a source, (n_classes, D)."""
    device = device_of(source)
    return source.embed(torch.arange(source.n_classes, device=device)).vector.detach().float()


@torch.no_grad()
def mined_class_shares(generator: "MinedGenerator", n: int = 1000, seed: int = 0) -> Tensor | None:
    """Measure how often each class of a source is mined.

    Args:
        generator: the source behind its miners.
        n: inputs to measure on.
        seed: seed of the inputs.

    Returns:
        Mean weights (onehot) or shares of nearest classes (embedding), (n_classes,); None if no classes are mined.
    """
    miner, source = generator.class_miner, generator.source
    if miner is None:
        return None
    u = generator.latent.sample(n, generator_at(seed, "mined classes")).to(miner.centre.device)
    weights = miner.weights(u, source)
    if miner.form == "onehot":
        return weights.mean(0).cpu()
    return torch.bincount(weights.argmax(1), minlength=source.n_classes).cpu() / n


def prior_gap(miner: Miner, weight: float, rng: torch.Generator, device: torch.device, n: int = 256) -> Tensor:
    """Return how far the distribution of mined latents is from the source's own, times ``weight``.

    It is the mean over dimensions of mean(z)^2 / v + max(0, 1 - var(z) / v)^2, where v is the source's variance: too little
    spread counts, too much does not.

    Args:
        miner: the miner.
        weight: factor of the result.
        rng: source of the inputs u.
        device: where to draw them.
        n: inputs.
    """
    prior = miner.prior.variance
    z: Tensor = miner(miner.latent.sample(n, rng, device))
    return weight * ((z.mean(0).square() / prior).mean() + (1 - z.var(0) / prior).relu().square().mean())


class MinedGenerator(Generator):
    """A source generator behind a miner, and behind a class miner if its classes are mined too."""

    def __init__(self, miner: Miner, source: Generator, class_miner: ClassMiner | None = None) -> None:
        super().__init__()
        self.miner, self.class_miner, self.source = miner, class_miner, source
        self.latent = miner.latent
        self.n_classes = 0 if class_miner is not None else source.n_classes
        self.size, self.channels = source.size, source.channels

    def initialise(self, rng: torch.Generator) -> None:
        """Draw new weights of the miners."""
        self.miner.initialise(rng)
        if self.class_miner is not None:
            self.class_miner.initialise(rng)

    @property
    def miner_parameters(self) -> list[nn.Parameter]:
        """Parameters of both miners."""
        return [*self.miner.parameters(), *(self.class_miner.parameters() if self.class_miner is not None else ())]

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` truncates the styles of a source that has them, else it scales u."""
        if self.source.styles is not None:
            return cast(Tensor, self.source(self.miner(z), self._code(z, y), psi=psi, noise=noise, rng=rng))
        u = z * psi
        return cast(Tensor, self.source(self.miner(u), self._code(u, y), noise=noise, rng=rng))

    def _code(self, u: Tensor, y: Tensor | ClassCode | None) -> Tensor | ClassCode | None:
        return y if self.class_miner is None else cast(ClassCode, self.class_miner(u, self.source))

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        return self.source.embed(y) if self.class_miner is None else super().embed(y)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        inner = self.source.describe()
        config: dict[str, Any] = {
            "miner": self.miner.config.model_dump(mode="json"),
            "classes": None if self.class_miner is None else self.class_miner.outputs,
            "source": {"kind": inner.kind, "config": inner.config},
        }
        return Description("mined", "generator", config)

    @property
    def styles(self) -> Styles | None:
        """See :meth:`Generator.styles`: the source's, with a mapping that starts from u."""
        source = self.source.styles
        if source is None:
            return None
        mapping = source.mapping
        return dataclasses.replace(source, mapping=lambda u, y: mapping(self.miner(u), self._code(u, y)))

    @property
    def style_path(self) -> list[nn.Module]:
        """See :meth:`Generator.style_path`."""
        inner = self.source.style_path
        return [self.miner, *inner] if inner else []

    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """See :meth:`Generator.measure_mean_style`; it is the mean style of mined latents."""
        if self.style_path:
            with torch.no_grad():
                u = self.latent.sample(CENTRE_LATENTS, generator_at(0, "mean style")) if z is None else z
                self.source.measure_mean_style(self.miner(u.to(device_of(self.miner))))

    @property
    def stages(self) -> list[nn.Module]:
        """See :meth:`Generator.stages`: the miners, then the source's stages."""
        miners: list[nn.Module] = [self.miner] if self.class_miner is None else [self.miner, self.class_miner]
        return [*miners, *self.source.stages]

    @property
    def norms(self) -> list[nn.Module]:
        """See :meth:`Generator.norms`: the source's."""
        return self.source.norms


def with_miners(config: MinerConfig, source: Generator) -> MinedGenerator:
    """Put a source generator behind miners whose weights are not yet drawn."""
    miner = Miner(config, source.latent)
    return MinedGenerator(miner, source, new_class_miner(config, source, miner.latent.dim))


def from_description(description: Description) -> MinedGenerator:
    """Build a mined generator; its weights must be set."""
    inner = description.config["source"]
    source = cast(Generator, build(Description(inner["kind"], "generator", inner["config"])))
    config = parse(MinerConfig, description.config["miner"], "miner")
    miner = Miner(config, source.latent)
    outputs = description.config.get("classes")
    if outputs is None or config.classes == "keep":
        return MinedGenerator(miner, source)
    return MinedGenerator(miner, source, ClassMiner(config.classes, miner.latent.dim, outputs))
