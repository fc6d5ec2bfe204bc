"""Generators whose hidden layers are scaled and shifted, channel by channel, while everything else stays the source's.

Source: Noguchi & Harada 2019, "Image generation from small datasets via batch statistics adaptation".
"""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

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
    """What of a scaled generator its source does not say."""

    sampling: Annotated[
        Literal["prior", "latents"],
        Field(
            description="prior: the middle of the source's latents, as published; latents: normal, with the means and spreads "
            "of the learned latents, which find the targets among a source's many kinds of images."
        ),
    ] = "latents"
    tau: Annotated[
        float | None,
        Field(
            gt=0,
            description="Samples come from latents inside [-tau, tau] (latents: times the spread). If left out 0.5 for prior, "
            "2 for latents. With prior no effect on generators that normalise their latents; there use psi.",
        ),
    ] = None
    classes: Annotated[
        Literal["learn", "keep"],
        Field(
            description="Conditional sources. learn: one class code for all images, from the mean of all classes on; "
            "keep: the source's classes, for labelled images."
        ),
    ] = "learn"


class Layout(Config):
    """Where scales are, so that a generator can be built without a pass through its source."""

    places: tuple[tuple[str, Annotated[int, Field(ge=1, le=1 << 20)]], ...]
    code_dim: Annotated[int, Field(ge=1, le=1 << 20)] | None = None


class Scale(nn.Module):
    """One gain and one shift per channel; hooked to a layer, it changes that layer's output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Scale and shift an output (N, channels, ...)."""
        shape = (1, -1, *[1] * (output.dim() - 2))
        return output * self.gain.to(output).view(shape) + self.shift.to(output).view(shape)


class ScaledGenerator(Generator):
    """A frozen source generator with scales and shifts after its norms, and the latents that it is sampled from.

    Places are the source's norms (style layers play their part where there are styles), and the first stage where no norm is
    inside it; where a source has none, every hidden layer.
    """

    centre: Tensor
    spread: Tensor
    code: nn.Parameter | None

    def __init__(self, source: Generator, config: ScalingConfig, layout: Layout | None = None) -> None:
        """Put scales of one and shifts of zero on a source.

        Args:
            source: used as it is, not copied; its places get hooks.
            config: settings.
            layout: found by a pass through the source if left out.

        Raises:
            SourceError: if there is no place, or a place is no layer of the source.
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
        """See :meth:`Generator.forward`; ``psi`` is the source's where it maps to styles or the prior is sampled."""
        if self.config.sampling == "latents":
            if self.source.styles is not None:
                return self.render(self.centre + self.spread * z, y, psi, noise, rng)
            return self.render(self.centre + self.spread * (z * psi), y, 1.0, noise, rng)
        return self.render(z, y, psi, noise, rng)

    def render(
        self, z: Tensor, y: Tensor | ClassCode | None = None, psi: float = 1.0, noise: Noise = "const", rng: Rng | None = None
    ) -> Tensor:
        """Images of the source's own kind of latents."""
        if self.code is not None:
            y = ClassCode(self.code.expand(len(z), -1))
        return cast(Tensor, self.source(z, y, psi=psi, noise=noise, rng=rng))

    @torch.no_grad()
    def sample_like(self, latents: Tensor) -> None:
        """Take on means and spreads of learned latents (N, dim), where samples follow them."""
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
        """The source's stages."""
        return self.source.stages

    @property
    def norms(self) -> list[nn.Module]:
        """The source's norms."""
        return self.source.norms

    def departure(self) -> Tensor:
        """How far scales and shifts are from leaving the source as it is: mean squares, summed over places."""
        return torch.stack([(s.gain - 1).square().mean() + s.shift.square().mean() for s in self._scales]).sum()

    @property
    def _scales(self) -> list[Scale]:
        return [cast(Scale, scale) for scale in self.scales]


def truncated_latent(latent: Latent, tau: float) -> Latent:
    """The middle of a latent distribution: inside [-tau, tau], or a uniform one of ``tau`` times the width."""
    if latent.distribution in ("normal", "truncated_normal"):
        bound = tau if latent.distribution == "normal" else min(tau, latent.bound)
        return Latent(latent.dim, "truncated_normal", bound)
    if latent.distribution == "uniform":
        return Latent(latent.dim, "uniform", min(tau, 1.0) * latent.bound)
    return latent


@torch.no_grad()
def mean_class_code(source: Generator) -> Tensor:
    """The class code (1, D) of all classes in equal parts."""
    device = device_of(source)
    return source.embed(torch.full((1, source.n_classes), 1 / source.n_classes, device=device)).vector.clone()


@torch.no_grad()
def scaled_layers(source: Generator) -> dict[str, int]:
    """Names of the layers that scales and shifts follow, in the order of computation, with their channels."""
    names = {id(module): name for name, module in source.named_modules()}
    wanted = list(source.norms)
    first, has_styles = source.stages[0], source.styles is not None
    if wanted and not has_styles and not any(m is norm for m in first.modules() for norm in wanted):
        wanted = [first, *wanted]
    hidden = not wanted
    if hidden:
        wanted = [m for m in source.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    seen: dict[str, Tensor] = {}
    with _watching(wanted, names, seen), evaluating(source):
        device = device_of(source)
        z = source.latent.at(0, range(2)).to(device)
        source(z, torch.zeros(2, dtype=torch.long, device=device) if source.n_classes else None)
    if hidden and seen:
        last = {id(m) for m in source.stages[-1].modules()}
        final = next(reversed(seen))
        # What makes the image (also the older picture of a fading one) is not hidden.
        pictures = {n for n, out in seen.items() if id(source.get_submodule(n)) in last and out.shape[1] == source.channels}
        seen = {name: out for name, out in seen.items() if name not in pictures | {final}}
    return {name: int(out.shape[1]) for name, out in seen.items()}


@contextlib.contextmanager
def _watching(modules: list[nn.Module], names: dict[int, str], seen: dict[str, Tensor]) -> Iterator[None]:
    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() >= 2:
            seen[names[id(module)]] = output

    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def ignores_length(generator: Generator) -> bool:
    """Whether a generator normalises its latents, so that only their direction counts."""
    device = device_of(generator)
    z = generator.latent.at(0, range(2)).to(device)
    y = torch.zeros(2, dtype=torch.long, device=device) if generator.n_classes else None
    with evaluating(generator), torch.no_grad():
        once, twice = generator(z, y), generator(2 * z, y)
    return bool((once - twice).abs().max() <= 1e-3 * once.abs().max())


def from_description(description: Description) -> ScaledGenerator:
    """Build a scaled generator, weights aside."""
    inner = description.config["source"]
    source = cast(Generator, build(Description(inner["kind"], "generator", inner["config"])))
    config = parse(ScalingConfig, description.config["scaling"], "scaling")
    return ScaledGenerator(source, config, parse(Layout, description.config["layout"], "layout"))
