"""FreezeD: fine-tune with the critic's first stages fixed.

Source: Mo et al. 2020, "Freeze the discriminator: a simple baseline for fine-tuning GANs".  The low stages, next to the image,
carry general features; fixing them keeps a critic that sees few images from memorising them.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from regraft.gan import GAN, Generator
from regraft.methods._adversarial import Game, copy_critic, copy_generator, unfrozen
from regraft.methods._stabilise import FinetuningConfig, stabilise
from regraft.methods.base import Adaptation, Data, Method, Phase


class FreezeDConfig(FinetuningConfig):
    """Settings of FreezeD."""

    freeze: Annotated[int, Field(ge=0, description="Critic stages kept fixed, counted from the image.")] = 1


class FreezeD(Method):
    """Fine-tune with a partly fixed critic."""

    Config = FreezeDConfig
    summary = "fine-tune with the critic's first stages fixed"
    paper = "Mo et al. 2020, Freeze the Discriminator, arXiv:2002.10964"
    needs = frozenset({"critic"})

    def attach(self, sources: Sequence[GAN], images: Data, config: FreezeDConfig, rng: torch.Generator) -> Adaptation:
        """Copy both networks; the critic's first stages get no optimiser."""
        (source,) = sources
        recipe = source.recipe
        generator = copy_generator(source.generator, recipe)
        critic = copy_critic(source.require("critic", for_="freezed"), recipe)
        game = Game(generator, critic, source.objective, recipe, config.augmentation(generator.channels))
        stabilise(game, config, source)
        critic_optimiser = game.optimiser("critic", [(unfrozen(critic, config.freeze), recipe.critic_lr)])
        optimiser = game.optimiser("generator", [(list(generator.parameters()), recipe.generator_lr)])
        phase = Phase("finetuning", game.updates("generator", critic_optimiser, [optimiser]), config.steps)
        return Adaptation(generator, critic, [phase], game.modules, ema_decay=recipe.ema_decay, batch=recipe.batch)

    def rebuild(self, sources: Sequence[GAN], config: FreezeDConfig) -> Generator:
        """A copy of the source's generator."""
        return copy_generator(sources[0].generator, sources[0].recipe, trainable=False)


PLUGIN = FreezeD()
