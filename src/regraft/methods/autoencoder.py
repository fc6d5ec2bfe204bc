"""Pretraining of an autoencoder on images: encode, decode, squared error.

What comes out is a source whose generator is the decoder behind a Gaussian, fitted to the codes of the training images once
training is over.

Source: Fregier & Gouray 2019, "Mind2Mind", for steps and batches of the 28x28 case; Ghosh et al. 2020, "From variational to
deterministic autoencoders", section 4, for a prior fitted afterwards.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.backbones.base import Backbone
from regraft.composites.decoded import DecodedGenerator, fit_prior, gaussian_prior
from regraft.core import discover, norms
from regraft.core.build import build_fresh
from regraft.core.device import device_of
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Autoencoder, Batch, Description
from regraft.core.randomness import generator_at
from regraft.data import codes
from regraft.data.images import Images
from regraft.methods.base import MethodConfig, PretrainingMethod
from regraft.training.updates import Adaptation, Data, Optimiser, Phase, Update

MEASURED = 10_000  # images that the prior is fitted to, at most
CALIBRATED = 2048  # images for the statistics of batch norms, at most
CALIBRATION_BATCH = 64


class AutoencoderConfig(MethodConfig):
    """Settings of pretraining an autoencoder."""

    steps: Annotated[int, Field(ge=0, description="Training steps.")] = 20_000
    backbone: Annotated[str, Field(description="Family that has a plain autoencoder.")] = "autoencoder"
    backbone_settings: Annotated[dict[str, Any], Field(description="Code size, width, ... of that backbone.")] = {}
    size: Annotated[int | None, Field(ge=4, description="Side of the images.")] = None
    channels: Annotated[int, Field(ge=1, le=3, description="1 or 3.")] = 3
    batch: Annotated[int, Field(ge=1, description="Images per step; 128 as published.")] = 128
    lr: Annotated[float, Field(gt=0, description="Adam step size; 0.001 as published.")] = 1e-3
    betas: Annotated[tuple[float, float], Field(description="Adam's decay rates; as published.")] = (0.9, 0.9)
    ema_decay: Annotated[float, Field(ge=0, lt=1, description="Per-step decay of the average that is kept; 0 for none.")] = (
        0.998
    )


class PretrainAutoencoder(PretrainingMethod[AutoencoderConfig]):
    """Reconstruct."""

    Config = AutoencoderConfig
    summary = "pretraining: a plain autoencoder from images alone (regraft pretrain)"
    paper = "Fregier & Gouray 2019, Mind2Mind, arXiv:1906.11613, 28x28 settings"
    backbone: ClassVar[str] = "autoencoder"

    def attach(self, sources: Sequence[GAN], images: Data, config: AutoencoderConfig, rng: torch.Generator) -> Adaptation:
        """A new autoencoder, and the decoder behind a prior that is fitted in the end."""
        if config.size is None:
            raise ConfigError("an autoencoder without a source needs size=, the side of the images")
        family = discover.plugin("backbones", config.backbone, Backbone)
        settings = family.default_autoencoder_config(config.size, config.channels, **config.backbone_settings)
        description = Description(config.backbone, "autoencoder", settings.model_dump(mode="json"))
        seed = int(torch.randint(1 << 62, (), generator=rng))
        generator = gaussian_prior(cast(Autoencoder, build_fresh(description, seed)))
        norms.set_training(generator.requires_grad_(True), "batch")
        autoencoder = generator.autoencoder

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
            error = (autoencoder.decode(autoencoder.encode(batch.data)) - batch.data).square().mean()
            return error, {"reconstruction": error.detach()}

        adam = Optimiser("autoencoder", [(list(autoencoder.parameters()), config.lr)], config.betas)
        phase = Phase("reconstruction", [Update("autoencoder", [adam], loss)], config.steps)
        return Adaptation(generator, None, [phase], {"generator": generator}, ema_decay=config.ema_decay, batch=config.batch)

    def finished(self, modules: dict[str, nn.Module], images: Data, config: AutoencoderConfig) -> GAN:
        """The averaged autoencoder with statistics and prior measured on training images."""
        generator = cast(DecodedGenerator, modules["generator"])
        return measured(generator, images)


def measured(generator: DecodedGenerator, images: Data) -> GAN:
    """A source of an autoencoder: batch norms on the statistics of training images, the prior fitted to their codes."""
    if not isinstance(images, Images):
        raise ConfigError("an autoencoder is trained on images")
    autoencoder = generator.autoencoder
    # In class folders the first images are of one class, and so would each batch be.
    some = images.tensor(torch.randperm(images.n, generator=generator_at(0, "measured"))[:MEASURED])
    device = device_of(autoencoder)

    def run(batch: Tensor) -> None:
        autoencoder.decode(autoencoder.encode(batch.to(device)))

    mixed = some[:CALIBRATED]
    norms.calibrate_on(autoencoder, run, torch.tensor_split(mixed, -(-len(mixed) // CALIBRATION_BATCH)))
    found = codes.encode_images(autoencoder, some)
    fit_prior(generator, found.to(device))
    generator.requires_grad_(False).eval()
    return GAN(generator, autoencoder=autoencoder)


PLUGIN = PretrainAutoencoder()
