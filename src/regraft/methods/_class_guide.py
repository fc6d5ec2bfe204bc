"""Keeping mined classes in the proportions of the target: a rule of our own beside the published one.

The critic alone lets a class miner drop rare classes: with 30 % threes and 70 % sevens as targets it was left with 3 % threes.
Here the mean of what the miner asks for is drawn towards the share of target images that look like each class.
"""

import dataclasses

import torch
from torch import Tensor

from regraft.composites.mined import ClassMiner, MinedGenerator
from regraft.core.config import Recipe
from regraft.core.networks import Batch, Critic
from regraft.methods._target_shares import TargetShares
from regraft.training.updates import Logs, Update

MOST_CLASSES = 32
"""Above, images of all classes at each step would cost too much, and classes are mined by the critic alone."""
IMAGES = 64
RATE = 0.02


class ClassGuide:
    """Counts which classes target images look like, and draws a class miner towards these shares."""

    def __init__(self, generator: MinedGenerator, miner: ClassMiner, critic: Critic, recipe: Recipe, weight: float) -> None:
        """Begin with equal shares.

        Args:
            generator: in training.
            miner: its class miner.
            critic: whose features tell classes apart.
            recipe: kind of noise.
            weight: of :meth:`gap`.
        """
        self.generator, self.miner, self.critic, self.recipe, self.weight = generator, miner, critic, recipe, weight
        self.n = generator.source.n_classes
        self.target_shares = TargetShares(self.n, RATE)

    def gap(self, rng: torch.Generator, device: torch.device) -> Tensor:
        """Return weight * KL(target shares || mined shares), a scalar; zero before anything was counted."""
        shares = self.target_shares.shares
        mined = self.miner.weights(self.generator.latent.sample(256, rng, device), self.generator.source).mean(0)
        gap = (torch.xlogy(shares, shares) - shares * mined.clamp_min(1e-8).log()).sum()
        return self.weight * gap * (self.target_shares.steps > 0)

    def watching(self, update: Update) -> Update:
        """Let the critic's update also compare target images with images of every class; leave other updates as they are."""
        if update.name != "critic":
            return update

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            value, logs = update.loss(batch, rng)
            if self.target_shares.noted:  # by another part of the batch
                return value, logs
            with torch.no_grad():
                self.target_shares.note(self._each_class(rng, batch.data.device), batch.data, self.critic)
            return value, logs

        def after_step() -> None:
            if update.after_step is not None:
                update.after_step()
            self.target_shares.after_step()

        return dataclasses.replace(update, loss=loss, after_step=after_step)

    def _each_class(self, rng: torch.Generator, device: torch.device) -> Tensor:
        each = max(2, IMAGES // self.n)
        u = self.generator.latent.sample(self.n * each, rng, device)
        y = torch.arange(self.n, device=device).repeat_interleave(each)
        images: Tensor = self.generator.source(self.generator.miner(u), y, noise=self.recipe.noise, rng=rng)
        return images.view(self.n, each, *images.shape[1:])


def class_guide(generator: object, critic: Critic, recipe: Recipe, weight: float) -> ClassGuide | None:
    """Make a guide if the classes of a single source are mined and are at most ``MOST_CLASSES``; else return None."""
    if not isinstance(generator, MinedGenerator) or generator.class_miner is None or not weight:
        return None
    if generator.source.n_classes > MOST_CLASSES:
        return None
    return ClassGuide(generator, generator.class_miner, critic, recipe, weight)
