"""What a StyleGAN2's file may lack and its networks can be given anew: noise of a fixed seed, and the mean style, measured."""

import copy

import torch
from torch import Tensor

from regraft.core.build import build_with
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS
from regraft.core.randomness import generator_at
from regraft.formats.base import Network, reproducible

DRAWN = "no noise maps in the file (its code stored none): drawn from a fixed seed"
MEASURED = f"no mean style in the file: measured on {CENTRE_LATENTS} latents of a fixed seed"


def drawn_noise(side: int, number: int) -> Tensor:
    """A noise map of normal numbers that is the same on every machine.

    Args:
        side: of the map.
        number: of the layer, from the smallest map on.

    Returns:
        The map, (side, side).
    """
    return reproducible(torch.randn((side, side), generator=generator_at(0, "noise map", number), dtype=torch.float64))


def measured_style(generator: Network, where: str) -> Tensor:
    """Mean style over latents of a fixed seed, in double precision so that it is the same on every machine; classes in turn."""
    network = build_with(generator.description, generator.tensors, where)
    mapping = copy.deepcopy(network.get_submodule("mapping")).double()
    config = generator.description.config
    with torch.no_grad():
        z = Latent(config["z_dim"]).sample(CENTRE_LATENTS, generator_at(0, "mean style"))
        classes = config.get("c_dim", 0)
        labels = (torch.arange(CENTRE_LATENTS) % classes,) if classes else ()
        return reproducible(mapping(z.double(), *labels)[:, 0].mean(0))
