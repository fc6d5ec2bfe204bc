"""What a backbone file provides."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from regraft.core.config import Config, Objective, Recipe, unknown_name
from regraft.core.errors import ConfigError
from regraft.core.networks import Critic, Generator

GeneratorConfigT = TypeVar("GeneratorConfigT", bound=Config)
CriticConfigT = TypeVar("CriticConfigT", bound=Config)


class Backbone(abc.ABC, Generic[GeneratorConfigT, CriticConfigT]):
    """A family of networks: their settings, the functions that build them, and how the family is trained.

    Attributes:
        GeneratorConfig, CriticConfig: settings of the two networks.
        AutoencoderConfig: settings of an autoencoder, in families that have one.
        objective, recipe: how the family is trained unless a source says otherwise.
        smallest: arguments of :meth:`default_configs`, ``size`` among them, for a pair that computes in milliseconds.
        conditional: whether the family has networks with classes.
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
    def generator(self, config: GeneratorConfigT) -> Generator:
        """Build a generator; its weights are whatever the constructors of its layers give."""

    @abc.abstractmethod
    def critic(self, config: CriticConfigT) -> Critic:
        """Build a critic; its weights are whatever the constructors of its layers give."""

    @abc.abstractmethod
    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights from torch's global generator, as the family's authors do."""

    def training(self, size: int, fresh: bool = False) -> tuple[Objective, Recipe]:
        """Return how the family is trained.

        Args:
            size: side of the images.
            fresh: whether the networks are new; if not, they come from a source.
        """
        return (Objective(), Recipe()) if fresh else (self.objective, self.recipe)

    @abc.abstractmethod
    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[GeneratorConfigT, CriticConfigT]:
        """Return the settings of the family's ordinary generator and critic for images of a given size.

        Args:
            size: side of the images.
            channels: 1 or 3.
            n_classes: number of classes, 0 for an unconditional pair.
            settings: further settings that the family offers: ``width``, ``latent_dim``, ...

        Raises:
            ConfigError: if the family has no network of that size or does not know a setting.
        """

    def default_autoencoder_config(self, size: int, channels: int, **settings: Any) -> Config:
        """Return the settings of the family's ordinary autoencoder, with arguments as for :meth:`default_configs`.

        Raises:
            ConfigError: if the family has none.
        """
        raise ConfigError(f"{type(self).__name__} has no plain autoencoder; choose the backbone autoencoder")


def check_settings(function: Callable[..., object], settings: dict[str, Any]) -> None:
    """Check that a function has a parameter for every setting.

    Raises:
        ConfigError: naming the first setting for which it has none.
    """
    known = list(inspect.signature(function).parameters)
    for name in settings:
        if name not in known:
            raise ConfigError(unknown_name("backbone setting", name, known))
