"""Networks with new weights, in the image of a source's or from scratch."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import nn

from regraft.backbones.base import Backbone
from regraft.core import discover, norms
from regraft.core.build import build_fresh
from regraft.core.config import Recipe
from regraft.core.errors import MissingCapability
from regraft.core.gan import GAN
from regraft.core.networks import ClassHead, Critic, Description, Generator
from regraft.core.randomness import global_seed
from regraft.methods._adversarial import AdversarialConfig, Game, copy_critic
from regraft.training.updates import Optimiser, Phase

DEFAULT_BACKBONE = "dcgan"
WARM_UP_STEPS = 200


class RivalConfig(AdversarialConfig):
    """Settings of methods that can do without the source's critic."""

    warm_up: Annotated[
        int | None,
        Field(
            ge=0,
            description=f"Steps of the critic alone, first; {WARM_UP_STEPS} if left out and the source has no critic.",
        ),
    ] = None


def fresh_like(network: nn.Module, rng: torch.Generator) -> nn.Module:
    """The same network with new weights.

    Raises:
        MissingCapability: if a plain module holds weights that it cannot draw again.
    """
    seed = seed_from(rng)
    try:
        description = network.describe()  # type: ignore[operator]
    except MissingCapability:
        return _reset(network, seed)
    return build_fresh(description, seed)


def fresh_critic(source: GAN, rng: torch.Generator, n_classes: int = 0, head: ClassHead = "auto") -> Critic:
    """A new critic like the source's, or a plain one of the right size, with a class head, where the source has none."""
    if source.critic is not None:
        return cast(Critic, fresh_like(source.critic, rng))
    plain = plain_critic(source.generator.size, source.generator.channels)
    critic = cast(Critic, build_fresh(plain, seed_from(rng)))
    return critic.with_classes(n_classes, seed_from(rng), head) if n_classes else critic


def plain_critic(size: tuple[int, int], channels: int) -> Description:
    """A plain convolutional critic for images of any size; other than square powers of two are enlarged to the next one."""
    side = min(1024, max(8, 1 << (max(size) - 1).bit_length()))
    _, config = discover.plugin("backbones", DEFAULT_BACKBONE, Backbone).default_configs(side, channels, max_width=512)
    data = config.model_dump(mode="json")
    if size != (side, side):
        data |= {"size": list(size), "resize": [side, side]}
    return Description(DEFAULT_BACKBONE, "critic", data)


def critic_for(
    source: GAN,
    recipe: Recipe,
    transfer: bool | None,
    steps: int | None,
    rng: torch.Generator,
    n_classes: int = 0,
    head: ClassHead = "auto",
) -> "Rival":
    """The critic that a method trains with: a copy of the source's, or a new one with steps of its own first.

    Args:
        source: whose generator it judges.
        recipe: how norms are treated.
        transfer: whether to copy the source's critic; None: if it has one.
        steps: critic-only steps; None: ``WARM_UP_STEPS`` where the source has no critic.
        rng: for new weights.
        n_classes: that a new one learns too, where the source has none.
        head: how it learns them.

    Raises:
        MissingCapability: if a copy is asked for and there is none.
    """
    if transfer or (transfer is None and source.critic is not None):
        critic = copy_critic(source.require("critic", for_="critic=transferred"), recipe)
        return Rival(critic, False, steps or 0, ())
    critic = fresh_critic(source, rng, n_classes, head)
    norms.set_training(critic, "batch")
    if steps is None:
        steps = WARM_UP_STEPS if source.critic is None else 0
    why = "as asked" if source.critic is not None else f"{source.provenance.name} has none"
    alone = f"; it learns alone for {steps} steps before the generator moves" if steps else ""
    note = f"the critic is a new one ({why}){alone}"
    return Rival(critic, True, steps, (note,))


@dataclasses.dataclass(frozen=True)
class Rival:
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
        """A method's phases, with the critic's own before them."""
        if not self.warm_up or not any(phase.steps for phase in others):
            return list(others)
        lazy = game.penalty_update(optimiser)
        alone = Phase("warm-up", [game.critic_update(optimiser), *([lazy] if lazy else [])], self.warm_up)
        first, *rest = others
        return [alone, dataclasses.replace(first, keep_optimisers=True), *rest]


def fresh_pair(
    backbone: str, size: int, channels: int, n_classes: int, settings: dict[str, object], rng: torch.Generator
) -> tuple[Generator, Critic]:
    """A new generator and critic of a backbone, for training without any source."""
    generator, critic = discover.plugin("backbones", backbone, Backbone).default_configs(size, channels, n_classes, **settings)
    return (
        cast(Generator, build_fresh(Description(backbone, "generator", generator.model_dump(mode="json")), seed_from(rng))),
        cast(Critic, build_fresh(Description(backbone, "critic", critic.model_dump(mode="json")), seed_from(rng))),
    )


def seed_from(rng: torch.Generator) -> int:
    """A seed drawn from a random generator."""
    return int(torch.randint(1 << 62, (), generator=rng).item())


def _reset(network: nn.Module, seed: int) -> nn.Module:
    made = copy.deepcopy(network)
    drawn: set[int] = set()
    with global_seed(seed):
        for module in made.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(p) for p in module.parameters()}
    for name, parameter in made.named_parameters():
        if id(parameter) not in drawn:
            raise MissingCapability(
                f"{name} of {type(network).__name__} has no reset_parameters, so it cannot be trained from scratch; "
                "add the method to the module that owns it, or use transfergan"
            )
    return made
