"""BSA: only scales and shifts after the generator's norms are learned, with one latent per target image and no critic.

Each image gets a latent z_i, and the generator is to give that image from it: absolute differences of pixels and of a frozen
network's features, a two-way nearest-neighbour distance that keeps the latents spread like the source's own, and a pull of
scales towards one and shifts towards zero.

What differs from the published code: the norms' own gains and shifts stay (so that adaptation starts at the source's very
images); the weights of the first linear layer, published with a step size of 1e-7, stay as they are; the perceptual network is
the source's critic unless a file of VGG16 is named; a class code is pulled towards its start, the mean class, not towards zero.
The latents are not in the adapter: with them it would hold the training images.  It holds their means and spreads,
from which new images are drawn: the published way, the middle of the source's own latents (``scaling.sampling=prior``), gives
other digits when the targets are one digit of a source of ten.

The default step sizes are those at which 25 digits are found again: at the published ones for SNGAN, scales outrun latents
and small networks go black (the published ones for BigGAN, 0.0005 and 0.05, are as far apart as these).  The distance to the
prior is weaker, because in many dimensions the nearest of some draws pulls every latent towards the middle.

Source: Noguchi & Harada 2019, "Image generation from small datasets via batch statistics adaptation".
"""

import functools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.composites.scaled import ScaledGenerator, ScalingConfig, ignores_length
from regraft.core import norms
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.networks import Batch
from regraft.methods._adversarial import copy_generator
from regraft.methods._perceptual import Perception, perception
from regraft.methods.base import AdaptingMethod, MethodConfig
from regraft.training.updates import Adaptation, Data, Logs, Loss, Optimiser, Phase, Update


class BSAConfig(MethodConfig):
    """Settings of BSA."""

    steps: Annotated[int, Field(ge=0, description="Training steps; 10,000 as published.")] = 3000
    scaling: Annotated[ScalingConfig, Field(description="Settings of the scaled generator: sampling and classes.")] = (
        ScalingConfig()
    )
    statistics: Annotated[
        Literal["source", "target"],
        Field(description="Statistics of batch normalisation: the source's (as published), or measured on target latents."),
    ] = "source"
    perceptual: Annotated[
        str,
        Field(
            description="Network whose features are compared. critic: the source's own; a path: a file of VGG16 or MobileNet "
            "v1; none: pixels alone."
        ),
    ] = "critic"
    perceptual_weight: Annotated[
        float | None, Field(ge=0, description="Factor of feature differences; default: 0.001 for the published VGG16, else 3.")
    ] = None
    spread_weight: Annotated[
        float, Field(ge=0, description="Factor of the distance between latents and their prior; 0.1 as published.")
    ] = 0.01
    scale_weight: Annotated[float, Field(ge=0, description="Factor of the pull of scales and shifts towards the source.")] = (
        0.02
    )
    jitter: Annotated[float, Field(ge=0, description="Standard deviation of noise that is added to latents in training.")] = (
        0.01
    )
    latent_start: Annotated[
        Literal["zero", "prior"] | None,
        Field(
            description="Where latents start. zero: as published; prior: at draws from it; default: prior if the generator "
            "normalises its latents, else zero."
        ),
    ] = None
    scale_lr: Annotated[float, Field(gt=0, description="Adam step size of scales and shifts; 0.03 as published for SNGAN.")] = (
        0.003
    )
    latent_lr: Annotated[float, Field(gt=0, description="Adam step size of the latents; 0.03 as published for SNGAN.")] = 0.1
    code_lr: Annotated[float, Field(gt=0, description="Adam step size of the class code.")] = 0.001
    decay: Annotated[float, Field(gt=0, le=1, description="Factor of all step sizes at each decay.")] = 0.2
    decay_every: Annotated[
        int | None, Field(ge=1, description="Steps between decays; default: three tenths of steps, as published.")
    ] = None
    batch: Annotated[int | None, Field(ge=1, description="Images per step; default: the recipe's, at most all images.")] = None

    @property
    def classes_lost(self) -> str | None:
        """See :attr:`MethodConfig.classes_lost`."""
        return None if self.scaling.classes == "keep" else "does not learn classes; scaling.classes=keep has the source's"


