"""Residual and progressive GANs at their published sizes, and what their settings refuse."""

import pytest
import torch

from regraft.core.build import build
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import Description
from support.plugins import find_plugin
from support.toys import toy_gan


def parameters(backbone, size, **settings):
    configs = find_plugin("backbones", backbone).default_configs(size, 3, **settings)
    counts = []
    for role, config in zip(("generator", "critic"), configs):
        with torch.device("meta"):
            network = build(Description(backbone, role, config.model_dump(mode="json")))
        counts.append(sum(p.numel() for p in network.parameters()))
    return counts


def test_progan_has_the_parameters_of_its_paper():
    """Karras et al. 2018, table 2: 23.1 million in each network at 1024x1024."""
    assert [round(n / 1e6, 1) for n in parameters("progan", 1024)] == [23.1, 23.1]


@pytest.mark.parametrize(
    "size, up, down",
    [
        (32, [256] * 4, [128] * 4),
        (64, [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024]),
        (128, [1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024, 1024]),
    ],
)
def test_sngan_is_as_wide_as_published(size, up, down):
    generator, critic = find_plugin("backbones", "sngan").default_configs(size, 3)
    assert [b.inputs for b in generator.blocks] + [generator.blocks[-1].outputs] == up
    assert [b.outputs for b in critic.blocks] == down
    assert critic.blocks[-1].resample == (size == 64)


@pytest.mark.parametrize("backbone, size", [("sngan", 24), ("sngan", 4), ("progan", 12), ("progan", 8192)])
def test_sizes_that_do_not_exist(backbone, size):
    with pytest.raises(ConfigError, match=f"not {size}"):
        find_plugin("backbones", backbone).default_configs(size, 3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_classes": 3}, "go together"),
        ({"class_dim": 3}, "class_dim"),
        ({"chunk": 4}, "chunks"),
        ({"bottom": 0}, "bottom"),
        ({"blocks": []}, "at least one block"),
        ({"blocks": [{"inputs": 4, "hidden": 4, "outputs": 4, "shortcut": False}]}, "shortcut convolution"),
    ],
)
def test_settings_that_contradict_each_other(change, message):
    config = toy_gan("sngan").generator.describe().config
    with pytest.raises(ConfigError, match=message):
        build(Description("sngan", "generator", config | change))


def test_a_new_network_scores_as_its_spectral_norm_promises():
    """Every normalised weight of a new critic has its largest singular value near one, in evaluation already."""
    critic = toy_gan("sngan", size=16, width=16).critic
    for module in critic.modules():
        if hasattr(module, "normalised"):
            largest = torch.linalg.matrix_norm(module.normalised.flatten(1), 2)
            assert 0.99 < largest < 1.1


def test_truncation_of_progan_works_in_spite_of_its_input_norm():
    g = toy_gan("progan").generator
    z = g.latent.at(0, range(4))
    spread = [g(z, psi=psi).std(0).mean() for psi in (1.0, 0.5, 0.1)]
    assert spread[0] > spread[1] > spread[2] > 0


def test_a_conditional_generator_wants_a_class():
    for backbone in ("sngan", "progan"):
        g = toy_gan(backbone, n_classes=3).generator
        with pytest.raises(MissingCapability, match="conditional"):
            g(g.latent.at(0, range(2)))
