"""StyleGAN3: a generator whose details move with the surface of what is shown, translation- or rotation-equivariant.

Published networks of kind -t convolve with 3 x 3 kernels; those of kind -r with 1 x 1 kernels, twice the width and radial
filters.  The critic is StyleGAN2's.

Source: Karras et al. 2021, "Alias-free generative adversarial networks".
"""

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones import _style_critic
from regraft.backbones._alias_free import filtered_lrelu, lowpass
from regraft.backbones._style import Dense, Mapping, StyleGenerator
from regraft.backbones._style_config import StyleCriticConfig, StyleMappingConfig, Width
from regraft.backbones.base import Backbone, checked
from regraft.config import Config, Objective, Recipe, parse
from regraft.errors import ConfigError
from regraft.gan import Description, Noise
from regraft.randomness import Rng

Positive = Annotated[float, Field(gt=0, le=1 << 20)]


class StyleGAN3GeneratorConfig(StyleMappingConfig):
    """Generator of Karras et al. 2021.

    Attributes:
        z_dim, w_dim: width of latents and styles.
        img_resolution, img_channels: of the images.
        channels: output width of each layer but the last, latent side first.
        num_layers: layers before the one that makes colours.
        num_critical: last layers that keep every frequency up to the limit.
        first_cutoff, first_stopband: frequencies of the first layer, in cycles per image.
        last_stopband_rel: stopband of the last layer over its cutoff.
        margin_size: samples kept outside the image on every side.
        output_scale: factor of the images.
        conv_kernel: 3, or 1 for rotation equivariance.
        filter_size: taps of a resampling filter per unit of its factor.
        lrelu_upsampling: how much finer the grid of the nonlinearity is.
        use_radial_filters: rotation-symmetric filters on the way down.
        conv_clamp: bound of what layers put out, None for none.
    """

    z_dim: Width = 512
    w_dim: Width = 512
    img_resolution: Annotated[int, Field(ge=8, le=4096)]
    img_channels: Literal[1, 3] = 3
    channels: tuple[Width, ...]
    mapping_layers: Annotated[int, Field(ge=1, le=64)] = 2
    num_layers: Annotated[int, Field(ge=3, le=64)] = 14
    num_critical: Annotated[int, Field(ge=1, le=62)] = 2
    first_cutoff: Positive = 2.0
    first_stopband: Positive = 2**2.1
    last_stopband_rel: Positive = 2**0.3
    margin_size: Annotated[int, Field(ge=0, le=64)] = 10
    output_scale: Positive = 0.25
    conv_kernel: Literal[1, 3] = 3
    filter_size: Annotated[int, Field(ge=1, le=32)] = 6
    lrelu_upsampling: Annotated[int, Field(ge=1, le=8)] = 2
    use_radial_filters: bool = False
    conv_clamp: Annotated[float, Field(gt=0)] | None = 256.0

    @model_validator(mode="after")
    def _fits(self) -> "StyleGAN3GeneratorConfig":
        if self.img_resolution & (self.img_resolution - 1):
            raise ValueError(f"img_resolution must be a power of two, not {self.img_resolution}")
        if self.num_critical >= self.num_layers:
            raise ValueError(f"num_critical={self.num_critical} must be below num_layers={self.num_layers}")
        if len(self.channels) != self.num_layers:
            raise ValueError(f"channels must hold {self.num_layers} widths, one per layer; it holds {len(self.channels)}")
        if self.first_cutoff >= self.img_resolution / 2:
            raise ValueError(f"first_cutoff={self.first_cutoff} must be below half the resolution")
        if self.first_stopband <= self.first_cutoff or self.last_stopband_rel <= 1:
            raise ValueError("stopbands must lie above their cutoffs")
        return self


class Grid(NamedTuple):
    """Sampling of one layer's output: limits of its band, rate and side.

    Attributes:
        cutoff: highest frequency that passes.
        half_width: half the transition band beyond.
        rate: samples per image side.
        size: side of the maps, margins included.
    """

    cutoff: float
    half_width: float
    rate: int
    size: int


class Plan(NamedTuple):
    """Resampling of one layer.

    Attributes:
        up, down: factors.
        up_taps, down_taps: lengths of the filters, 1 for the identity.
        padding: of the fine signal, before and after.
        rate: of the fine signal.
        radial: whether the filter on the way down is.
    """

    up: int
    down: int
    up_taps: int
    down_taps: int
    padding: tuple[int, int]
    rate: int
    radial: bool


