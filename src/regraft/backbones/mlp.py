"""GANs of fully connected layers, as in Goodfellow et al. 2014, "Generative adversarial nets"."""

from typing import Any, ClassVar

from torch import nn

from regraft.backbones import _layers
from regraft.backbones._layer_config import LayerConfig, LayeredCriticConfig, LayeredGeneratorConfig
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Objective, Recipe


class MLP(Backbone[LayeredGeneratorConfig, LayeredCriticConfig]):
    """Fully connected generator and critic; trained like a DCGAN."""

    objective = Objective(penalty_weight=0.05)
    recipe = Recipe(generator_norm="batch", critic_norm="batch", miner_lr=2e-3)
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "widths": (16,), "latent_dim": 6}

    GeneratorConfig = LayeredGeneratorConfig
    CriticConfig = LayeredCriticConfig

    def generator(self, config: LayeredGeneratorConfig) -> _layers.LayeredGenerator:
        """Build a generator from its layers."""
        return _layers.LayeredGenerator("mlp", config)

    def critic(self, config: LayeredCriticConfig) -> _layers.LayeredCritic:
        """Build a critic from its layers."""
        return _layers.LayeredCritic("mlp", config)

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
    size: int, channels: int, latent_dim: int = 64, widths: tuple[int, ...] = (256, 256), n_classes: int = 0
) -> tuple[LayeredGeneratorConfig, LayeredCriticConfig]:
    """Return the settings of an ordinary MLP pair.

    Args:
        size: side of the images.
        channels: 1 or 3.
        latent_dim: numbers per latent.
        widths: hidden widths of the generator, latent side first; the critic mirrors them.
        n_classes: 0, or the number of classes: a one-hot class beside the latent, a projection head of the critic.
    """
    pixels = channels * size * size
    up = [latent_dim + n_classes, *widths]
    layers = [LayerConfig(kind="linear", inputs=a, outputs=b, activation="relu") for a, b in zip(up[:-1], up[1:], strict=True)]
    layers.append(LayerConfig(kind="linear", inputs=up[-1], outputs=pixels, view=(channels, size, size), activation="tanh"))
    down = [pixels, *reversed(widths)]
    critic_layers = [
        LayerConfig(kind="linear", inputs=a, outputs=b, activation="leaky_relu")
        for a, b in zip(down[:-1], down[1:], strict=True)
    ]
    critic_layers.append(LayerConfig(kind="linear", inputs=down[-1], outputs=1))
    generator = LayeredGeneratorConfig.model_validate(
        {
            "latent": {"dim": latent_dim},
            "layers": layers,
            "n_classes": n_classes,
            "conditioning": "concat" if n_classes else "none",
            "class_dim": n_classes,
        }
    )
    critic = LayeredCriticConfig.model_validate(
        {
            "channels": channels,
            "size": (size, size),
            "layers": critic_layers,
            "n_classes": n_classes,
            "head": "projection" if n_classes else "none",
        }
    )
    return generator, critic


PLUGIN = MLP()
