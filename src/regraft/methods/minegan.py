"""MineGAN: a miner network learns which part of the source's latent space to sample; then miner, generator and critic are
fine-tuned together.

In mining the generator is frozen: with u from the miner's own prior, the critic learns E[D(G(M(u)))] against E[D(x)] and only
M follows it.  Mining alone (``finetuning_steps=0``) is the paper's "MineGAN (w/o FT)": a small adapter that cannot leave the
source's images.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images", equations 1 to 3.
"""

import functools
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator

from regraft import norms
from regraft.gan import GAN
from regraft.methods._adversarial import Game, copy_critic, copy_generator, unfrozen
from regraft.methods._stabilise import FinetuningConfig, stabilise
from regraft.methods.base import Adaptation, Data, Method, Phase
from regraft.mining import MinedGenerator, Miner, MinerConfig, prior_gap


class MineGANConfig(FinetuningConfig):
    """Settings of MineGAN."""

    mining_steps: Annotated[int | None, Field(ge=0, description="Steps with the generator frozen; a fifth if left out.")] = None
    finetuning_steps: Annotated[
        int | None, Field(ge=0, description="Steps after mining; the rest of steps if left out, 0 for mining alone.")
    ] = None
    freeze: Annotated[int, Field(ge=0, description="Critic stages kept fixed, counted from the image; 0 as published.")] = 0
    miner: Annotated[MinerConfig, Field(description="The miner network.")] = MinerConfig()

    @model_validator(mode="after")
    def _split(self) -> "MineGANConfig":
        mining, finetuning = self.mining_steps, self.finetuning_steps
        both = mining is not None and finetuning is not None
        if both and "steps" in self.model_fields_set and self.steps != (mining or 0) + (finetuning or 0):
            raise ValueError(f"steps={self.steps} is not mining_steps={mining} + finetuning_steps={finetuning}")
        if mining is None:
            mining = self.steps // 5 if finetuning is None else self.steps - finetuning
        if finetuning is None:
            finetuning = self.steps - mining
        if min(mining, finetuning) < 0:
            raise ValueError(f"steps={self.steps} leaves nothing for the other phase")
        object.__setattr__(self, "mining_steps", mining)
        object.__setattr__(self, "finetuning_steps", finetuning)
        object.__setattr__(self, "steps", mining + finetuning)
        return self


class MineGAN(Method):
    """Mine, then fine-tune."""

    Config = MineGANConfig
    summary = "learn where to sample the source (miner), then fine-tune; mining alone with finetuning_steps=0"
    paper = "Wang et al. 2020, MineGAN, arXiv:1912.05270"
    needs = frozenset({"critic"})

    def attach(self, sources: Sequence[GAN], images: Data, config: MineGANConfig, rng: torch.Generator) -> Adaptation:
        """Put a miner before a copy of the generator; two phases share the critic."""
        (source,) = sources
        recipe = source.recipe
        generator = self.rebuild(sources, config)
        generator.miner.initialise(rng)
        generator.requires_grad_(True)
        # Batch statistics would take out again the shift of the latent that mining puts in; once mined they may follow it.
        norms.set_training(generator, "running")
        critic = copy_critic(source.require("critic", for_="minegan"), recipe)
        game = Game(generator, critic, source.objective, recipe, config.augmentation(generator.channels))
        stabilise(game, config, source, generator.source)
        if config.miner.prior_weight:
            game.extras["prior_gap"] = functools.partial(prior_gap, generator.miner, config.miner.prior_weight)
        critic_optimiser = game.optimiser("critic", [(unfrozen(critic, config.freeze), recipe.critic_lr)])
        miner = game.optimiser("miner", [(list(generator.miner.parameters()), recipe.miner_lr)])
        # From here on the miner moves no faster than the generator.
        parts = [*generator.miner.parameters(), *generator.source.parameters()]
        tuned = game.optimiser("generator", [(parts, recipe.generator_lr)])
        phases = []
        if config.mining_steps:
            phases.append(Phase("mining", game.updates("miner", critic_optimiser, [miner]), config.mining_steps))
        if config.finetuning_steps:
            updates = game.updates("generator", critic_optimiser, [tuned])
            follow = recipe.generator_norm == "batch" and norms.can_rebase(generator)
            on_enter = functools.partial(norms.rebase, generator) if follow else None
            modes = functools.partial(norms.set_training, generator, "batch") if follow else None
            phases.append(Phase("finetuning", updates, config.finetuning_steps, on_enter, modes, keep_optimisers=True))
        return Adaptation(generator, critic, phases, game.modules, ema_decay=recipe.ema_decay, batch=recipe.batch)

    def rebuild(self, sources: Sequence[GAN], config: MineGANConfig) -> MinedGenerator:
        """A miner with unset weights before a copy of the source's generator."""
        source = copy_generator(sources[0].generator, sources[0].recipe, trainable=False)
        return MinedGenerator(Miner(config.miner, source.latent), source)


PLUGIN = MineGAN()