def grids(config: StyleGAN3GeneratorConfig) -> list[Grid]:
    """Sampling of all layers, the colour layer last."""
    c, half = config, config.img_resolution / 2
    result = []
    for i in range(c.num_layers + 1):
        exponent = min(i / (c.num_layers - c.num_critical), 1.0)
        cutoff = c.first_cutoff * (half / c.first_cutoff) ** exponent
        stopband = c.first_stopband * (half * c.last_stopband_rel / c.first_stopband) ** exponent
        rate = 2 ** math.ceil(math.log2(min(stopband * 2, c.img_resolution)))
        size = c.img_resolution if i >= c.num_layers - 1 else rate + 2 * c.margin_size
        result.append(Grid(cutoff, max(stopband, rate / 2) - cutoff, rate, size))
    return result


def plan(config: StyleGAN3GeneratorConfig, layer: int) -> Plan:
    """Resampling of one layer, from the grid of the layer before to its own."""
    every = grids(config)
    source, target = every[max(layer - 1, 0)], every[layer]
    colours = layer == config.num_layers
    rate = max(source.rate, target.rate) * (1 if colours else config.lrelu_upsampling)
    up, down = rate // source.rate, rate // target.rate
    up_taps = config.filter_size * up if up > 1 and not colours else 1
    down_taps = config.filter_size * down if down > 1 and not colours else 1
    kernel = 1 if colours else config.conv_kernel
    total = (target.size - 1) * down + 1 - (source.size + kernel - 1) * up + up_taps + down_taps - 2
    before = (total + up) // 2
    critical = layer >= config.num_layers - config.num_critical
    radial = config.use_radial_filters and not critical
    return Plan(up, down, up_taps, down_taps, (before, total - before), rate, radial)


def layer_name(config: StyleGAN3GeneratorConfig, layer: int) -> str:
    """NVlabs' name of a layer, which carries side and width of its output."""
    width = config.img_channels if layer == config.num_layers else config.channels[layer]
    return f"L{layer}_{grids(config)[layer].size}_{width}"


def layer_filters(config: StyleGAN3GeneratorConfig, layer: int) -> dict[str, Tensor]:
    """Filters of a layer that are not the identity: ``up_filter`` and ``down_filter``, on the CPU."""
    every, p = grids(config), plan(config, layer)
    source, target = every[max(layer - 1, 0)], every[layer]
    found = {}
    if p.up_taps > 1:
        found["up_filter"] = lowpass(p.up_taps, source.cutoff, source.half_width * 2, p.rate)
    if p.down_taps > 1:
        found["down_filter"] = lowpass(p.down_taps, target.cutoff, target.half_width * 2, p.rate, p.radial)
    return found


class Waves(nn.Module):
    """The input: plane waves, moved and turned by the style, and mixed."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, config: StyleGAN3GeneratorConfig) -> None:
        super().__init__()
        first, width = grids(config)[0], config.channels[0]
        self.size, self.rate, self.bandwidth = first.size, first.rate, first.cutoff
        self.weight = nn.Parameter(torch.zeros(width, width))
        self.affine = Dense(config.w_dim, 4)
        self.register_buffer("transform", torch.zeros(3, 3))
        self.register_buffer("freqs", torch.zeros(width, 2))
        self.register_buffer("phases", torch.zeros(width))

    def forward(self, w: Tensor) -> Tensor:
        """Waves under styles (N, w_dim): (N, C, size, size)."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cosine, sine = t[:, 0], t[:, 1]
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
        # Turning after moving by (-t2, -t3), after the transform of the whole network.
        matrix = turn @ (self.transform[:2] - t[:, 2:, None] * self.transform[2])
        freqs = self.freqs @ matrix[:, :, :2]
        phases = self.phases + (self.freqs @ matrix[:, :, 2:])[:, :, 0]
        amplitude = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
        # Pixel centres, in units of the image's side.
        place = (torch.arange(self.size, device=w.device, dtype=w.dtype) + 0.5 - self.size / 2) / self.rate
        across = freqs[:, :, 0, None, None] * place + phases[:, :, None, None]
        angle = across + freqs[:, :, 1, None, None] * place[:, None]
        x = torch.sin(angle * (2 * math.pi)) * amplitude.clamp(0, 1)[:, :, None, None]
        return torch.einsum("nchw,oc->nohw", x, self.weight / math.sqrt(len(self.weight)))

    def initialise(self) -> None:
        """Draw fresh waves: frequencies uniform in the band's disc, styles that leave them in place."""
        radii = torch.randn(len(self.phases), 2)
        length = radii.square().sum(1, keepdim=True).sqrt()
        self.freqs.copy_(radii / (length * length.square().exp().pow(0.25)) * self.bandwidth)
        self.phases.copy_(torch.rand(len(self.phases)) - 0.5)
        self.transform.copy_(torch.eye(3))
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))


