"""Everything that an adaptation needs, with nothing written yet."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import generator_at
from regraft.data import rules
from regraft.data.codes import Codes
from regraft.data.images import Images
from regraft.methods.base import Method, MethodConfig
from regraft.training.updates import Adaptation


def lead_of(method: Method[MethodConfig], sources: Sequence[GAN], config: MethodConfig) -> GAN | None:
    """Return the source whose image size, critic, objective and recipe are used; None without sources."""
    return method.lead(sources, config) if sources else None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything that an adaptation needs, with nothing written yet.

    Attributes:
        job: the settings, with every open choice made.
        sources: loaded GANs, with the job's objective and recipe.
        train: images, or codes, to train on.
        held: images held out of training to measure on, or None.
        method, config: the method with its settings.
        notes: what was converted, assumed or chosen, one sentence each.
        device: where to compute.
        cautions: what the images do to the verdict, one sentence each.
        version: of the rules by which images are scaled and held out.
    """

    job: AdaptJob
    sources: tuple[GAN, ...]
    train: Images | Codes
    held: Images | None
    method: Method[MethodConfig]
    config: MethodConfig
    notes: tuple[str, ...]
    device: torch.device
    cautions: tuple[str, ...] = ()
    version: int = rules.NEWEST

    @property
    def lead(self) -> GAN | None:
        """The source whose image size, critic, objective and recipe are used; None without sources."""
        return lead_of(self.method, self.sources, self.config)

    @property
    def image(self) -> dict[str, Any]:
        """Size, channels, fit and aspect of the images, as the adapter's description holds them."""
        if isinstance(self.train, Codes):
            (height, width), channels = self.sources[0].generator.size, self.sources[0].generator.channels
            return {"size": [height, width], "channels": channels, "fit": self.train.record.get("fit"), "aspect": None}
        channels, height, width = self.train.pixels.shape[1:]
        aspect = self.train.aspect if self.job.fit in ("pad", "stretch") else None
        return {"size": [height, width], "channels": channels, "fit": self.job.fit, "aspect": aspect}

    @property
    def data(self) -> dict[str, Any]:
        """Digest, counts and classes of the target images, as the adapter's description holds them."""
        held_out = 0 if self.held is None else self.held.n
        classes = {"classes": list(self.train.classes)} if self.train.classes else {}
        # Runs of the first rules recorded none, and a resumed one must find its record unchanged.
        version = {} if self.version == rules.FIRST or isinstance(self.train, Codes) else {"rules": self.version}
        return {"digest": self.train.digest, "n": self.train.n + held_out, "held_out": held_out, **classes, **version}

    @property
    def image_names(self) -> tuple[str, ...]:
        """Names of the images, held-out ones last; none for codes."""
        if isinstance(self.train, Codes):
            return ()
        return (*self.train.names, *(() if self.held is None else self.held.names))

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of images and sources, which a resumed run must find unchanged."""
        return {"data": self.data, "sources": [tensor_digest(s.generator) for s in self.sources]}

    def attach(self) -> Adaptation:
        """Attach the method; extend the last phase by ``more`` steps.

        Raises:
            ConfigError: if steps are added to a method that trains nothing.
        """
        adaptation = self.method.attach(self.sources, self.train, self.config, generator_at(self.job.seed, "init"))
        if not self.job.more:
            return adaptation
        if not any(phase.steps for phase in adaptation.phases):
            raise ConfigError(f"--more {self.job.more}: {self.job.method} trains nothing")
        *others, last = adaptation.phases
        extended = dataclasses.replace(last, steps=last.steps + self.job.more)
        return dataclasses.replace(adaptation, phases=[*others, extended])
