"""StyleGAN3: an alias-free generator, equivariant to translation or to rotation too, whose details move with what is shown.

Published networks of kind -t convolve with 3 x 3 kernels; those of kind -r with 1 x 1 kernels, twice the width and radial
filters.  The critic is StyleGAN2's.

Source: Karras et al. 2021, "Alias-free generative adversarial networks".
"""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones._alias_free import filtered_lrelu
from regraft.backbones._alias_free_config import StyleGAN3GeneratorConfig, grids, layer_filters, layer_name, plan
from regraft.backbones._style import Dense, Mapping, StyleGenerator, add_class_inputs
from regraft.backbones._style_config import StyleCriticConfig
from regraft.backbones._style_critic import Conv, StyleCritic
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import Conditioning, Description, Generator, Noise
from regraft.core.randomness import Rng


class Waves(nn.Module):
    """The synthesis input: plane waves, moved and turned by the style, then mixed by a matrix."""

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
        """Return mixed waves (N, C, size, size) under styles (N, w_dim)."""
        # (cosine, sine, shift across, shift down)
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cosine, sine = t[:, 0], t[:, 1]
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
        # First the transform of the whole network, then a shift by (-t2, -t3), then a turn.
        matrix = turn @ (self.transform[:2] - t[:, 2:, None] * self.transform[2])
        freqs = self.freqs @ matrix[:, :, :2]
        phases = self.phases + (self.freqs @ matrix[:, :, 2:])[:, :, 0]
        amplitude = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
        # Pixel centres, in units of the image's side.
        position = (torch.arange(self.size, device=w.device, dtype=w.dtype) + 0.5 - self.size / 2) / self.rate
        across = freqs[:, :, 0, None, None] * position + phases[:, :, None, None]
        angle = across + freqs[:, :, 1, None, None] * position[:, None]
        x = torch.sin(angle * (2 * math.pi)) * amplitude.clamp(0, 1)[:, :, None, None]
        return torch.einsum("nchw,oc->nohw", x, self.weight / math.sqrt(len(self.weight)))

    def initialise(self) -> None:
        """Draw fresh waves, of frequencies spread over the disc of the band; at first styles leave them in place."""
        directions = torch.randn(len(self.phases), 2)
        length = directions.square().sum(1, keepdim=True).sqrt()
        self.freqs.copy_(directions / (length * length.square().exp().pow(0.25)) * self.bandwidth)
        self.phases.copy_(torch.rand(len(self.phases)) - 0.5)
        self.transform.copy_(torch.eye(3))
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))


class Layer(nn.Module):
    """A modulated convolution and the filtered nonlinearity; the last layer only makes the image's colours."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

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
        filters = layer_filters(config, layer)
        for name in ("up_filter", "down_filter"):
            value = filters.get(name)
            # A new tensor, so that a network laid out on another device has its filters there.
            self.register_buffer(name, None if value is None else torch.tensor(value.tolist()))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map (N, C, H, W) under styles (N, w_dim)."""
        x = self._convolve(x, self.affine(w)) + self.bias[:, None, None]
        gain, slope = (1.0, 1.0) if self.colours else (math.sqrt(2), 0.2)
        p = self.plan
        return filtered_lrelu(x, self.up_filter, self.down_filter, p.up, p.down, p.padding, gain, slope, self.clamp)

    def _convolve(self, x: Tensor, style: Tensor) -> Tensor:
        """Scale the inputs, convolve, scale the outputs: this equals a kernel for every image, without making those kernels."""
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
    """The synthesis network: waves, then layers."""

    input: Waves

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
        """Synthesise images from styles (N, num_ws, w_dim); there are no noise maps, so ``noise`` and ``rng`` are ignored."""
        x: Tensor = self.input(w[:, 0])
        for i, layer in enumerate(self.layers, start=1):
            x = layer(x, w[:, i])
        return x * self.scale


class StyleGAN3Generator(StyleGenerator):
    """StyleGAN3's generator: mapping and alias-free synthesis network."""

    synthesis: Synthesis

    def __init__(self, config: StyleGAN3GeneratorConfig) -> None:
        super().__init__(config.z_dim, config.c_dim, config.img_resolution, config.img_channels)
        self.config = config
        self.mapping = Mapping(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_layers + 2,
            config.mapping_layers,
            config.mapping_lr,
            config.embed_features,
            config.layer_features,
        )
        self.synthesis = Synthesis(config)

    def rebuild(self, **changes: object) -> "StyleGAN3Generator":
        """See :meth:`StyleGenerator.rebuild`."""
        return StyleGAN3Generator(self.config.model_copy(update=changes))

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("stylegan3", "generator", self.config.model_dump(mode="json"))

    def with_classes(self, n: int, how: Conditioning = "norm") -> Generator:
        """See :meth:`Generator.with_classes`; here the class always enters the mapping network, and through it every style."""
        if self.n_classes:
            raise MissingCapability("this generator already has classes")
        conditional = self.rebuild(c_dim=n, embed_features=self.config.w_dim)
        tensors = {k: v.detach().clone() for k, v in self.state_dict().items()}
        conditional.load_state_dict(tensors | {f"mapping.{k}": v for k, v in add_class_inputs(self.mapping, n).items()})
        return conditional.train(self.training)

    @property
    def stages(self) -> list[nn.Module]:
        """The mapping, the waves, the layers."""
        return [self.mapping, self.synthesis.input, *self.synthesis.layers]

    @property
    def norms(self) -> list[nn.Module]:
        """The affine layers that map styles to the scales of each layer's inputs."""
        return [layer.affine for layer in self.synthesis.layers]


