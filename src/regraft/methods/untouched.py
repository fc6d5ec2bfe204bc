"""The source as it is, without training: what adaptation has to beat in every table."""

from collections.abc import Sequence

import torch

from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.methods._adversarial import copy_generator
from regraft.methods.base import AdaptingMethod, MethodConfig
from regraft.training.updates import Adaptation, Data


class UntouchedConfig(MethodConfig):
    """It has no settings."""

    @property
    def classes_lost(self) -> str | None:
        """See :attr:`MethodConfig.classes_lost`: the source keeps everything."""
        return None


class Untouched(AdaptingMethod[UntouchedConfig]):
    """Leave the source as it is."""

    Config = UntouchedConfig
    summary = "the source as it is, for comparison; trains nothing"
    paper = "none"

    def attach(self, sources: Sequence[GAN], images: Data, config: UntouchedConfig, rng: torch.Generator) -> Adaptation:
        """Train nothing: there are no phases."""
        generator = self.rebuild(sources, config)
        return Adaptation(generator, None, [], {"generator": generator}, averaged=())

    def rebuild(self, sources: Sequence[GAN], config: UntouchedConfig) -> Generator:
        """Copy the source's generator."""
        return copy_generator(sources[0].generator, sources[0].recipe, trainable=False)


PLUGIN = Untouched()
