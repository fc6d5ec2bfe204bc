"""TransferGAN: fine-tune the source's generator and critic on the target images.

Source: Wang et al. 2018, "Transferring GANs: generating images from limited data".  The paper finds that transferring both
networks is best, the critic alone helps, and the generator alone hurts.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from regraft.core import norms
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.methods._adversarial import Game, copy_generator
from regraft.methods._classes import LabelledConfig, class_ready, groups
from regraft.methods._critic_setup import WarmUpConfig, prepare_critic
from regraft.methods._finetuning import FinetuningConfig, add_regularizer
from regraft.methods._fresh_networks import fresh_like
from regraft.methods.base import AdaptingMethod
from regraft.training.updates import Adaptation, Data, Phase, class_shares


class TransferGANConfig(LabelledConfig, WarmUpConfig, FinetuningConfig):
    """Settings of TransferGAN."""

    transfer_generator: Annotated[bool, Field(description="Start from the source's generator, not from new weights.")] = True
    transfer_critic: Annotated[
        bool | None, Field(description="Start from the source's critic, not from new weights; default: if it has one.")
    ] = None


class TransferGAN(AdaptingMethod[TransferGANConfig]):
    """Fine-tune generator and critic."""

    Config = TransferGANConfig
    summary = "fine-tune generator and critic from the source"
    paper = "Wang et al. 2018, Transferring GANs, arXiv:1805.01677"
    labels: ClassVar[bool] = True

    def attach(self, sources: Sequence[GAN], images: Data, config: TransferGANConfig, rng: torch.Generator) -> Adaptation:
        """Copy both networks (or draw one anew) and train them."""
        source = class_ready(sources[0], images, config, rng)
        recipe = source.recipe
        if not config.transfer_generator and config.transfer_critic is False:
            raise ConfigError("transfergan with transfer_generator=false and transfer_critic=false is the method scratch")
        if config.regularizer and not config.transfer_generator:
            raise ConfigError(
                f"regularizer={config.regularizer} holds the generator near its source; it needs transfer_generator"
            )
        if config.transfer_generator:
            generator = copy_generator(source.generator, recipe)
        else:
            generator = fresh_like(source.generator, rng)
            norms.set_training(generator, "batch")
        n = images.n_classes
        setup = prepare_critic(source, recipe, config.transfer_critic, config.warm_up, rng, n, config.class_head)
        critic = setup.critic
        game = Game(generator, critic, source.objective, recipe, config.augmentation(generator.channels))
        game.class_shares = class_shares(images, generator)
        add_regularizer(game, config, source)
        critic_before = None if setup.fresh else sources[0].critic
        critic_optimiser = game.optimiser("critic", groups(critic, critic_before, recipe.critic_lr, config, n))
        generator_before = sources[0].generator if config.transfer_generator else None
        optimiser = game.optimiser("generator", groups(generator, generator_before, recipe.generator_lr, config, n))
        phase = Phase("finetuning", game.updates("generator", critic_optimiser, [optimiser]), config.steps)
        return Adaptation(
            generator,
            critic,
            setup.phases(game, critic_optimiser, [phase]),
            game.modules,
            ema_decay=recipe.ema_decay,
            batch=recipe.batch,
            notes=setup.notes,
        )

    def rebuild(self, sources: Sequence[GAN], config: TransferGANConfig) -> Generator:
        """Copy the source's generator."""
        return copy_generator(sources[0].generator, sources[0].recipe, trainable=False)


PLUGIN = TransferGAN()
