"""Networks with new weights: of a source's architecture, of a backbone, or a plain critic for any image size."""

import copy
from typing import TypeVar, cast

import torch

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import build_fresh
from regraft.core.errors import MissingCapability
from regraft.core.networks import Critic, Description, Generator
from regraft.core.randomness import global_seed

DEFAULT_BACKBONE = "dcgan"

NetworkT = TypeVar("NetworkT", Generator, Critic)


def fresh_like(network: NetworkT, rng: torch.Generator) -> NetworkT:
    """Build the same network with new weights.

    Raises:
        MissingCapability: if a plain module holds weights that it cannot draw again.
    """
    seed = seed_from(rng)
    try:
        description = network.describe()
    except MissingCapability:
        return _reset(network, seed)
    return cast(NetworkT, build_fresh(description, seed))


def plain_critic(size: tuple[int, int], channels: int) -> Description:
    """Describe a plain convolutional critic for images of any size.

    Args:
        size: height and width; the critic enlarges other than square powers of two to the next one, 8 to 1024.
        channels: 1 or 3.
    """
    side = min(1024, max(8, 1 << (max(size) - 1).bit_length()))
    _, config = discover.plugin("backbones", DEFAULT_BACKBONE, Backbone).default_configs(side, channels, max_width=512)
    data = config.model_dump(mode="json")
    if size != (side, side):
        data |= {"size": list(size), "resize": [side, side]}
    return Description(DEFAULT_BACKBONE, "critic", data)


def fresh_pair(
    backbone: str, size: int, channels: int, n_classes: int, settings: dict[str, object], rng: torch.Generator
) -> tuple[Generator, Critic]:
    """Build a new generator and critic of a backbone, for training without any source."""
    generator, critic = discover.plugin("backbones", backbone, Backbone).default_configs(size, channels, n_classes, **settings)
    return (
        cast(Generator, build_fresh(Description(backbone, "generator", generator.model_dump(mode="json")), seed_from(rng))),
        cast(Critic, build_fresh(Description(backbone, "critic", critic.model_dump(mode="json")), seed_from(rng))),
    )


def seed_from(rng: torch.Generator) -> int:
    """Draw a seed, below 2^62, from a random generator."""
    return int(torch.randint(1 << 62, (), generator=rng).item())


def _reset(network: NetworkT, seed: int) -> NetworkT:
    """Copy a plain module and draw all its weights again."""
    fresh = copy.deepcopy(network)
    drawn: set[int] = set()
    with global_seed(seed):
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(p) for p in module.parameters()}
    for name, parameter in fresh.named_parameters():
        if id(parameter) not in drawn:
            raise MissingCapability(
                f"{name} of {type(network).__name__} has no reset_parameters, so it cannot be trained from scratch; "
                "add the method to the module that owns it, or use transfergan"
            )
    return fresh
