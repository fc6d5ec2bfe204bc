"""A plain convolutional autoencoder, and a GAN of the same layers.

The autoencoder has encoder c1 and decoder g1.  The GAN's generator is g1(g0(z)), its critic c0(c1(x)).  Mind2Mind trains g0 and
c0 only, training from scratch in pixels trains all four; the networks are the same.

Source: Fregier & Gouray 2019, "Mind2Mind: transfer learning for GANs", the 28x28 settings of its README; kernel sizes and the
latent's distribution are not stated there.
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.backbones import _layers
from regraft.backbones._layer_config import LayerConfig, LayeredCriticConfig, LayeredGeneratorConfig
from regraft.backbones._layers import Stage
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import WGAN_GP, Config, Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.networks import Autoencoder, Description, Noise
from regraft.core.randomness import Rng

CodeRange = Literal["none", "tanh", "relu"]


RESETTABLE = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, _layers.BatchNorm, nn.InstanceNorm2d)
"""Modules that hold weights."""


class PlainAutoencoderConfig(Config):
    """Settings of a plain autoencoder.

    Attributes:
        channels, size: of the images; size is their side.
        code_range: activation at the encoder's end.
        encoder: layers from the image to the code.
        decoder: layers from the code to the image.
    """

    channels: Literal[1, 3]
    size: Annotated[int, Field(ge=4, le=4096)]
    code_range: CodeRange = "tanh"
    encoder: tuple[LayerConfig, ...]
    decoder: tuple[LayerConfig, ...]

    @property
    def code_dim(self) -> int:
        """Numbers per code."""
        return self.encoder[-1].outputs

    @model_validator(mode="after")
    def _fits(self) -> "PlainAutoencoderConfig":
        if not self.encoder or not self.decoder:
            raise ValueError("encoder and decoder need at least one layer each")
        image = (self.channels, self.size, self.size)
        shape: tuple[int, ...] = image
        for layer in self.encoder:
            shape = layer.output_shape(shape)
        if len(shape) != 1 or self.encoder[-1].activation != self.code_range:
            raise ValueError(f"the encoder must end in a linear layer with activation {self.code_range}")
        for layer in self.decoder:
            shape = layer.output_shape(shape)
        if shape != image:
            raise ValueError(f"the decoder ends in {shape}, not in an image of {image}")
        return self


class PlainAutoencoder(Autoencoder):
    """A convolutional encoder to vectors, and a decoder."""

    def __init__(self, config: PlainAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.size, self.code_shape = config.channels, (config.size, config.size), (config.code_dim,)
        self.code_range = config.code_range
        self.encoder = nn.Sequential(*(Stage(layer) for layer in config.encoder))
        self.decoder = nn.Sequential(*(Stage(layer) for layer in config.decoder))
        self.register_buffer("mean_code", torch.zeros(config.code_dim))

    def encode(self, x: Tensor) -> Tensor:
        """See :meth:`Autoencoder.encode`."""
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, codes: Tensor, *, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """See :meth:`Autoencoder.decode`; there are no noise maps."""
        images: Tensor = self.decoder(codes)
        return images

    def describe(self) -> Description:
        """See :meth:`Autoencoder.describe`."""
        return Description("autoencoder", "autoencoder", self.config.model_dump(mode="json"))


class PlainAutoencoderBackbone(Backbone[LayeredGeneratorConfig, LayeredCriticConfig]):
    """The plain autoencoder, and a WGAN-GP of the same layers, with that family's usual settings.

    Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", for the settings.
    """

    objective = WGAN_GP
    recipe = Recipe(batch=64, generator_lr=1e-4, critic_lr=1e-4, betas=(0.5, 0.9), generator_norm="batch")
    smallest: ClassVar[dict[str, Any]] = {
        "size": 8,
        "code_dim": 6,
        "latent_dim": 5,
        "hidden": (8,),
        "head": (8,),
        "width": 4,
        "decoder_width": 4,
    }
    conditional = False
    pretrained_by = "autoencoder"

    GeneratorConfig = LayeredGeneratorConfig
    CriticConfig = LayeredCriticConfig
    AutoencoderConfig = PlainAutoencoderConfig

    def generator(self, config: LayeredGeneratorConfig) -> _layers.LayeredGenerator:
        """Build a generator from its layers."""
        return _layers.LayeredGenerator("autoencoder", config)

    def critic(self, config: LayeredCriticConfig) -> _layers.LayeredCritic:
        """Build a critic from its layers."""
        return _layers.LayeredCritic("autoencoder", config)

    def autoencoder(self, config: PlainAutoencoderConfig) -> PlainAutoencoder:
        """Build an autoencoder from its layers."""
        return PlainAutoencoder(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights as torch's constructors do, which is what the authors use."""
        for module in network.modules():
            if isinstance(module, RESETTABLE):
                module.reset_parameters()

    def training(self, size: int, fresh: bool = False) -> tuple[Objective, Recipe]:
        """See :meth:`Backbone.training`: the same for new networks and for those of a source."""
        return self.objective, self.recipe

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[LayeredGeneratorConfig, LayeredCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        if n_classes:
            raise ConfigError("the plain autoencoder's GAN has no class-conditional form; leave the labels out")
        check_settings(default_configs, settings)
        generator, critic, _ = default_configs(size, channels, **settings)
        return generator, critic

    def default_autoencoder_config(self, size: int, channels: int, **settings: Any) -> Config:
        """See :meth:`Backbone.default_autoencoder_config`; the settings are those of :func:`default_configs`."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, **settings)[2]


def default_configs(
    size: int,
    channels: int,
    code_dim: int = 256,
    width: int = 32,
    decoder_width: int = 64,
    latent_dim: int = 128,
    hidden: tuple[int, ...] = (512, 512),
    head: tuple[int, ...] = (256, 256),
    code_range: CodeRange = "tanh",
) -> tuple[LayeredGeneratorConfig, LayeredCriticConfig, PlainAutoencoderConfig]:
    """Return the settings of generator, critic and autoencoder; the defaults are the published 28x28 ones.

    Args:
        size: side of the images, from 8 on.
        channels: 1 or 3.
        code_dim: numbers per code.
        width: channels of the encoder next to the image; doubled at each halving of the side.
        decoder_width: channels of the decoder; its last hidden map has half as many.
        latent_dim: numbers per latent of the GAN.
        hidden: hidden widths of g0.
        head: hidden widths of c0.
        code_range: activation at the end of c1 and g0.
    """
    if not 8 <= size <= 1024:
        raise ConfigError(f"a plain autoencoder has a side of 8 to 1024, not {size}")
    sides = [size]
    while sides[-1] > 4:
        sides.append((sides[-1] + 1) // 2)
    by_two: dict[str, Any] = {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1)}
    widths = [channels, *(width << k for k in range(len(sides) - 1))]
    down, side = [], size
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        down.append(LayerConfig(kind="conv", inputs=a, outputs=b, bias=False, norm="instance", activation="relu", **by_two))
        side //= 2
    code: dict[str, Any] = {"kind": "linear", "outputs": code_dim, "activation": code_range}
    encoder = (*down, LayerConfig(inputs=widths[-1] * side * side, **code))
    first: dict[str, Any] = {
        "kind": "linear",
        "inputs": code_dim,
        "outputs": decoder_width * sides[-1] ** 2,
        "activation": "relu",
    }
    up = [LayerConfig(view=(decoder_width, sides[-1], sides[-1]), **first)]
    outputs = [decoder_width] * (len(sides) - 2) + [max(1, decoder_width // 2)]
    for small, large, a, b in zip(sides[:0:-1], sides[-2::-1], [decoder_width, *outputs[:-1]], outputs, strict=True):
        # A 3x3 kernel gives a side of 2 n - 1.
        shape = by_two | ({} if large == 2 * small else {"kernel": (3, 3)})
        up.append(LayerConfig(kind="deconv", inputs=a, outputs=b, bias=False, norm="batch", activation="relu", **shape))
    last: dict[str, Any] = {"kernel": (3, 3), "padding": (1, 1), "activation": "tanh"}
    decoder = (*up, LayerConfig(kind="conv", inputs=outputs[-1], outputs=channels, **last))
    g0_widths = (latent_dim, *hidden)
    g0 = [
        LayerConfig(kind="linear", inputs=a, outputs=b, norm="batch", activation="relu")
        for a, b in zip(g0_widths[:-1], g0_widths[1:], strict=True)
    ]
    g0.append(LayerConfig(inputs=g0_widths[-1], **code))
    c0_widths = (code_dim, *head)
    c0 = [
        LayerConfig(kind="linear", inputs=a, outputs=b, activation="relu")
        for a, b in zip(c0_widths[:-1], c0_widths[1:], strict=True)
    ]
    c0.append(LayerConfig(kind="linear", inputs=c0_widths[-1], outputs=1))
    generator = {"latent": {"dim": latent_dim, "distribution": "uniform"}, "layers": (*g0, *decoder)}
    critic = {"channels": channels, "size": (size, size), "layers": (*encoder, *c0)}
    autoencoder = {"channels": channels, "size": size, "code_range": code_range, "encoder": encoder, "decoder": decoder}
    return (
        LayeredGeneratorConfig.model_validate(generator),
        LayeredCriticConfig.model_validate(critic),
        PlainAutoencoderConfig.model_validate(autoencoder),
    )


PLUGIN = PlainAutoencoderBackbone()
