"""Small sources and images that every test can afford."""

import pathlib
import warnings

import torch

from regraft.core.build import build_fresh
from regraft.core.config import Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Description
from regraft.data.images import Images
from support.plugins import find_plugin

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"


def rng(seed=0):
    """A random generator of a seed."""
    return torch.Generator().manual_seed(seed)


def toy_gan(backbone="dcgan", size=None, channels=1, n_classes=0, seed=0, autoencoder=False, **settings):
    """A random GAN of a backbone, frozen as loaded sources are; its smallest form unless settings say otherwise."""
    family = find_plugin("backbones", backbone)
    smallest = dict(family.smallest)
    size = size or smallest.pop("size")
    smallest.pop("size", None)
    generator, critic = family.default_configs(size, channels, n_classes, **(settings or smallest))
    networks = []
    for role, config in (("generator", generator), ("critic", critic)):
        network = build_fresh(Description(backbone, role, config.model_dump(mode="json")), seed)
        # Statistics of a network that has seen data, so that batch and stored ones differ.
        for module in network.modules():
            if getattr(module, "running_mean", None) is not None:
                draws = rng(seed)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draws) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=draws) + 0.5)
        networks.append(network.requires_grad_(False).eval())
    return GAN(
        *networks,
        autoencoder=toy_autoencoder(*networks[0].size[:1], channels) if autoencoder else None,
        objective=Objective(),
        recipe=Recipe(batch=4),
        provenance=Provenance(name="toy"),
    )


def two_layer_toy(name, classes=0):
    """A toy of a family with two hidden convolutions, where the smallest network has only one."""
    settings = {"size": 16, "width": 4, "latent_dim": 6} if name == "dcgan" else {}
    return toy_gan(name, n_classes=classes, **settings)


def toy_family(backbone):
    """A toy of a family, of colour images where it has no others."""
    try:
        return toy_gan(backbone)
    except ConfigError:
        return toy_gan(backbone, channels=3)


def toy_autoencoder(size=8, channels=1, seed=0, **settings):
    """A random plain autoencoder, frozen."""
    settings = {"code_dim": 6, "width": 4, "decoder_width": 4} | settings
    config = find_plugin("backbones", "autoencoder").default_autoencoder_config(size, channels, **settings)
    made = build_fresh(Description("autoencoder", "autoencoder", config.model_dump(mode="json")), seed)
    return made.requires_grad_(False).eval()


def save_program(module, path):
    """Write a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)


def toy_images(n=12, size=8, channels=1, seed=0, labels=None):
    """Random blobs."""
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=rng(seed), dtype=torch.uint8)
    classes = tuple(str(i) for i in range(max(labels) + 1)) if labels else ()
    return Images(pixels, torch.tensor(labels) if labels else None, classes)


def uniform_images(n, size=16, channels=3, seed=0):
    """Images (n, channels, size, size) of independent uniform pixels in [-1, 1]."""
    return torch.rand(n, channels, size, size, generator=rng(seed)) * 2 - 1


def strokes(n, seed, size=16):
    """Pictures with structure: three bright bars each, at random places."""
    draws = rng(seed)
    images = -torch.ones(n, 1, size, size)
    for image in images:
        for _ in range(3):
            top, left = torch.randint(0, size - 6, (2,), generator=draws).tolist()
            if torch.rand((), generator=draws) < 0.5:
                image[0, top : top + 6, left : left + 2] = 1
            else:
                image[0, top : top + 2, left : left + 6] = 1
    return images
