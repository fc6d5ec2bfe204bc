"""StyleGAN2: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", and its data-efficient successor
StyleGAN2-ADA, "Training generative adversarial networks with limited data".

A mapping network turns latents into styles; each convolution of the synthesis network is modulated by a style.  Instead of one
kernel per image, features are scaled before and after a convolution that all images share: the same function, and several
times faster where grouped convolutions are slow.
"""

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones import _resample
from regraft.backbones._style import GAIN, SLOPE, Dense, Mapping, StyleGenerator, add_class_inputs
from regraft.backbones._style_config import StyleCriticConfig, StyleGAN2GeneratorConfig
from regraft.backbones._style_critic import HALF, Conv, StyleCritic
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Objective, Recipe
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import Conditioning, Description, Generator, Noise
from regraft.core.randomness import Rng, normal


class Layer(nn.Module):
    """A modulated and demodulated 3 x 3 convolution with noise, bias, activation and bound."""

    def __init__(self, config: StyleGAN2GeneratorConfig, inputs: int, outputs: int, side: int, *, doubles: bool) -> None:
        super().__init__()
        self.config, self.doubles, self.side = config, doubles, side
        self.affine = Dense(config.w_dim, inputs, bias_start=1.0)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if config.use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.zeros(side, side))

    def forward(self, x: Tensor, w: Tensor, noise: Noise, rng: Rng | None, gain: float = 1.0) -> Tensor:
        """Map features (N, inputs, H, W) under styles (N, w_dim) to (N, outputs, side, side), times ``gain``."""
        s = self.affine(w)
        x = x * s[:, :, None, None].to(x.dtype)
        if self.doubles:
            # The kernel is used as stored: conv_transpose2d flips it, and so do the authors.
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = _resample.smooth(x, padding=1, gain=4.0)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        # Leaky ReLU commutes with positive factors, so its gain goes into what is multiplied and added before.
        factor = gain * GAIN
        shift = self.bias[:, None, None] * factor + self._noise(x, noise, rng, factor)
        scale = self._demodulation(s) * factor
        x = torch.addcmul(_resample.fast_layout(shift).to(x.dtype), x, scale[:, :, None, None].to(x.dtype))
        x = F.leaky_relu_(x, SLOPE)
        limit = self.config.conv_clamp
        return x if limit is None else x.clamp(-limit * gain, limit * gain)

    def _demodulation(self, s: Tensor) -> Tensor:
        """Return the reciprocal norm (N, outputs) of every modulated filter (equation 3 of the paper)."""
        with torch.autocast(s.device.type, enabled=False):
            power = s.square() @ self.weight.square().sum((2, 3)).t()
            epsilon = 1e-8 * (self.weight[0].numel() if self.config.scaled_demod else 1)
            return torch.rsqrt(power + epsilon)

    def _noise(self, x: Tensor, noise: Noise, rng: Rng | None, factor: float) -> Tensor:
        """Return noise maps (1 or N, 1, H, W), times ``factor``."""
        if not self.config.use_noise or noise == "none":
            return x.new_zeros(1, 1, 1, 1)
        if noise == "const":
            return cast(Tensor, self.noise_const)[None, None] * (self.noise_strength * factor)
        if rng is None:
            raise ConfigError('noise="random" needs rng, a torch.Generator or one per row')
        maps = normal((len(x), 1, self.side, self.side), rng, self.noise_strength)
        return maps * (self.noise_strength * factor)

    def initialise(self) -> None:
        """Draw fresh weights and noise maps; noise starts at strength zero."""
        self.affine.initialise()
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)
        if self.config.use_noise:
            nn.init.zeros_(self.noise_strength)
            nn.init.normal_(cast(Tensor, self.noise_const))


