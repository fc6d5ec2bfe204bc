"""BigGANs at their published sizes, and what their settings refuse."""

import pytest
import torch

import regraft
from regraft.core.build import build
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import ClassCode, Description
from support.biggan_files import generator_file, save
from support.plugins import find_plugin


def parameters(kind, role, config):
    with torch.device("meta"):
        network = build(Description(kind, role, config.model_dump(mode="json")))
    return sum(p.numel() for p in network.parameters())


def test_the_public_128_px_network_has_its_published_size():
    generator, critic = find_plugin("backbones", "biggan").default_configs(128, 3, 1000, width=96)
    assert generator.latent_dim == 120
    assert round(parameters("biggan", "generator", generator) / 1e6, 1) == 70.4
    assert round(parameters("biggan", "critic", critic) / 1e6, 1) == 88.0


@pytest.mark.parametrize(("size", "millions"), [(128, 50.4), (256, 55.9), (512, 56.2)])
def test_the_public_deep_generators_have_their_published_sizes(size, millions):
    generator, _ = find_plugin("backbones", "biggan_deep").default_configs(size, 3, 1000, width=128)
    public = generator.model_copy(update={"rows": 128, "statistics": 51, "spectral": "stored"})
    assert round(parameters("biggan_deep", "generator", public) / 1e6, 1) == millions


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("kind", ["biggan", "biggan_deep"])
def test_regular_pairs_fit_each_other(kind, size):
    for network in find_plugin("backbones", kind).default_configs(size, 1, 3, width=4):
        side = (
            network.size
            if hasattr(network, "size")
            else network.side << sum(getattr(b, "resample", True) for b in network.blocks)
        )
        assert side == size
        assert network.channels == 1


class TestSettings:
    def test_impossible_ones_are_named(self):
        default_configs = find_plugin("backbones", "biggan").default_configs
        for wrong, message in (
            ({"hierarchical": False}, "hierarchical=false"),
            ({"n_classes": 3, "shared": False}, "shared=false"),
            ({"latent_dim": 2}, "latent_dim=2"),
        ):
            with pytest.raises(ConfigError, match=message):
                default_configs(32, 3, **wrong)
        with pytest.raises(ConfigError, match="not 48"):
            default_configs(48, 3)

    def test_class_codes_are_checked(self, tmp_path):
        g = regraft.load(save(tmp_path / "a", G=generator_file((8, 8, 4)))).generator
        z = g.latent.at(0, range(2))
        with pytest.raises(ConfigError, match=r"\(N, 5\)"):
            g(z, ClassCode(torch.zeros(2, 6)))
        with pytest.raises(MissingCapability, match="give class indices"):
            g(z)
