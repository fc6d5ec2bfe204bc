"""Cross-domain correspondence: images that are alike in the source stay alike in the adapted generator, and no two collapse.

For a few latents, each image's similarities to the others (cosines of features, through a softmax) are a distribution, in every
layer; the loss is the divergence of the adapted generator's from the source's.

Source: Ojha et al. 2021, "Few-shot image generation via cross-domain correspondence", equations 1 to 3.
"""

import contextlib
import copy
from collections.abc import Collection
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.config import Config
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Generator, evaluating
from regraft.regularizers.base import Regularizer, Term, zero_unless_trained


class CDCConfig(Config):
    """Settings of cross-domain correspondence."""

    images: Annotated[int, Field(ge=3, description="Number of latents whose images are compared with one another.")] = 8


class CDC(Regularizer[CDCConfig]):
    """Divergence of relative similarities."""

    Config = CDCConfig
    summary = "cross-domain correspondence: keep the source's similarities between images"
    paper = "Ojha et al. 2021, Few-shot Image Generation via Cross-domain Correspondence, arXiv:2104.06820"
    weight = 1000.0

    def attach(self, generator: Generator, source: GAN, config: CDCConfig, free: Collection[str] = ()) -> Term:
        """Make the loss on outputs of the generator's stages; norms use stored statistics if ``free`` is not empty."""
        if len(_hidden(generator)) < 2:
            raise ConfigError("regularizer=cdc: this generator has no hidden stage whose features could be compared")
        frozen: list[Generator] = []

        def term(rng: torch.Generator, device: torch.device) -> Tensor:
            zero = zero_unless_trained(generator, device)
            if zero is not None:
                return zero
            if not frozen:
                frozen.append(copy.deepcopy(source.generator).requires_grad_(False).to(device))
            z = source.generator.latent.sample(config.images, rng, device)
            y = None
            if source.generator.n_classes:
                y = torch.randint(source.generator.n_classes, (len(z),), generator=rng, device=rng.device).to(device)
            with evaluating(generator) if free else contextlib.nullcontext():
                # Norms as in training, or the two would differ before anything is learned.
                _copy_modes(generator, frozen[0])
                with torch.no_grad():
                    before = features(frozen[0], z, y)
                return correspondence(features(generator, z, y if generator.n_classes else None), before)

        return term


def correspondence(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Return KL(ours || theirs) of relative similarities, summed over layers and averaged over images.

    Args:
        ours: features of the adapted generator, one tensor (N, D) per layer.
        theirs: the source's, of the same latents.

    Returns:
        Scalar.
    """
    parts = []
    for a, b in zip(ours, theirs, strict=True):
        log_ours, log_theirs = F.log_softmax(similarities(a), dim=1), F.log_softmax(similarities(b), dim=1)
        parts.append((log_ours.exp() * (log_ours - log_theirs)).sum(1).mean())
    return torch.stack(parts).sum()


def similarities(x: Tensor) -> Tensor:
    """Return the cosines of each row of x (N, D) with all others, (N, N - 1)."""
    x = F.normalize(x.float(), dim=1)
    n = len(x)
    others = ~torch.eye(n, dtype=torch.bool, device=x.device)
    return (x @ x.t())[others].view(n, n - 1)


def features(generator: Generator, z: Tensor, y: Tensor | None) -> list[Tensor]:
    """Return the outputs of a generator's hidden stages, each (N, D)."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        # Style blocks hand on features and an image, the last one too; other last stages give the image alone.
        value = output[0] if isinstance(output, tuple) else None if module is generator.stages[-1] else output
        if isinstance(value, Tensor):
            outputs.append(value.flatten(1))

    hooks = [stage.register_forward_hook(keep) for stage in _hidden(generator)]
    try:
        generator(z, y)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _hidden(generator: Generator) -> list[nn.Module]:
    styles = generator.styles
    return [stage for stage in generator.stages if styles is None or stage is not styles.mapping]


def _copy_modes(source: nn.Module, target: nn.Module) -> None:
    """Let each module of ``target`` train or evaluate, and use statistics, as that of the same name in ``source`` does."""
    modules = dict(source.named_modules())
    for name, module in target.named_modules():
        model = modules.get(name, source)
        module.training = model.training
        if isinstance(module, nn.modules.batchnorm._NormBase) and isinstance(model, nn.modules.batchnorm._NormBase):
            module.track_running_stats = model.track_running_stats


PLUGIN = CDC()