class ToRGB(nn.Module):
    """A modulated 1 x 1 convolution from features to an image; its weights are not demodulated."""

    def __init__(self, config: StyleGAN2GeneratorConfig, inputs: int) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = Dense(config.w_dim, inputs, bias_start=1.0)
        self.weight = nn.Parameter(torch.zeros(config.img_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map features (N, inputs, H, W) under styles (N, w_dim) to images (N, channels, H, W), in float32."""
        n, inputs, height, width = x.shape
        s = self.affine(w) / math.sqrt(inputs)
        # One small matrix per image: cheaper than a pass over the features.
        weight = self.weight[None, :, :, 0, 0] * s[:, None]
        image = torch.matmul(weight.to(x.dtype), x.flatten(2)).view(n, -1, height, width)
        image = image.to(self.bias.dtype) + self.bias[:, None, None]
        return image if self.clamp is None else image.clamp(-self.clamp, self.clamp)

    def initialise(self) -> None:
        """Draw fresh weights."""
        self.affine.initialise()
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)


class Block(nn.Module):
    """One resolution of the synthesis: its convolutions, and the layer that makes its share of the image."""

    def __init__(self, config: StyleGAN2GeneratorConfig, level: int) -> None:
        super().__init__()
        self.config, self.level = config, level
        width, side = config.channels[level], 4 << level
        if level == 0:
            self.const = nn.Parameter(torch.zeros(width, 4, 4))
        else:
            self.conv0 = Layer(config, config.channels[level - 1], width, side, doubles=True)
        self.conv1 = Layer(config, width, width, side, doubles=False)
        makes_image = config.architecture == "skip" or level == len(config.channels) - 1
        self.torgb = ToRGB(config, width) if makes_image else None
        self.skip: Conv | None = None
        if config.architecture == "resnet" and level:
            self.skip = Conv(config.channels[level - 1], width, 1, resample="double", activate=False)

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: Noise, rng: Rng | None
    ) -> tuple[Tensor, Tensor | None]:
        """Go up one resolution.

        Args:
            x: features of the block below (N, C, H, W), None for the first.
            image: image so far, at the side of ``x``; None if no block has made any.
            w: all rows of styles (N, num_ws, w_dim).
            noise, rng: see :meth:`Generator.forward`.

        Returns:
            Features and image so far at the block's side.
        """
        # Rows of styles: the first block has 0 for its convolution and 1 for its image; block k has 2 k - 1 and 2 k for its
        # convolutions, and 2 k + 1, which is also the next block's first, for its image.
        row = 2 * self.level
        if x is None:
            x = self.conv1(_resample.fast_layout(self.const[None]), w[:, 0], noise, rng)
        else:
            shortcut = None if self.skip is None else self.skip(x, gain=HALF)
            x = self.conv0(x, w[:, row - 1], noise, rng)
            x = self.conv1(x, w[:, row], noise, rng, gain=1.0 if shortcut is None else HALF)
            x = x if shortcut is None else x + shortcut
        image = None if image is None else _resample.double(image)
        if self.torgb is not None:
            share = self.torgb(x, w[:, row + 1])
            image = share if image is None else image + share
        return x, image


class Synthesis(nn.Module):
    """The synthesis network: blocks from 4 x 4 to the side of the images."""

    def __init__(self, config: StyleGAN2GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for level in range(len(config.channels)):
            self.add_module(f"b{4 << level}", Block(config, level))

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Synthesise images (N, C, H, W) from styles (N, num_ws, w_dim)."""
        x: Tensor | None = None
        image: Tensor | None = None
        for block in self.children():
            x, image = block(x, image, w, noise, rng)
        return cast(Tensor, image).contiguous()


class StyleGAN2Generator(StyleGenerator):
    """StyleGAN2's generator: mapping and synthesis network."""

    def __init__(self, config: StyleGAN2GeneratorConfig) -> None:
        super().__init__(config.z_dim, config.c_dim, config.img_resolution, config.img_channels)
        self.config = config
        self.mapping = Mapping(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_ws,
            config.mapping_layers,
            config.mapping_lr,
            config.embed_features,
            config.layer_features,
        )
        self.synthesis = Synthesis(config)

    def rebuild(self, **changes: object) -> "StyleGAN2Generator":
        """See :meth:`StyleGenerator.rebuild`."""
        return StyleGAN2Generator(self.config.model_copy(update=changes))

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("stylegan2", "generator", self.config.model_dump(mode="json"))

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """See :attr:`Generator.conditionings`."""
        return ("norm", "concat") if self.config.mapping_layers and not self.n_classes else ()

    def with_classes(self, n: int, how: Conditioning = "norm") -> Generator:
        """See :meth:`Generator.with_classes`; here the class always enters the mapping network, and through it every style."""
        if self.n_classes or not self.config.mapping_layers:
            raise MissingCapability("this generator already has classes, or has no mapping network to take them")
        conditional = self.rebuild(c_dim=n, embed_features=self.config.w_dim)
        tensors = {k: v.detach().clone() for k, v in self.state_dict().items()}
        tensors |= {f"mapping.{k}": v for k, v in add_class_inputs(self.mapping, n).items()}
        conditional.load_state_dict(tensors)
        return conditional.train(self.training)

    @property
    def stages(self) -> list[nn.Module]:
        """The mapping network, then the blocks from 4 x 4 on."""
        return [self.mapping, *self.synthesis.children()]

    @property
    def norms(self) -> list[nn.Module]:
        """The affine layers that map styles to the scales of each convolution's inputs."""
        return [m.affine for m in self.modules() if isinstance(m, Layer | ToRGB)]


class StyleGAN2(Backbone[StyleGAN2GeneratorConfig, StyleCriticConfig]):
    """StyleGAN2 and StyleGAN2-ADA.

    Training is that of Karras et al. 2020, "Training generative adversarial networks with limited data": random noise, mixed
    styles, lazy R1 and path length regularisation, and a strength of R1 that grows with the number of pixels (their automatic
    setting, 0.0002 times the pixels over the batch: 0.8 at 256 px, and as much below).  The mapping network
    needs no step size of its own: its equalised learning rate makes it 100 times slower, in fine-tuning too.
    """

    objective = Objective(penalty_weight=0.8192, penalty_every=16, path_length_weight=2.0, path_length_every=4)
    recipe = Recipe(
        batch=16, generator_lr=2.5e-3, critic_lr=2.5e-3, miner_lr=2e-3, ema_decay=0.9978, noise="random", style_mixing=0.9
    )
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 4, "top_width": 6, "latent_dim": 6, "mapping_layers": 2}

    GeneratorConfig = StyleGAN2GeneratorConfig
    CriticConfig = StyleCriticConfig

    def generator(self, config: StyleGAN2GeneratorConfig) -> StyleGAN2Generator:
        """Build a generator."""
        return StyleGAN2Generator(config)

    def critic(self, config: StyleCriticConfig) -> StyleCritic:
        """Build a critic."""
        return StyleCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights: N(0, 1) throughout, scaled where they are used."""
        initialise(network)

    def training(self, size: int, fresh: bool = False) -> tuple[Objective, Recipe]:
        """See :meth:`Backbone.training`; batches shrink as images grow, and so do step sizes at 1024 px."""
        batch = max(4, min(4096 // size, 32))
        lr = 2e-3 if size >= 1024 else 2.5e-3
        # Below 256 px their setting hardly punishes the critic: at 32 px its scores swung together for the first fifty steps.
        weight = max(self.objective.penalty_weight, round(2e-4 * size**2 / batch, 4))
        objective = self.objective.model_copy(update={"penalty_weight": weight})
        return objective, self.recipe.model_copy(update={"batch": batch, "generator_lr": lr, "critic_lr": lr})

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[StyleGAN2GeneratorConfig, StyleCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def initialise(network: nn.Module) -> None:
    """Draw fresh weights as the authors do, from torch's global generator."""
    for module in network.modules():
        if isinstance(module, Layer | ToRGB | Conv | Mapping):
            module.initialise()
        elif isinstance(module, Block) and module.level == 0:
            nn.init.normal_(module.const)
    if isinstance(network, StyleCritic):
        network.b4.fc.initialise()
        network.b4.out.initialise()


def default_configs(
    size: int,
    channels: int,
    n_classes: int = 0,
    width: int = 32768,
    top_width: int = 512,
    latent_dim: int = 512,
    mapping_layers: int = 8,
) -> tuple[StyleGAN2GeneratorConfig, StyleCriticConfig]:
    """Return the settings of an ordinary pair, those of the paper.

    Args:
        size: side of the images, a power of two from 8 on.
        channels: 1 or 3.
        n_classes: number of classes, 0 for none.
        width: features of a block times its side (config F: 32768; half of it for 256 px and less).
        top_width: upper bound of the features of a block.
        latent_dim: width of latents and styles.
        mapping_layers: layers of the generator's mapping; a critic with classes has as many.
    """
    if size < 8 or size & (size - 1) or size > 4096:
        raise ConfigError(f"a StyleGAN2 has a side of 8, 16, 32, ... 4096, not {size}")
    if channels not in (1, 3):
        raise ConfigError(f"a StyleGAN2 makes images of 1 or 3 channels, not {channels}")
    sides = [4 << level for level in range(size.bit_length() - 2)]
    widths = tuple(max(1, min(width // side, top_width)) for side in sides)
    common: dict[str, Any] = {
        "c_dim": n_classes,
        "mapping_layers": mapping_layers,
        "img_resolution": size,
        "img_channels": channels,
        "channels": widths,
    }
    generator = StyleGAN2GeneratorConfig(z_dim=latent_dim, w_dim=latent_dim, **common)
    return generator, StyleCriticConfig(cmap_dim=widths[0] if n_classes else 0, **common)


PLUGIN = StyleGAN2()
