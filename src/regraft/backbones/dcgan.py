"""Convolutional GANs in the manner of Radford et al. 2016, "Unsupervised representation learning with DCGANs".

A generator is a list of transposed (or plain) convolutions, usually with batch normalisation; a critic a list of strided
convolutions.  Paddings, strides and activations are settings, because home-made files differ in all of them.
"""

from typing import Any, ClassVar

from torch import nn

from regraft.backbones import _layers
from regraft.backbones._layer_config import LayerConfig, LayeredCriticConfig, LayeredGeneratorConfig
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Objective, Recipe
from regraft.core.errors import ConfigError


class DCGAN(Backbone[LayeredGeneratorConfig, LayeredCriticConfig]):
    """Convolutional generator and critic.

    The recipe was chosen on transfers to anime faces and digits: batch statistics in both networks while they train, and a weak
    R1 penalty.  At weights that are usual for training from scratch (1 or more), R1 undoes what a pretrained critic knows.
    """

    objective = Objective(penalty_weight=0.05)
    recipe = Recipe(generator_norm="batch", critic_norm="batch", miner_lr=2e-3)
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 4, "latent_dim": 6}

    GeneratorConfig = LayeredGeneratorConfig
    CriticConfig = LayeredCriticConfig

    def generator(self, config: LayeredGeneratorConfig) -> _layers.LayeredGenerator:
        """Build a generator from its layers."""
        return _layers.LayeredGenerator("dcgan", config)

    def critic(self, config: LayeredCriticConfig) -> _layers.LayeredCritic:
        """Build a critic from its layers."""
        return _layers.LayeredCritic("dcgan", config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        _layers.initialise(network)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[LayeredGeneratorConfig, LayeredCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int,
    channels: int,
    latent_dim: int = 64,
    width: int = 32,
    n_classes: int = 0,
    distribution: str = "normal",
    max_width: int = 1 << 20,
) -> tuple[LayeredGeneratorConfig, LayeredCriticConfig]:
    """Return the settings of an ordinary DCGAN pair.

    Args:
        size: side of the images, 4 times a power of two.
        channels: 1 or 3.
        latent_dim: numbers per latent.
        width: channels next to the image; doubled at each halving of the side.
        n_classes: 0, or the number of classes, which the generator's norms and a projection head of the critic take.
        distribution: distribution of the latent.
        max_width: upper bound of the channels, where the doubling ends.
    """
    doublings = size.bit_length() - 3
    if doublings < 1 or size != 4 << doublings:
        raise ConfigError(f"a plain DCGAN has a side of 8, 16, 32, 64, ..., not {size}")
    widths = [min(width << i, max_width) for i in range(doublings)]  # image side first
    # These settings double the side in a transposed convolution and halve it in a plain one.
    by_two: dict[str, Any] = {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1)}
    hidden: dict[str, Any] = {"kind": "deconv", "bias": False, "norm": "batch", "activation": "relu"}
    up = [LayerConfig(inputs=latent_dim, outputs=widths[-1], kernel=(4, 4), **hidden)]
    for inputs, outputs in zip(widths[:0:-1], widths[-2::-1], strict=True):
        up.append(LayerConfig(inputs=inputs, outputs=outputs, **by_two, **hidden))
    up.append(LayerConfig(kind="deconv", inputs=widths[0], outputs=channels, activation="tanh", **by_two))
    down = []
    for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True):
        down.append(LayerConfig(kind="conv", inputs=inputs, outputs=outputs, activation="leaky_relu", **by_two))
    down.append(LayerConfig(kind="conv", inputs=widths[-1], outputs=1, kernel=(4, 4)))
    generator = LayeredGeneratorConfig.model_validate(
        {
            "latent": {"dim": latent_dim, "distribution": distribution},
            "layers": up,
            "n_classes": n_classes,
            "conditioning": "norm" if n_classes else "none",
        }
    )
    critic = LayeredCriticConfig.model_validate(
        {
            "channels": channels,
            "size": (size, size),
            "layers": down,
            "n_classes": n_classes,
            "head": "projection" if n_classes else "none",
        }
    )
    return generator, critic


PLUGIN = DCGAN()
