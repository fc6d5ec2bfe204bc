"""Networks with new weights, in the image of a source's or from scratch."""

import copy
from typing import cast

import torch
from torch import nn

from regraft import discover
from regraft.build import build_fresh
from regraft.errors import MissingCapability
from regraft.gan import GAN, Critic, Description, Generator
from regraft.randomness import global_seed

DEFAULT_BACKBONE = "dcgan"


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


def fresh_critic(source: GAN, rng: torch.Generator, n_classes: int = 0) -> Critic:
    """A new critic like the source's, or a plain one of the right size, with a classifier, where the source has none."""
    if source.critic is not None:
        return cast(Critic, fresh_like(source.critic, rng))
    generator = source.generator
    _, config = discover.plugin("backbones", DEFAULT_BACKBONE).sized(generator.size[0], generator.channels)
    plain = Description(DEFAULT_BACKBONE, "critic", config.model_dump(mode="json"))
    critic = cast(Critic, build_fresh(plain, seed_from(rng)))
    return critic.with_classes(n_classes, seed_from(rng)) if n_classes else critic


def fresh_pair(
    backbone: str, size: int, channels: int, n_classes: int, settings: dict[str, object], rng: torch.Generator
) -> tuple[Generator, Critic]:
    """A new generator and critic of a backbone, for training without any source."""
    generator, critic = discover.plugin("backbones", backbone).sized(size, channels, n_classes, **settings)
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