def default_configs(
    size: int,
    channels: int,
    n_classes: int = 0,
    kind: Literal["t", "r"] = "t",
    width: int = 32768,
    top_width: int = 512,
    latent_dim: int = 512,
    layers: int = 14,
    mapping_layers: int = 2,
) -> tuple[StyleGAN3GeneratorConfig, StyleCriticConfig]:
    """Return the settings of an ordinary pair, of one of the published kinds.

    Args:
        size: side of the images, a power of two from 8 on.
        channels: 1 or 3.
        n_classes: number of classes, 0 for none.
        kind: ``t`` for equivariance to translation, ``r`` to rotation too (twice as wide, 1 x 1 kernels).
        width: features of a layer times twice its cutoff frequency; in the critic, features of a block times its side.
        top_width: upper bound of the features of a layer.
        latent_dim: width of latents and styles.
        layers: layers of the synthesis, without the last one, which makes colours.
        mapping_layers: layers of the generator's mapping.
    """
    if kind not in ("t", "r"):
        raise ConfigError(f"kind: a StyleGAN3 is of kind t or r, not {kind}")
    if size < 8 or size & (size - 1) or size > 4096:
        raise ConfigError(f"a StyleGAN3 has a side of 8, 16, 32, ... 4096, not {size}")
    if channels not in (1, 3):
        raise ConfigError(f"a StyleGAN3 makes images of 1 or 3 channels, not {channels}")
    rotation = kind == "r"
    settings: dict[str, Any] = {
        "z_dim": latent_dim,
        "w_dim": latent_dim,
        "c_dim": n_classes,
        "img_resolution": size,
        "img_channels": channels,
        "mapping_layers": mapping_layers,
        "num_layers": layers,
        "channels": [1] * layers,
        "conv_kernel": 1 if rotation else 3,
        "use_radial_filters": rotation,
    }
    factor = 2 if rotation else 1
    cutoffs = [grid.cutoff for grid in grids(parse(StyleGAN3GeneratorConfig, settings, "stylegan3"))[:-1]]
    settings["channels"] = [max(1, round(min(width * factor / 2 / cutoff, top_width * factor))) for cutoff in cutoffs]
    widths = [max(1, min(width // (4 << k), top_width)) for k in range(size.bit_length() - 2)]
    critic = {
        "c_dim": n_classes,
        "img_resolution": size,
        "img_channels": channels,
        "channels": widths,
        "cmap_dim": widths[0] if n_classes else 0,
    }
    return (
        parse(StyleGAN3GeneratorConfig, settings, "stylegan3 generator"),
        parse(StyleCriticConfig, critic, "stylegan3 critic"),
    )


class StyleGAN3(Backbone[StyleGAN3GeneratorConfig, StyleCriticConfig]):
    """Alias-free generator with StyleGAN2's critic.

    Training is the authors': lazy R1 whose strength grows with the number of pixels, no mixed styles, no path lengths.
    """

    objective = Objective(penalty_weight=0.41, penalty_every=16)
    recipe = Recipe(batch=32, generator_lr=2.5e-3, critic_lr=2e-3, miner_lr=2e-3, betas=(0.0, 0.99), ema_decay=0.998)
    smallest: ClassVar[dict[str, Any]] = {"size": 16, "latent_dim": 6, "layers": 4, "width": 64, "top_width": 6}

    GeneratorConfig = StyleGAN3GeneratorConfig
    CriticConfig = StyleCriticConfig

    def generator(self, config: StyleGAN3GeneratorConfig) -> StyleGAN3Generator:
        """Build a generator; its filters are designed, its other tensors are zero."""
        return StyleGAN3Generator(config)

    def critic(self, config: StyleCriticConfig) -> StyleCritic:
        """Build a critic."""
        return StyleCritic(config)

    @torch.no_grad()
    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        if isinstance(network, StyleGAN3Generator):
            network.mapping.initialise()
            network.synthesis.input.initialise()
            for layer in network.synthesis.layers:
                layer.initialise()
            return
        for module in network.modules():
            if isinstance(module, Conv | Dense):
                module.initialise()

    def training(self, size: int, fresh: bool = False) -> tuple[Objective, Recipe]:
        """See :meth:`Backbone.training`; R1 is 0.0002 times the pixels over the batch, as for StyleGAN2 (0.41 at 256 px)."""
        weight = round(2e-4 * size**2 / self.recipe.batch, 4)
        return self.objective.model_copy(update={"penalty_weight": weight}), self.recipe

    def filters(self, config: dict[str, Any]) -> dict[str, Tensor]:
        """Return the filters of a generator of given settings, by their names in its state."""
        parsed = parse(StyleGAN3GeneratorConfig, config, "stylegan3 generator")
        return {
            f"synthesis.{layer_name(parsed, i)}.{name}": value
            for i in range(parsed.num_layers + 1)
            for name, value in layer_filters(parsed, i).items()
        }

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[StyleGAN3GeneratorConfig, StyleCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


PLUGIN = StyleGAN3()
