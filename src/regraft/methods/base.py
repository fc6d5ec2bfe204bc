"""What a method file provides: how sources and images become modules, updates and phases for the one training loop."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from regraft.composites.mixed import MixedGenerator
from regraft.core.config import Config, Objective, Recipe
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.training.updates import Adaptation, Data


class MethodConfig(Config):
    """Settings that every method has."""


class Method(abc.ABC):
    """A way to adapt sources to target images.

    Attributes:
        Config: its settings.
        summary: one line for lists.
        paper: where it is from.
        needs: capabilities of every source.
        sources: least and most number of sources.
        mixtures: whether it can adapt a generator that chooses among several sources.
        stands_alone: whether the adapted generator holds nothing of the source's weights.
        labels: whether it learns the classes of labelled images.
        mirrors: whether training images may be mirrored at random.
        running_state: buffers that follow training, by ``module.name``; they change after steps only.
    """

    Config: ClassVar[type[MethodConfig]]
    summary: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[Literal["critic", "autoencoder"]]] = frozenset()
    sources: ClassVar[tuple[int, int]] = (1, 1)
    mixtures: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True
    running_state: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def attach(self, sources: Sequence[GAN], images: Data, config: Any, rng: torch.Generator) -> Adaptation:
        """Copy what will change and say how it is trained.

        Args:
            sources: read-only.
            images: target data, at the first source's size and channels.
            config: a :attr:`Config`.
            rng: for initial weights.

        Raises:
            MissingCapability: if a source lacks something.
        """

    def training(self, source: GAN, config: Any) -> tuple[Objective, Recipe]:
        """Objective and recipe to begin with, before what the user sets: those of the source."""
        return source.objective, source.recipe

    def training_anew(self, config: Any) -> tuple[Objective, Recipe]:
        """The same without a source; those among the settings, where a method has such settings and they are given."""
        return Objective(), Recipe()

    def fitted(self, config: Any, sources: Sequence[GAN], images: Data) -> Any:
        """The settings with everything filled in that follows from sources and images."""
        return config

    def classes_dropped(self, config: Any) -> str | None:
        """Of a method that learns no classes: why it does not keep those of its sources either; None if it does."""
        return "does not learn classes"

    def finished(self, modules: dict[str, nn.Module], images: Data, config: Any) -> GAN:
        """The source that a pretraining has made.

        Args:
            modules: as trained; averages where there are any.  They may be changed.
            images: what it was trained on.
        """
        raise ConfigError(f"{type(self).__name__} adapts sources and makes none")

    def rebuild(self, sources: Sequence[GAN], config: Any) -> Generator:
        """The adapted generator's structure with the sources' weights, into which an adapter's tensors are loaded."""
        raise ConfigError(f"{type(self).__name__} makes sources and no adapters")

    def settle(self, sources: Sequence[GAN], config: Any, seed: int) -> Any:
        """The settings with every choice made that hangs on sources or seed."""
        return config

    def lead(self, sources: Sequence[GAN], config: Any) -> GAN:
        """The source whose image size, colours, critic and way of training are taken; there is at least one."""
        return sources[0]

    def check(self, sources: Sequence[GAN], name: str, config: Any = None) -> None:
        """Refuse a wrong number of sources or a missing capability; settings may waive one.

        Raises:
            ConfigError, MissingCapability: naming the method and the way out.
        """
        least, most = self.sources
        if not least <= len(sources) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ConfigError(f"{name} takes {wanted} source{'s' if most != 1 else ''}, {len(sources)} given")
        for source in sources:
            if not self.mixtures and isinstance(source.generator, MixedGenerator):
                raise MissingCapability(
                    f"{source.provenance.name}: its images come from several sources by turns, which {name} cannot change; "
                    "name those sources themselves, or choose transfergan or freezed"
                )
            for capability in sorted(self.needs):
                source.require(capability, for_=name)
