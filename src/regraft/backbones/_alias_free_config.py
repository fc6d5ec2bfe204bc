"""Settings of StyleGAN3's generator, and the sampling of its layers that follows from them.

Source: Karras et al. 2021, "Alias-free generative adversarial networks", section 3.2 and appendix F.
"""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor

from regraft.backbones._alias_free import lowpass
from regraft.backbones._style_config import StyleMappingConfig, Width

Positive = Annotated[float, Field(gt=0, le=1 << 20)]


class StyleGAN3GeneratorConfig(StyleMappingConfig):
    """Settings of the generator of Karras et al. 2021.

    Attributes:
        z_dim, w_dim: width of latents and styles.
        img_resolution, img_channels: side and channels of the images.
        channels: output width of each layer but the last, latent side first.
        num_layers: number of layers before the one that makes colours.
        num_critical: number of last layers that are critically sampled: their cutoff is half the rate.
        first_cutoff, first_stopband: frequencies of the first layer, in cycles per image.
        last_stopband_rel: stopband of the last layer over its cutoff.
        margin_size: samples outside the image that maps keep on every side.
        output_scale: factor of the images.
        conv_kernel: 3, or 1 for rotation equivariance.
        filter_size: taps of a resampling filter per unit of its factor.
        lrelu_upsampling: factor by which the grid of the nonlinearity is finer.
        use_radial_filters: whether downsampling filters are rotation-symmetric.
        conv_clamp: bound of the layers' outputs, None for none.
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
    """Sampling of one layer's output.

    Attributes:
        cutoff: highest frequency that passes, in cycles per image.
        half_width: half the width of the transition band above it.
        rate: samples per image side.
        size: side of the maps, margins included.
    """

    cutoff: float
    half_width: float
    rate: int
    size: int


class Plan(NamedTuple):
    """Resampling in one layer: up to a fine grid for the nonlinearity, and down again.

    Attributes:
        up, down: factors.
        up_taps, down_taps: lengths of the filters, 1 for the identity.
        padding: padding of the fine signal, before and after.
        rate: sampling rate of the fine signal.
        radial: whether the downsampling filter is rotation-symmetric.
    """

    up: int
    down: int
    up_taps: int
    down_taps: int
    padding: tuple[int, int]
    rate: int
    radial: bool


def grids(config: StyleGAN3GeneratorConfig) -> list[Grid]:
    """Return the sampling of all layers, the one that makes colours last."""
    c, half = config, config.img_resolution / 2
    layers = []
    for i in range(c.num_layers + 1):
        exponent = min(i / (c.num_layers - c.num_critical), 1.0)
        cutoff = c.first_cutoff * (half / c.first_cutoff) ** exponent
        stopband = c.first_stopband * (half * c.last_stopband_rel / c.first_stopband) ** exponent
        rate = 2 ** math.ceil(math.log2(min(stopband * 2, c.img_resolution)))
        size = c.img_resolution if i >= c.num_layers - 1 else rate + 2 * c.margin_size
        layers.append(Grid(cutoff, max(stopband, rate / 2) - cutoff, rate, size))
    return layers


def plan(config: StyleGAN3GeneratorConfig, layer: int) -> Plan:
    """Return the resampling in one layer, from the grid of the layer before to its own."""
    layers = grids(config)
    source, target = layers[max(layer - 1, 0)], layers[layer]
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
    """Return NVlabs' name of a layer, which holds the side and width of its output."""
    width = config.img_channels if layer == config.num_layers else config.channels[layer]
    return f"L{layer}_{grids(config)[layer].size}_{width}"


def layer_filters(config: StyleGAN3GeneratorConfig, layer: int) -> dict[str, Tensor]:
    """Design the filters of a layer that are not the identity: ``up_filter`` and ``down_filter``, on the CPU."""
    layers, p = grids(config), plan(config, layer)
    source, target = layers[max(layer - 1, 0)], layers[layer]
    filters = {}
    if p.up_taps > 1:
        filters["up_filter"] = lowpass(p.up_taps, source.cutoff, source.half_width * 2, p.rate)
    if p.down_taps > 1:
        filters["down_filter"] = lowpass(p.down_taps, target.cutoff, target.half_width * 2, p.rate, p.radial)
    return filters
