"""Everything that an adaptation needs, with nothing written yet."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import generator_at
from regraft.data.codes import Codes
from regraft.data.images import Images
from regraft.methods.base import Method, MethodConfig
from regraft.training.updates import Adaptation

SAMPLES_MEASURED = 1000


Emit = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything that an adaptation needs, with nothing written yet.

    Attributes:
        job: settings with every open choice made.
        sources: loaded, with the job's objective and recipe.
        train, held: images (or their codes) to train on, and images kept to measure on (None if there are none).
        method, config: the method with its settings.
        notes: what was converted, assumed or chosen, one sentence each.
        device: where to compute.
    """

    job: AdaptJob
    sources: tuple[GAN, ...]
    train: Images | Codes
    held: Images | None
    method: Method[MethodConfig]
    config: MethodConfig
    notes: tuple[str, ...]
    device: torch.device

    @property
    def lead(self) -> GAN | None:
        """The source whose image size, critic and way of training are taken."""
        return self.method.lead(self.sources, self.config) if self.sources else None

    @property
    def image(self) -> dict[str, Any]:
        """Size, channels, fit and aspect, as the adapter keeps them."""
        if isinstance(self.train, Codes):
            (height, width), channels = self.sources[0].generator.size, self.sources[0].generator.channels
            return {"size": [height, width], "channels": channels, "fit": self.train.record.get("fit"), "aspect": None}
        channels, height, width = self.train.pixels.shape[1:]
        undo = self.train.aspect if self.job.fit in ("pad", "stretch") else None
        return {"size": [height, width], "channels": channels, "fit": self.job.fit, "aspect": undo}

    @property
    def data(self) -> dict[str, Any]:
        """Digest and counts of the target images."""
        held = 0 if self.held is None else self.held.n
        named = {"classes": list(self.train.classes)} if self.train.classes else {}
        return {"digest": self.train.digest, "n": self.train.n + held, "held_out": held, **named}

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must find unchanged."""
        return {"data": self.data, "sources": [tensor_digest(s.generator) for s in self.sources]}

    def attach(self) -> Adaptation:
        """Put the method on sources and images; the last phase is as much longer as is asked for."""
        made = self.method.attach(self.sources, self.train, self.config, generator_at(self.job.seed, "init"))
        if not self.job.more:
            return made
        if not any(phase.steps for phase in made.phases):
            raise ConfigError(f"--more {self.job.more}: {self.job.method} trains nothing")
        *before, last = made.phases
        return dataclasses.replace(made, phases=[*before, dataclasses.replace(last, steps=last.steps + self.job.more)])
