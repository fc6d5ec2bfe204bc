"""Training from scratch: the baseline that shows what a source is worth, and the way sources are made.

With a source, its architecture is taken and its weights are drawn anew; without one, a backbone is named.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import nn

from regraft.backbones.base import Backbone
from regraft.core import discover, norms
from regraft.core.config import Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Critic, Generator
from regraft.data.images import Images
from regraft.methods._adversarial import Game
from regraft.methods._classes import LabelledConfig, class_ready
from regraft.methods._critic_setup import fresh_critic
from regraft.methods._fresh_networks import fresh_like, fresh_pair
from regraft.methods.base import AdaptingMethod, PretrainingMethod
from regraft.training.updates import Adaptation, Data, Phase, class_shares


class ScratchConfig(LabelledConfig):
    """Settings of training from scratch."""

    backbone: Annotated[str, Field(description="Family of networks; a source gives its own.")] = "dcgan"
    backbone_settings: Annotated[
        dict[str, Any], Field(description="Settings of that backbone, such as width and latent_dim.")
    ] = {}
    size: Annotated[int | None, Field(ge=4, description="Side of the images; a source gives its own.")] = None
    channels: Annotated[int, Field(ge=1, le=3, description="1 or 3; a source gives its own.")] = 3
    objective: Annotated[
        Objective | None, Field(description="The adversarial game without a source; default: the family's.")
    ] = None
    recipe: Annotated[Recipe | None, Field(description="Training settings without a source; default: the family's.")] = None


class Scratch(AdaptingMethod[ScratchConfig], PretrainingMethod[ScratchConfig]):
    """Train networks with new weights."""

    Config = ScratchConfig
    summary = "train a new GAN of the source's architecture: the baseline"
    paper = "Goodfellow et al. 2014"
    sources: ClassVar[tuple[int, int]] = (0, 1)
    stands_alone: ClassVar[bool] = True
    labels: ClassVar[bool] = True

    def attach(self, sources: Sequence[GAN], images: Data, config: ScratchConfig, rng: torch.Generator) -> Adaptation:
        """Build networks with new weights and train both."""
        if sources:
            source = class_ready(sources[0], images, config, rng)
            generator = fresh_like(source.generator, rng)
            critic = fresh_critic(source, rng, images.n_classes, config.class_head)
            objective, recipe = source.objective, source.recipe
        else:
            objective, recipe = self.training(config, None)
            generator, critic = fresh_pair(
                config.backbone, cast(int, config.size), config.channels, images.n_classes, config.backbone_settings, rng
            )
        # New networks have no statistics worth keeping.
        norms.set_training(generator.requires_grad_(True), "batch")
        norms.set_training(critic.requires_grad_(True), "batch")
        game = Game(generator, critic, objective, recipe, config.augmentation(generator.channels))
        game.class_shares = class_shares(images, generator)
        critic_optimiser = game.optimiser("critic", [(list(critic.parameters()), recipe.critic_lr)])
        optimiser = game.optimiser("generator", [(list(generator.parameters()), recipe.generator_lr)])
        phase = Phase("training", game.updates("generator", critic_optimiser, [optimiser]), config.steps)
        return Adaptation(generator, critic, [phase], game.modules, ema_decay=recipe.ema_decay, batch=recipe.batch)

    def training(self, config: ScratchConfig, source: GAN | None) -> tuple[Objective, Recipe]:
        """Return the source's rules, or those by which the family trains new networks."""
        if source is not None:
            return super().training(config, source)
        if config.size is None:
            raise ConfigError("scratch without a source needs size=, the side of the images")
        objective, recipe = discover.plugin("backbones", config.backbone, Backbone).training(config.size, fresh=True)
        return config.objective or objective, config.recipe or recipe

    def finished(self, modules: dict[str, nn.Module], images: Images, config: ScratchConfig) -> GAN:
        """Return generator and critic, to be fine-tuned by their family's rules, or in the game that was chosen."""
        generator, critic = cast(Generator, modules["generator"]), cast(Critic, modules["critic"])
        family, side = discover.plugin("backbones", generator.describe().kind, Backbone), max(generator.size)
        objective, recipe = family.training(side)
        chosen = config.objective not in (None, family.training(side, fresh=True)[0])
        return GAN(generator, critic, objective=config.objective if chosen else objective, recipe=recipe)

    def rebuild(self, sources: Sequence[GAN], config: ScratchConfig) -> Generator:
        """Build the source's architecture; every weight comes from the adapter."""
        return fresh_like(sources[0].generator, torch.Generator().manual_seed(0))


PLUGIN = Scratch()
