"""Sources to mine, and MineGAN attached to them for a few steps."""

import torch

from regraft.core.build import build_fresh
from regraft.core.config import Recipe, parse
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Description
from regraft.core.randomness import generator_at
from support.plugins import find_plugin
from support.toys import rng, toy_gan, toy_images

MINEGAN = find_plugin("methods", "minegan")
SHORT = {"mining_steps": 3, "finetuning_steps": 3}


def complete_settings(sources, seed=0, **settings):
    """Settings of a short run on several sources, complete."""
    given = parse(MINEGAN.Config, SHORT | {"supersamples": 50} | settings, "minegan")
    return MINEGAN.complete_config(given, sources, 0, seed)


def attach_to_several(sources, seed=0, **settings):
    """MineGAN on several sources."""
    return MINEGAN.attach(sources, toy_images(), complete_settings(sources, seed, **settings), generator_at(seed, "init"))


def attach_to_one(source, seed=0, images=None, **settings):
    """MineGAN on one source."""
    config = parse(MINEGAN.Config, SHORT | settings, "minegan")
    return MINEGAN.attach([source], images or toy_images(), config, generator_at(seed, "init"))


def conditional(name="dcgan"):
    """A toy of a family, with three classes."""
    return toy_gan(name, channels=3 if name not in ("dcgan", "mlp") else 1, n_classes=3)


def two_families():
    """Sources of two families, with latents of different sizes."""
    other = toy_gan("mlp", seed=1, latent_dim=9, widths=(16,))
    other.provenance = Provenance(name="other")
    return [toy_gan(), other]


def families_of_four():
    """Small random GANs of four families: grey and colour, 8, 16 and 32 pixels."""
    made = [
        toy_gan("dcgan"),
        toy_gan("sngan", channels=3),
        toy_gan("biggan", channels=3, n_classes=3),
        toy_gan("stylegan2", channels=3),
    ]
    for gan, name in zip(made, ("dcgan", "sngan", "biggan", "stylegan2"), strict=True):
        gan.provenance = Provenance(name=name)
    return made


def batch_sources():
    """Sources much alike that are fine-tuned on batch statistics, judged by critics with batch norms."""
    made = []
    for seed in (0, 1):
        plain = toy_gan("dcgan")
        for k, parameter in enumerate(plain.generator.parameters()):
            parameter.add_(0.1 * seed * torch.randn(parameter.shape, generator=rng(k)))
        layers = plain.critic.describe().config["layers"]
        config = plain.critic.describe().config | {"layers": [*({**r, "norm": "batch"} for r in layers[:-1]), layers[-1]]}
        critic = build_fresh(Description("dcgan", "critic", config), seed)
        gan = GAN(plain.generator, critic, objective=plain.objective, provenance=Provenance(name=f"source {seed}"))
        made.append(gan.trained_with(gan.objective, Recipe(generator_norm="batch", critic_norm="batch", batch=4)))
    return made
