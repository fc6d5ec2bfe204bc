"""Keeping mined classes in the proportions of the target: a rule of our own beside the published one.

The critic alone lets a class miner drop rare classes: with 30 % threes and 70 % sevens as targets it was left with 3 % threes.
Here the mean of what the miner asks for is drawn towards the share of target images that look like each class.
"""

import dataclasses

import torch
from torch import Tensor

from regraft.composites.mined import MinedGenerator
from regraft.core.config import Recipe
from regraft.core.networks import Batch, Critic
from regraft.methods._looks import Looks
from regraft.training.updates import Update

MOST_CLASSES = 32
"""Above, images of all classes at each step would cost too much, and classes are mined by the critic alone."""
IMAGES = 64
RATE = 0.02


class ClassGuide:
    """Counts whom target images look like, and draws a class miner towards it."""

    def __init__(self, generator: MinedGenerator, critic: Critic, recipe: Recipe, weight: float) -> None:
        self.generator, self.critic, self.recipe, self.weight = generator, critic, recipe, weight
        self.n = generator.source.n_classes
        self.looks = Looks(self.n, RATE)

    def gap(self, rng: torch.Generator, device: torch.device) -> Tensor:
        """Relative entropy of the target's classes to the mined ones, weighted; zero before anything was counted."""
        miner = self.generator.class_miner
        assert miner is not None  # there is no guide without one
        wanted = self.looks.shares
        asked = miner.weights(self.generator.latent.sample(256, rng, device), self.generator.source).mean(0)
        gap = (torch.xlogy(wanted, wanted) - wanted * asked.clamp_min(1e-8).log()).sum()
        return self.weight * gap * (self.looks.steps > 0)

    def watching(self, update: Update) -> Update:
        """The critic's update, with images of every class beside the target's."""
        if update.name != "critic":
            return update

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
            value, logs = update.loss(batch, rng)
            if self.looks.noted:  # by another part of the batch
                return value, logs
            with torch.no_grad():
                self.looks.note(self._each_class(rng, batch.data.device), batch.data, self.critic)
            return value, logs

        def after_step() -> None:
            if update.after_step is not None:
                update.after_step()
            self.looks.after_step()

        return dataclasses.replace(update, loss=loss, after_step=after_step)

    def _each_class(self, rng: torch.Generator, device: torch.device) -> Tensor:
        each = max(2, IMAGES // self.n)
        u = self.generator.latent.sample(self.n * each, rng, device)
        y = torch.arange(self.n, device=device).repeat_interleave(each)
        images: Tensor = self.generator.source(self.generator.miner(u), y, noise=self.recipe.noise, rng=rng)
        return images.view(self.n, each, *images.shape[1:])


def class_guide(generator: object, critic: Critic, recipe: Recipe, weight: float) -> ClassGuide | None:
    """A guide where one source's classes are mined, and they are few; else None."""
    if not isinstance(generator, MinedGenerator) or generator.class_miner is None or not weight:
        return None
    return ClassGuide(generator, critic, recipe, weight) if generator.source.n_classes <= MOST_CLASSES else None