class Layer(nn.Module):
    """A modulated convolution and the filtered nonlinearity; the last layer only mixes colours."""

    magnitude_ema: Tensor

    def __init__(self, config: StyleGAN3GeneratorConfig, layer: int) -> None:
        super().__init__()
        self.plan, self.clamp = plan(config, layer), config.conv_clamp
        self.colours = layer == config.num_layers
        inputs = config.channels[max(layer - 1, 0)]
        outputs = config.img_channels if self.colours else config.channels[layer]
        kernel = 1 if self.colours else config.conv_kernel
        self.affine = Dense(config.w_dim, inputs, bias_start=1.0)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("magnitude_ema", torch.ones([]))
        designed = layer_filters(config, layer)
        for name in ("up_filter", "down_filter"):
            value = designed.get(name)
            # A new tensor, so that a network laid out on another device has its filters there.
            self.register_buffer(name, None if value is None else torch.tensor(value.tolist()))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (N, C, H, W) under styles (N, w_dim)."""
        x = self._convolve(x, self.affine(w)) + self.bias[:, None, None]
        gain, slope = (1.0, 1.0) if self.colours else (math.sqrt(2), 0.2)
        p, up, down = self.plan, self._buffers["up_filter"], self._buffers["down_filter"]
        return filtered_lrelu(x, up, down, p.up, p.down, p.padding, gain, slope, self.clamp)

    def _convolve(self, x: Tensor, style: Tensor) -> Tensor:
        """Scale the inputs, convolve, scale the outputs: the same as a kernel for every image, without making them."""
        weight: Tensor = self.weight
        gain = torch.rsqrt(self.magnitude_ema)
        if self.colours:
            style = style / math.sqrt(weight.shape[1])
            return F.conv2d(x * (style * gain)[:, :, None, None], weight)
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        # The published code takes this mean over the batch; demodulation cancels it, and an image must not see its batch-mates.
        style = style * style.square().mean(1, keepdim=True).rsqrt()
        power = style.square() @ weight.square().sum((2, 3)).t()
        x = F.conv2d(x * (style * gain)[:, :, None, None], weight, padding=weight.shape[-1] - 1)
        return x * torch.rsqrt(power + 1e-8)[:, :, None, None]

    def initialise(self) -> None:
        """Draw fresh weights."""
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        self.affine.initialise()
        nn.init.ones_(self.magnitude_ema)


class Synthesis(nn.Module):
    """From styles to images."""

    def __init__(self, config: StyleGAN3GeneratorConfig) -> None:
        super().__init__()
        self.scale = config.output_scale
        self.input = Waves(config)
        self.names = [layer_name(config, i) for i in range(config.num_layers + 1)]
        for i, name in enumerate(self.names):
            self.add_module(name, Layer(config, i))

    @property
    def layers(self) -> list[Layer]:
        """All layers, the colour layer last."""
        return [layer for name in self.names if isinstance(layer := self.get_submodule(name), Layer)]

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Images of styles (N, num_ws, w_dim); there are no noise maps, so ``noise`` and ``rng`` change nothing."""
        x: Tensor = self.input(w[:, 0])
        for i, layer in enumerate(self.layers, start=1):
            x = layer(x, w[:, i])
        return x * self.scale


