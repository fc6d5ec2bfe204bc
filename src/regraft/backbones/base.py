"""What a backbone file provides."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

from regraft.core.config import Config, Objective, Recipe, unknown_name
from regraft.core.errors import ConfigError
from regraft.core.networks import Critic, Generator


class Backbone(abc.ABC):
    """A family of networks: settings, builders and the family's own way of training.

    Attributes:
        GeneratorConfig, CriticConfig: settings of the two networks.
        AutoencoderConfig: settings of an autoencoder, in families that have one.
        objective, recipe: how the family trains unless a source says otherwise.
        smallest: arguments of :meth:`sized`, ``size`` among them, for a pair that computes in milliseconds; tests use it.
        conditional: whether the family has a form with classes.
        pretrained_by: the method that makes a source of this family from images alone.
    """

    GeneratorConfig: ClassVar[type[Config]]
    CriticConfig: ClassVar[type[Config]]
    objective: ClassVar[Objective] = Objective()
    recipe: ClassVar[Recipe] = Recipe()
    smallest: ClassVar[dict[str, Any]] = {"size": 8}
    conditional: ClassVar[bool] = True
    pretrained_by: ClassVar[str] = "scratch"

    @abc.abstractmethod
    def generator(self, config: Any) -> Generator:
        """Build a generator; weights are whatever the layers' constructors give."""

    @abc.abstractmethod
    def critic(self, config: Any) -> Critic:
        """Build a critic."""

    @abc.abstractmethod
    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights from torch's global generator, as the family's authors do."""

    def training(self, size: int, fresh: bool = False) -> tuple[Objective, Recipe]:
        """How the family trains at a side of ``size``: a source, or with ``fresh`` new networks without any source."""
        return (Objective(), Recipe()) if fresh else (self.objective, self.recipe)

    @abc.abstractmethod
    def sized(self, size: int, channels: int, n_classes: int = 0, **settings: Any) -> tuple[Config, Config]:
        """Settings of a regular generator and critic for images of a given size.

        Args:
            size: side of the images.
            channels: 1 or 3.
            n_classes: 0 for an unconditional pair.
            settings: what the family offers: ``width``, ``latent_dim``, ...

        Raises:
            ConfigError: if the family has no network of that size or does not know a setting.
        """

    def sized_autoencoder(self, size: int, channels: int, **settings: Any) -> Config:
        """Settings of a plain autoencoder, with arguments as for :meth:`sized`.

        Raises:
            ConfigError: if the family has none.
        """
        raise ConfigError(f"{type(self).__name__} has no plain autoencoder; choose the backbone autoencoder")


def checked(function: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """Return ``function`` if it knows every setting.

    Raises:
        ConfigError: naming the first setting that it does not know.
    """
    known = list(inspect.signature(function).parameters)
    for name in settings:
        if name not in known:
            raise ConfigError(unknown_name("backbone setting", name, known))
    return function
