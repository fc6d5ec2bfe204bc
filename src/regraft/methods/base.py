"""What a method file provides: how sources and images become modules, updates and phases for the one training loop."""

import abc
from collections.abc import Sequence
from typing import ClassVar, Generic, Literal, TypeVar, final

import torch
from torch import nn

from regraft.composites.mixed import MixedGenerator
from regraft.core.config import Config, Objective, Recipe
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.data.images import Images
from regraft.training.updates import Adaptation, Data


class MethodConfig(Config):
    """Settings that every method has."""

    @property
    def classes_lost(self) -> str | None:
        """Why a method that learns no classes loses those of its source too, as the end of a sentence; None if kept."""
        return "does not learn classes"


ConfigT = TypeVar("ConfigT", bound=MethodConfig)


class Method(abc.ABC, Generic[ConfigT]):
    """A way to train on target images.  Plug-ins extend :class:`AdaptingMethod`, :class:`PretrainingMethod` or both.

    Hooks:
        attach: what is trained, and how; the one that every method has to write.
        complete_config: for settings whose value follows from sources, classes or seed, so that a run records them.
        training: for methods that train by other rules than the source's family does.
        lead: for methods of several sources, which differ in image size, critic and training.
        AdaptingMethod.rebuild: an adapter holds only what changed, so loading it needs the structure.
        PretrainingMethod.finished: a source holds more than its trained weights, such as statistics and a recipe.

    Attributes:
        Config: class of its settings.
        summary: one line for lists.
        paper: where it is from.
        needs: capabilities that every source must have.
        sources: least and most number of sources.
        mixtures: whether it can adapt a generator that chooses among several sources; there not every network has a place.
        stands_alone: whether the adapted generator holds nothing of the source's weights; its adapter is then stored whole.
        labels: whether it learns the classes of labelled images; they are dropped or matched with the source's otherwise.
        mirrors: whether training images may be mirrored at random; not where each image is tied to something of its own.
    """

    Config: type[ConfigT]
    summary: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[Literal["critic", "autoencoder"]]] = frozenset()
    sources: ClassVar[tuple[int, int]] = (1, 1)
    mixtures: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True

    @abc.abstractmethod
    def attach(self, sources: Sequence[GAN], images: Data, config: ConfigT, rng: torch.Generator) -> Adaptation:
        """Copy what will change and say how it is trained.

        Args:
            sources: read-only.
            images: target data, at the size and channels of the leading source.
            config: settings, a :attr:`Config`.
            rng: for initial weights.

        Raises:
            MissingCapability: if a source lacks something.
        """

    def complete_config(self, config: ConfigT, sources: Sequence[GAN], n_classes: int, seed: int) -> ConfigT:
        """Fill in every setting that follows from sources, target classes or seed; completing twice changes nothing.

        Args:
            config: settings as the user gave them.
            sources: read-only.
            n_classes: classes of the target images, 0 without labels.
            seed: of the run.
        """
        return config

    def training(self, config: ConfigT, source: GAN | None) -> tuple[Objective, Recipe]:
        """Return objective and recipe before the user's changes: by default those of the source, else general ones.

        Args:
            config: completed settings.
            source: one of the sources, or None for a method that trains without any.
        """
        return (Objective(), Recipe()) if source is None else (source.objective, source.recipe)

    def lead(self, sources: Sequence[GAN], config: ConfigT) -> GAN:
        """Return the source whose image size, colours, critic and way of training are taken; there is at least one source."""
        return sources[0]

    @final
    def check(self, sources: Sequence[GAN], name: str) -> None:
        """Refuse a wrong number of sources or a missing capability.

        Raises:
            ConfigError, MissingCapability: naming the method and the way out.
        """
        least, most = self.sources
        if not least <= len(sources) <= most:
            number = str(least) if least == most else f"{least} to {most}"
            raise ConfigError(f"{name} takes {number} source{'s' if most != 1 else ''}, {len(sources)} given")
        for source in sources:
            if not self.mixtures and isinstance(source.generator, MixedGenerator):
                raise MissingCapability(
                    f"{source.provenance.name}: its images come from several sources by turns, which {name} cannot change; "
                    "name those sources themselves, or choose transfergan or freezed"
                )
            for capability in sorted(self.needs):
                source.require(capability, for_=name)


class AdaptingMethod(Method[ConfigT]):
    """A method that turns sources and target images into an adapter."""

    @abc.abstractmethod
    def rebuild(self, sources: Sequence[GAN], config: ConfigT) -> Generator:
        """Build the adapted generator's structure with the sources' weights; an adapter's tensors are loaded into it."""


class PretrainingMethod(Method[ConfigT]):
    """A method that makes a source from images alone."""

    sources: ClassVar[tuple[int, int]] = (0, 0)
    stands_alone: ClassVar[bool] = True

    @abc.abstractmethod
    def finished(self, modules: dict[str, nn.Module], images: Images, config: ConfigT) -> GAN:
        """Make the source from trained modules.

        Args:
            modules: as trained, averages where there are any; they may be changed.
            images: what they were trained on.
            config: completed settings.
        """
