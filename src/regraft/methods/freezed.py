"""FreezeD: fine-tune with the critic's first stages fixed.

Source: Mo et al. 2020, "Freeze the discriminator: a simple baseline for fine-tuning GANs".  The low stages, next to the image,
carry general features; fixing them keeps a critic that sees few images from memorising them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.methods._adversarial import Game, copy_critic, copy_generator, unfrozen
from regraft.methods._classes import LabelledConfig, class_ready, groups
from regraft.methods._finetuning import FinetuningConfig, add_regularizer
from regraft.methods.base import AdaptingMethod
from regraft.training.updates import Adaptation, Data, Phase, class_shares


class FreezeDConfig(LabelledConfig, FinetuningConfig):
    """Settings of FreezeD."""

    freeze: Annotated[int, Field(ge=0, description="Number of critic stages kept fixed, counted from the image.")] = 1


class FreezeD(AdaptingMethod[FreezeDConfig]):
    """Fine-tune with the critic's first stages fixed."""

    Config = FreezeDConfig
    summary = "fine-tune with the critic's first stages fixed"
    paper = "Mo et al. 2020, Freeze the Discriminator, arXiv:2002.10964"
    needs = frozenset({"critic"})
    labels: ClassVar[bool] = True

    def attach(self, sources: Sequence[GAN], images: Data, config: FreezeDConfig, rng: torch.Generator) -> Adaptation:
        """Copy both networks; the critic's first stages get no optimiser."""
        source = class_ready(sources[0], images, config, rng)
        recipe = source.recipe
        generator = copy_generator(source.generator, recipe)
        critic = copy_critic(source.require("critic", for_="freezed"), recipe)
        game = Game(generator, critic, source.objective, recipe, config.augmentation(generator.channels))
        game.class_shares = class_shares(images, generator)
        add_regularizer(game, config, source)
        n, trained = images.n_classes, {id(p) for p in unfrozen(critic, config.freeze)}
        critic_groups = groups(critic, sources[0].critic, recipe.critic_lr, config, n)
        critic_groups = [([p for p in parameters if id(p) in trained], lr) for parameters, lr in critic_groups]
        critic_optimiser = game.optimiser("critic", critic_groups)
        optimiser = game.optimiser("generator", groups(generator, sources[0].generator, recipe.generator_lr, config, n))
        phase = Phase("finetuning", game.updates("generator", critic_optimiser, [optimiser]), config.steps)
        return Adaptation(generator, critic, [phase], game.modules, ema_decay=recipe.ema_decay, batch=recipe.batch)

    def rebuild(self, sources: Sequence[GAN], config: FreezeDConfig) -> Generator:
        """Copy the source's generator."""
        return copy_generator(sources[0].generator, sources[0].recipe, trainable=False)


PLUGIN = FreezeD()
