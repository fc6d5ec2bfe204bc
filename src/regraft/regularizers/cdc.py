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

    images: Annotated[int, Field(ge=3, description="Latents that are compared with one another.")] = 8


class CDC(Regularizer):
    """Divergence of relative similarities."""

    Config = CDCConfig
    summary = "cross-domain correspondence: keep the source's similarities between images"
    paper = "Ojha et al. 2021, Few-shot Image Generation via Cross-domain Correspondence, arXiv:2104.06820"
    weight = 1000.0

    def attach(self, generator: Generator, source: GAN, config: CDCConfig, free: Collection[str] = ()) -> Term:
        """Features are those of the generator's stages, on stored statistics where only these give the source's images."""
        if len(_hidden(generator)) < 2:
            raise ConfigError("regularizer=cdc: this generator has no hidden stage whose features could be compared")
        frozen: list[Generator] = []

        def term(rng: torch.Generator, device: torch.device) -> Tensor:
            nothing = zero_unless_trained(generator, device)
            if nothing is not None:
                return nothing
            if not frozen:
                frozen.append(copy.deepcopy(source.generator).requires_grad_(False).to(device))
            z = source.generator.latent.sample(config.images, rng, device)
            y = None
            if source.generator.n_classes:
                y = torch.randint(source.generator.n_classes, (len(z),), generator=rng, device=rng.device).to(device)
            with evaluating(generator) if free else contextlib.nullcontext():
                # Norms as in training, or the two would differ before anything is learned.
                _same_modes(frozen[0], generator)
                with torch.no_grad():
                    wanted = features(frozen[0], z, y)
                return correspondence(features(generator, z, y if generator.n_classes else None), wanted)

        return term


def correspondence(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Divergence of relative similarities, summed over layers and averaged over images.

    Args:
        ours: features of the adapted generator by layer, rows are images.
        theirs: the source's, for the same latents.
    """
    parts = []
    for a, b in zip(ours, theirs, strict=True):
        log_ours, log_theirs = F.log_softmax(similarities(a), dim=1), F.log_softmax(similarities(b), dim=1)
        parts.append((log_ours.exp() * (log_ours - log_theirs)).sum(1).mean())
    return torch.stack(parts).sum()


def similarities(x: Tensor) -> Tensor:
    """Cosines of each row with all others, (N, N - 1)."""
    x = F.normalize(x.float(), dim=1)
    n = len(x)
    others = ~torch.eye(n, dtype=torch.bool, device=x.device)
    return (x @ x.t())[others].view(n, n - 1)


def features(generator: Generator, z: Tensor, y: Tensor | None) -> list[Tensor]:
    """Outputs of a generator's hidden stages, one row per image."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        # Style blocks hand on features and an image, the last one too; other last stages give the image alone.
        found = output[0] if isinstance(output, tuple) else None if module is generator.stages[-1] else output
        if isinstance(found, Tensor):
            seen.append(found.flatten(1))

    hooks = [stage.register_forward_hook(keep) for stage in _hidden(generator)]
    try:
        generator(z, y)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _hidden(generator: Generator) -> list[nn.Module]:
    styles = generator.styles
    return [stage for stage in generator.stages if styles is None or stage is not styles.mapping]


def _same_modes(network: nn.Module, like: nn.Module) -> None:
    named = dict(like.named_modules())
    for name, ours in network.named_modules():
        theirs = named.get(name, like)
        ours.training = theirs.training
        if hasattr(theirs, "track_running_stats"):
            ours.track_running_stats = theirs.track_running_stats


PLUGIN = CDC()
