"""Pretraining of an autoencoder on images: encode, decode, squared error.

What comes out is a source whose generator is the decoder behind a Gaussian, fitted to the codes of the training images once
training is over.

Source: Fregier & Gouray 2019, "Mind2Mind", for steps and batches of the 28x28 case; Ghosh et al. 2020, "From variational to
deterministic autoencoders", section 4, for a prior fitted afterwards.
"""

from collections.abc import Sequence
from typing import Annotated, Any, cast

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
from regraft.training.updates import Adaptation, Data, Logs, Optimiser, Phase, Update

PRIOR_IMAGES = 10_000
"""Most images that the prior is fitted to."""
CALIBRATION_IMAGES, CALIBRATION_BATCH = 2048, 64
"""Most images that statistics of batch norms are measured on."""


class AutoencoderConfig(MethodConfig):
    """Settings of pretraining an autoencoder."""

    steps: Annotated[int, Field(ge=0, description="Training steps.")] = 20_000
    backbone: Annotated[str, Field(description="Family that has a plain autoencoder.")] = "autoencoder"
    backbone_settings: Annotated[
        dict[str, Any], Field(description="Settings of that backbone, such as code size and width.")
    ] = {}
    size: Annotated[int | None, Field(ge=4, description="Side of the images.")] = None
    channels: Annotated[int, Field(ge=1, le=3, description="1 or 3.")] = 3
    batch: Annotated[int, Field(ge=1, description="Images per step; 128 as published.")] = 128
    lr: Annotated[float, Field(gt=0, description="Adam step size; 0.001 as published.")] = 1e-3
    betas: Annotated[tuple[float, float], Field(description="Adam's decay rates; as published.")] = (0.9, 0.9)
    ema_decay: Annotated[float, Field(ge=0, lt=1, description="Per-step decay of the average that is kept; 0 for none.")] = (
        0.998
    )


class PretrainAutoencoder(PretrainingMethod[AutoencoderConfig]):
    """Train an autoencoder to reconstruct."""

    Config = AutoencoderConfig
    summary = "pretraining: a plain autoencoder from images alone (regraft pretrain)"
    paper = "Fregier & Gouray 2019, Mind2Mind, arXiv:1906.11613, 28x28 settings"

    def attach(self, sources: Sequence[GAN], images: Data, config: AutoencoderConfig, rng: torch.Generator) -> Adaptation:
        """Build a new autoencoder, and put its decoder behind a prior that is fitted in the end."""
        if config.size is None:
            raise ConfigError("an autoencoder without a source needs size=, the side of the images")
        family = discover.plugin("backbones", config.backbone, Backbone)
        settings = family.default_autoencoder_config(config.size, config.channels, **config.backbone_settings)
        description = Description(config.backbone, "autoencoder", settings.model_dump(mode="json"))
        seed = int(torch.randint(1 << 62, (), generator=rng))
        generator = gaussian_prior(cast(Autoencoder, build_fresh(description, seed)))
        norms.set_training(generator.requires_grad_(True), "batch")
        autoencoder = generator.autoencoder

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            error = (autoencoder.decode(autoencoder.encode(batch.data)) - batch.data).square().mean()
            return error, {"reconstruction": error.detach()}

        adam = Optimiser("autoencoder", [(list(autoencoder.parameters()), config.lr)], config.betas)
        phase = Phase("reconstruction", [Update("autoencoder", [adam], loss)], config.steps)
        return Adaptation(generator, None, [phase], {"generator": generator}, ema_decay=config.ema_decay, batch=config.batch)

    def finished(self, modules: dict[str, nn.Module], images: Images, config: AutoencoderConfig) -> GAN:
        """Measure statistics and prior of the averaged autoencoder on training images."""
        generator = cast(DecodedGenerator, modules["generator"])
        autoencoder, device = generator.autoencoder, device_of(generator)
        # In class folders the first images are of one class, and so would each batch be.
        order = torch.randperm(images.n, generator=generator_at(0, "measured"))
        shuffled = images.tensor(order[:PRIOR_IMAGES])

        def run(batch: Tensor) -> None:
            autoencoder.decode(autoencoder.encode(batch.to(device)))

        some = shuffled[:CALIBRATION_IMAGES]
        norms.calibrate_on(autoencoder, run, torch.tensor_split(some, -(-len(some) // CALIBRATION_BATCH)))
        fit_prior(generator, codes.encode_images(autoencoder, shuffled).to(device))
        generator.requires_grad_(False).eval()
        return GAN(generator, autoencoder=autoencoder)


PLUGIN = PretrainAutoencoder()
