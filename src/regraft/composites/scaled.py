"""Generators whose hidden layers are scaled and shifted, channel by channel; all else stays as in the source.

Source: Noguchi & Harada 2019, "Image generation from small datasets via batch statistics adaptation".
"""

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.core.build import build
from regraft.core.config import Config, parse
from regraft.core.device import device_of
from regraft.core.errors import MissingCapability, SourceError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, Description, Generator, Noise, evaluating
from regraft.core.randomness import Rng


class ScalingConfig(Config):
    """Settings of a scaled generator, beside those of its source."""

    sampling: Annotated[
        Literal["prior", "latents"],
        Field(
            description="Distribution that samples are drawn from. prior: the middle of the source's latents, as published; "
            "latents: normal with the mean and spread of the learned latents, for a source whose images are of many kinds."
        ),
    ] = "latents"
    tau: Annotated[
        float | None,
        Field(
            gt=0,
            description="Samples come from latents inside [-tau, tau] (for latents: times the spread). Default: 0.5 for prior, "
            "2 for latents. With prior, generators that normalise their latents ignore it; use psi there.",
        ),
    ] = None
    classes: Annotated[
        Literal["learn", "keep"],
        Field(
            description="Classes of a conditional source. learn: one class code for all images, starting from the mean of all "
            "classes; keep: the source's classes, for labelled images."
        ),
    ] = "learn"


class Layout(Config):
    """Places of the scales in a source, so that a generator can be built without running its source.

    Attributes:
        places: names of layers and their channels.
        code_dim: how many numbers the learned class code has, or None without one.
    """

    places: tuple[tuple[str, Annotated[int, Field(ge=1, le=1 << 20)]], ...]
    code_dim: Annotated[int, Field(ge=1, le=1 << 20)] | None = None


class Scale(nn.Module):
    """One gain and one shift per channel, for the output of the layer that it is hooked to."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Scale and shift a layer's output (N, channels, ...); the signature is that of a forward hook."""
        shape = (1, -1, *[1] * (output.dim() - 2))
        return output * self.gain.to(output).view(shape) + self.shift.to(output).view(shape)