class Latents(nn.Module):
    """One latent per target image."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.z = nn.Parameter(start)


class BSA(AdaptingMethod[BSAConfig]):
    """Learn scales, shifts and latents."""

    Config = BSAConfig
    summary = "learn scales and shifts of hidden layers only, one latent per image; an adapter of kilobytes, no critic"
    paper = "Noguchi & Harada 2019, Batch Statistics Adaptation, arXiv:1904.01774"
    mirrors: ClassVar[bool] = False
    mixtures: ClassVar[bool] = False

    def attach(self, sources: Sequence[GAN], images: Data, config: BSAConfig, rng: torch.Generator) -> Adaptation:
        """Put scales and shifts on a copy of the generator and give each image a latent."""
        (source,) = sources
        generator = self.rebuild(sources, config)
        if source.generator.n_classes and config.scaling.classes == "keep" and not images.n_classes:
            raise ConfigError("bsa with scaling.classes=keep needs labelled images (--labels); or choose scaling.classes=learn")
        if config.statistics == "target" and not any(norms.batch_norms(generator)):
            raise ConfigError("statistics=target: this generator has no batch normalisation; leave it at source")
        norms.set_training(generator.requires_grad_(True), "batch" if config.statistics == "target" else "running")
        start = config.latent_start or ("prior" if ignores_length(source.generator) else "zero")
        prior = source.generator.latent
        latents = Latents(prior.sample(images.n, rng) if start == "prior" else torch.zeros(images.n, prior.dim))
        network = perception(config.perceptual, source)
        groups = [(list(generator.scales.parameters()), config.scale_lr), ([latents.z], config.latent_lr)]
        if generator.code is not None:
            groups.append(([generator.code], config.code_lr))
        every = config.decay_every or max(1, config.steps * 3 // 10)
        schedule = functools.partial(_decayed, config.decay, every)
        optimiser = Optimiser("scales", groups, betas=(0.9, 0.999), schedule=schedule)
        loss = _loss(generator, latents, network, prior, config)
        phase = Phase(
            "adaptation",
            [Update("scales", [optimiser], loss, after_step=lambda: generator.sample_like(latents.z))],
            config.steps,
        )
        modules: dict[str, nn.Module] = {"generator": generator, "latents": latents}
        modules |= {"perception": network} if network is not None else {}
        batch = config.batch or min(source.recipe.batch, images.n)
        return Adaptation(generator, None, [phase] if config.steps else [], modules, averaged=(), batch=batch)

    def rebuild(self, sources: Sequence[GAN], config: BSAConfig) -> ScaledGenerator:
        """Put scales of one and shifts of zero on a copy of the source's generator."""
        return ScaledGenerator(copy_generator(sources[0].generator, sources[0].recipe, trainable=False), config.scaling)


def _decayed(decay: float, every: int, step: int) -> float:
    return float(decay ** (step // every))


def _loss(generator: ScaledGenerator, latents: Latents, network: Perception | None, prior: Latent, config: BSAConfig) -> Loss:
    weight = config.perceptual_weight
    if weight is None:
        weight = 3.0 if network is None or network.relative else 0.001
    start = None if generator.code is None else generator.code.detach().clone()

    def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
        device = batch.data.device
        z = latents.z[batch.index.to(device)]
        noise = torch.randn(z.shape, generator=rng, device=rng.device).to(z)
        images = generator.render(z + config.jitter * noise, batch.labels if generator.n_classes else None)
        parts = {"pixels": (images - batch.data).abs().mean()}
        if network is not None and weight:
            parts["features"] = weight * network(images, batch.data)
        if config.spread_weight:
            parts["spread"] = config.spread_weight * spread(z, prior.sample(10 * len(batch), rng, device))
        if config.scale_weight:
            moved = generator.departure()
            if start is not None and generator.code is not None:
                moved = moved + (generator.code - start.to(device)).square().mean()
            parts["scales"] = config.scale_weight * moved
        total = cast(Tensor, sum(parts.values()))
        return total, {"loss": total.detach(), **{name: part.detach() for name, part in parts.items()}}

    return loss


def spread(z: Tensor, prior: Tensor) -> Tensor:
    """Return the two-way squared nearest-neighbour distance of latents (N, dim) and draws from their prior (K, dim)."""
    gaps = (z[:, None] - prior[None]).square().sum(2)
    return gaps.min(0).values.mean() + gaps.min(1).values.mean()


PLUGIN = BSA()
