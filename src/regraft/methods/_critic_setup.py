"""The critic that a method trains with: a copy of the source's, or a new one that may learn alone first."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, cast

import torch
from pydantic import Field

from regraft.core import norms
from regraft.core.build import build_fresh
from regraft.core.config import Recipe
from regraft.core.gan import GAN
from regraft.core.networks import ClassHead, Critic
from regraft.methods._adversarial import AdversarialConfig, Game, copy_critic
from regraft.methods._fresh_networks import fresh_like, plain_critic, seed_from
from regraft.training.updates import Optimiser, Phase

WARM_UP_STEPS = 200


class WarmUpConfig(AdversarialConfig):
    """Settings of methods that can do without the source's critic."""

    warm_up: Annotated[
        int | None,
        Field(
            ge=0,
            description=f"Steps of the critic alone before the generator moves; default: {WARM_UP_STEPS} if the source has no "
            "critic, else 0.",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class CriticSetup:
    """A critic ready to train.

    Attributes:
        critic: in training mode.
        fresh: whether its weights are new.
        warm_up: steps that it takes before the generator moves.
        notes: what a user should know of the choice.
    """

    critic: Critic
    fresh: bool
    warm_up: int
    notes: tuple[str, ...]

    def phases(self, game: Game, optimiser: Optimiser, others: Sequence[Phase]) -> list[Phase]:
        """Put the critic's own phase, if it has one, before a method's phases."""
        if not self.warm_up or not any(phase.steps for phase in others):
            return list(others)
        lazy = game.penalty_update(optimiser)
        alone = Phase("warm-up", [game.critic_update(optimiser), *([lazy] if lazy else [])], self.warm_up)
        first, *rest = others
        return [alone, dataclasses.replace(first, keep_optimisers=True), *rest]


def prepare_critic(
    source: GAN,
    recipe: Recipe,
    transfer: bool | None,
    steps: int | None,
    rng: torch.Generator,
    n_classes: int = 0,
    head: ClassHead = "auto",
) -> CriticSetup:
    """Copy the source's critic or draw a new one, and choose how long it learns alone.

    Args:
        source: whose generator it judges.
        recipe: how norms are treated.
        transfer: whether to copy the source's critic; None: if it has one.
        steps: critic-only steps; None: ``WARM_UP_STEPS`` where the source has no critic.
        rng: for new weights.
        n_classes: classes that a new critic learns too, where the source has none.
        head: how it learns them.

    Raises:
        MissingCapability: if a copy is asked for and there is none.
    """
    if transfer or (transfer is None and source.critic is not None):
        critic = copy_critic(source.require("critic", for_="critic=transferred"), recipe)
        return CriticSetup(critic, False, steps or 0, ())
    critic = fresh_critic(source, rng, n_classes, head)
    norms.set_training(critic, "batch")
    if steps is None:
        steps = WARM_UP_STEPS if source.critic is None else 0
    why = "as asked" if source.critic is not None else f"{source.provenance.name} has none"
    alone = f"; it learns alone for {steps} steps before the generator moves" if steps else ""
    note = f"the critic is a new one ({why}){alone}"
    return CriticSetup(critic, True, steps, (note,))


def fresh_critic(source: GAN, rng: torch.Generator, n_classes: int = 0, head: ClassHead = "auto") -> Critic:
    """Build a new critic like the source's, or a plain one of the right size if the source has none.

    Args:
        source: gives architecture or image size.
        rng: for the weights.
        n_classes: classes that a plain critic learns.
        head: how it learns them.
    """
    if source.critic is not None:
        return fresh_like(source.critic, rng)
    plain = plain_critic(source.generator.size, source.generator.channels)
    critic = cast(Critic, build_fresh(plain, seed_from(rng)))
    return critic.with_classes(n_classes, seed_from(rng), head) if n_classes else critic