class StyleGAN3Generator(StyleGenerator):
    """Mapping and alias-free synthesis."""

    def __init__(self, config: StyleGAN3GeneratorConfig) -> None:
        super().__init__(config.z_dim, config.c_dim, config.img_resolution, config.img_channels)
        self.config = config
        self.mapping = Mapping(
            config.z_dim, config.c_dim, config.w_dim, config.num_layers + 2, config.mapping_layers, config.mapping_lr,
            config.embed_features, config.layer_features,
        )  # fmt: skip
        self.synthesis: Synthesis = Synthesis(config)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("stylegan3", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """Mapping, waves and layers."""
        return [self.mapping, self.synthesis.input, *self.synthesis.layers]

    @property
    def norms(self) -> list[nn.Module]:
        """The maps from styles to the scales of each layer's inputs."""
        return [layer.affine for layer in self.synthesis.layers]


def published(
    size: int, channels: int, kind: Literal["t", "r"] = "t", latent_dim: int = 512, layers: int = 14,
    channel_base: int = 32768, channel_max: int = 512, n_classes: int = 0,
) -> tuple[StyleGAN3GeneratorConfig, StyleCriticConfig]:  # fmt: skip
    """Settings of the published kinds.

    Args:
        size: side of the images, a power of two from 8 on.
        channels: 1 or 3.
        kind: ``t`` for equivariance to translation, ``r`` to rotation too (twice as wide, 1 x 1 kernels).
        latent_dim: width of latents and styles.
        layers: layers before the one that makes colours.
        channel_base: width of a layer times its cutoff frequency, times two.
        channel_max: largest width.
        n_classes: 0, or the number of classes.
    """
    if kind not in ("t", "r"):
        raise ConfigError(f"kind: a StyleGAN3 is of kind t or r, not {kind}")
    if size < 8 or size & (size - 1):
        raise ConfigError(f"a StyleGAN3 has a side of 8, 16, 32, 64, ..., not {size}")
    turned = kind == "r"
    settings: dict[str, Any] = {
        "z_dim": latent_dim, "w_dim": latent_dim, "c_dim": n_classes, "img_resolution": size, "img_channels": channels,
        "num_layers": layers, "conv_kernel": 1 if turned else 3, "use_radial_filters": turned, "channels": [1] * layers,
    }  # fmt: skip
    more = 2 if turned else 1
    cutoffs = [grid.cutoff for grid in grids(parse(StyleGAN3GeneratorConfig, settings, "stylegan3"))[:-1]]
    settings["channels"] = [round(min(channel_base * more / 2 / cutoff, channel_max * more)) for cutoff in cutoffs]
    widths = [min(channel_base // (4 << k), channel_max) for k in range(size.bit_length() - 2)]
    critic = {
        "c_dim": n_classes, "img_resolution": size, "img_channels": channels, "channels": widths,
        "cmap_dim": widths[0] if n_classes else 0,
    }  # fmt: skip
    return (
        parse(StyleGAN3GeneratorConfig, settings, "stylegan3 generator"),
        parse(StyleCriticConfig, critic, "stylegan3 critic"),
    )


class StyleGAN3(Backbone):
    """Alias-free generator with StyleGAN2's critic."""

    objective = Objective(penalty_weight=1.0, penalty_every=16)
    recipe = Recipe(batch=32, generator_lr=2.5e-3, critic_lr=2e-3, miner_lr=2.5e-3, betas=(0.0, 0.99), ema_decay=0.998)
    smallest: ClassVar[dict[str, Any]] = {"size": 16, "latent_dim": 6, "layers": 4, "channel_base": 64, "channel_max": 6}

    GeneratorConfig = StyleGAN3GeneratorConfig
    CriticConfig = StyleCriticConfig

    def generator(self, config: StyleGAN3GeneratorConfig) -> StyleGAN3Generator:
        """Build a generator; its filters are designed, its other tensors are zero."""
        return StyleGAN3Generator(config)

    def critic(self, config: StyleCriticConfig) -> _style_critic.StyleCritic:
        """Build a critic."""
        return _style_critic.StyleCritic(config)

    @torch.no_grad()
    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        if not isinstance(network, StyleGAN3Generator):
            _style_critic.initialise(network)
            return
        network.mapping.initialise()
        network.synthesis.input.initialise()
        for layer in network.synthesis.layers:
            layer.initialise()

    def filters(self, config: dict[str, Any]) -> dict[str, Tensor]:
        """Filters that a generator of given settings has, by their names in its state."""
        parsed = parse(StyleGAN3GeneratorConfig, config, "stylegan3 generator")
        return {
            f"synthesis.{layer_name(parsed, i)}.{name}": value
            for i in range(parsed.num_layers + 1)
            for name, value in layer_filters(parsed, i).items()
        }

    def sized(self, size: int, channels: int, n_classes: int = 0, **settings: Any) -> tuple[Config, Config]:
        """See :func:`published` for the settings."""
        pair: tuple[Config, Config] = checked(published, settings)(size, channels, n_classes=n_classes, **settings)
        return pair


PLUGIN = StyleGAN3()
