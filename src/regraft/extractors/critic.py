"""Features of the source's own critic: the input of its last stage, averaged over the image."""

import pathlib

import torch
from torch import Tensor, nn

from regraft.core.device import device_of
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import evaluating
from regraft.extractors.base import Extractor, Features


class CriticFeatures(Extractor):
    """Penultimate features of the source's critic."""

    summary = "the source critic's own features: relevant to its domain, not comparable across sources"

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Hook the input of the last stage."""
        if weights is not None:
            raise ConfigError("the extractor critic reads no file; it uses the source's critic")
        if source is None:
            raise ConfigError("the extractor critic needs a source: name it with --source, or evaluate a run")
        critic = source.require("critic", for_="the extractor critic")
        last = critic.stages[-1]

        def function(images: Tensor) -> Tensor:
            recorded: list[Tensor] = []

            def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                recorded.append(inputs[0])

            hook = last.register_forward_pre_hook(record)
            try:
                with evaluating(critic), torch.no_grad():
                    critic(images.to(device_of(critic)))
            finally:
                hook.remove()
            x = recorded[0]
            return x.mean((2, 3)) if x.dim() == 4 else x.flatten(1)

        return Features("critic", tensor_digest(critic), function)


PLUGIN = CriticFeatures()