class ScaledGenerator(Generator):
    """A frozen source generator with scales and shifts after some layers, and a distribution of latents to sample from.

    The layers are the source's norms (its style layers if it has styles), and its first stage if that holds no norm; in a
    source without norms, all hidden layers.

    Attributes:
        centre, spread: mean and spread of the learned latents, (dim,); only with ``sampling=latents``.
        code: the learned class code (1, D), or None.
    """

    centre: Tensor
    spread: Tensor
    code: nn.Parameter | None

    def __init__(self, source: Generator, config: ScalingConfig, layout: Layout | None = None) -> None:
        """Put scales of one and shifts of zero on a source.

        Args:
            source: used as it is, not copied; hooks are added to its layers.
            config: settings.
            layout: where the scales are; if left out, the source is run once to find them.

        Raises:
            SourceError: if the source has no layer to scale, or not those of the layout.
        """
        super().__init__()
        self.source, self.config = source, config
        if config.sampling == "latents":
            self.latent = truncated_latent(Latent(source.latent.dim), config.tau or 2.0)
            self.register_buffer("centre", torch.zeros(source.latent.dim))
            self.register_buffer("spread", torch.ones(source.latent.dim))
        else:
            self.latent = truncated_latent(source.latent, config.tau or 0.5)
        self.size, self.channels = source.size, source.channels
        self.widths = dict(scaled_layers(source) if layout is None else layout.places)
        if not self.widths:
            raise SourceError(f"a {type(source).__name__} has no hidden layer that can be scaled")
        layers = dict(source.named_modules())
        self.scales = nn.ModuleList()
        for name, width in self.widths.items():
            if name not in layers:
                raise SourceError(f"{type(source).__name__} has no layer {name} to scale")
            scale = Scale(width)
            self.scales.append(scale)
            # The hook is the module itself: copies of this generator get hooks of their own, with their own scales.
            layers[name].register_forward_hook(scale)
        learn = bool(source.n_classes) and config.classes == "learn"
        self.n_classes = 0 if learn else source.n_classes
        self.register_parameter("code", None)
        if learn:
            self.code = nn.Parameter(mean_class_code(source) if layout is None else torch.zeros(1, layout.code_dim or 1))

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`.

        With ``sampling=latents`` and a source without styles, ``psi`` scales the latent about ``centre``; else it is passed to
        the source.
        """
        if self.config.sampling == "latents":
            if self.source.styles is not None:
                return self.render(self.centre + self.spread * z, y, psi, noise, rng)
            return self.render(self.centre + self.spread * (z * psi), y, 1.0, noise, rng)
        return self.render(z, y, psi, noise, rng)

    def render(
        self, z: Tensor, y: Tensor | ClassCode | None = None, psi: float = 1.0, noise: Noise = "const", rng: Rng | None = None
    ) -> Tensor:
        """Make images from latents of the source's own kind, with the learned class code if there is one."""
        if self.code is not None:
            y = ClassCode(self.code.expand(len(z), -1))
        return cast(Tensor, self.source(z, y, psi=psi, noise=noise, rng=rng))

    @torch.no_grad()
    def sample_like(self, latents: Tensor) -> None:
        """Take the mean and spread of learned latents (N, dim) for sampling, if samples are drawn from these."""
        if self.config.sampling == "latents":
            self.centre.copy_(latents.mean(0))
            self.spread.copy_(latents.std(0, unbiased=False))

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        if not self.n_classes:
            raise MissingCapability("this generator has one learned class code and no classes; leave the class out.")
        return self.source.embed(y)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        inner = self.source.describe()
        source = {"kind": inner.kind, "config": inner.config}
        code_dim = None if self.code is None else self.code.shape[1]
        layout = Layout(places=tuple(self.widths.items()), code_dim=code_dim)
        config = {"scaling": self.config.model_dump(mode="json"), "layout": layout.model_dump(mode="json"), "source": source}
        return Description("scaled", "generator", config)

    @property
    def style_path(self) -> list[nn.Module]:
        """See :meth:`Generator.style_path`."""
        return self.source.style_path

    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """See :meth:`Generator.measure_mean_style`."""
        self.source.measure_mean_style(z)

    @property
    def stages(self) -> list[nn.Module]:
        """See :meth:`Generator.stages`: the source's."""
        return self.source.stages

    @property
    def norms(self) -> list[nn.Module]:
        """See :meth:`Generator.norms`: the source's."""
        return self.source.norms

    def departure(self) -> Tensor:
        """Return how far scales and shifts are from changing nothing: mean (gain - 1)^2 + mean shift^2, summed over layers."""
        return torch.stack([(s.gain - 1).square().mean() + s.shift.square().mean() for s in self._scales]).sum()

    @property
    def _scales(self) -> list[Scale]:
        return [cast(Scale, scale) for scale in self.scales]


def truncated_latent(latent: Latent, tau: float) -> Latent:
    """Return the middle of a latent distribution.

    A normal one is redrawn inside [-tau, tau], a uniform one has ``tau`` times its width, a sphere stays as it is.
    """
    if latent.distribution in ("normal", "truncated_normal"):
        bound = tau if latent.distribution == "normal" else min(tau, latent.bound)
        return Latent(latent.dim, "truncated_normal", bound)
    if latent.distribution == "uniform":
        return Latent(latent.dim, "uniform", min(tau, 1.0) * latent.bound)
    return latent


@torch.no_grad()
def mean_class_code(source: Generator) -> Tensor:
    """Return the class code (1, D) of all classes in equal parts."""
    device = device_of(source)
    return source.embed(torch.full((1, source.n_classes), 1 / source.n_classes, device=device)).vector.clone()


@torch.no_grad()
def scaled_layers(source: Generator) -> dict[str, int]:
    """Return the layers that scales and shifts follow, in the order of computation: name to channels."""
    layers = list(source.norms)
    first = source.stages[0]
    if layers and source.styles is None and not any(m is norm for m in first.modules() for norm in layers):
        layers = [first, *layers]
    without_norms = not layers
    if without_norms:
        layers = [m for m in source.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    outputs = _outputs(source, layers)
    if without_norms and outputs:
        last = {id(m) for m in source.stages[-1].modules()}
        final = next(reversed(outputs))
        # Layers that make the image (also the older image of a fading one) are not hidden.
        visible = {n for n, x in outputs.items() if id(source.get_submodule(n)) in last and x.shape[1] == source.channels}
        outputs = {name: x for name, x in outputs.items() if name not in visible | {final}}
    return {name: int(x.shape[1]) for name, x in outputs.items()}


def _outputs(source: Generator, layers: list[nn.Module]) -> dict[str, Tensor]:
    """Run a source once and return the outputs of some of its layers, by name and in the order of computation."""
    names = {id(module): name for name, module in source.named_modules()}
    outputs: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() >= 2:
            outputs[names[id(module)]] = output

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with evaluating(source):
            device = device_of(source)
            z = source.latent.at(0, range(2)).to(device)
            source(z, torch.zeros(2, dtype=torch.long, device=device) if source.n_classes else None)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def ignores_length(generator: Generator) -> bool:
    """Whether a generator gives the same images for latents of twice the length, as one that normalises them does."""
    device = device_of(generator)
    z = generator.latent.at(0, range(2)).to(device)
    y = torch.zeros(2, dtype=torch.long, device=device) if generator.n_classes else None
    with evaluating(generator), torch.no_grad():
        once, twice = generator(z, y), generator(2 * z, y)
    return bool((once - twice).abs().max() <= 1e-3 * once.abs().max())


def from_description(description: Description) -> ScaledGenerator:
    """Build a scaled generator; its weights must be set."""
    inner = description.config["source"]
    source = cast(Generator, build(Description(inner["kind"], "generator", inner["config"])))
    config = parse(ScalingConfig, description.config["scaling"], "scaling")
    return ScaledGenerator(source, config, parse(Layout, description.config["layout"], "layout"))
