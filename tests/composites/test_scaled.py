"""Scaled generators: equal to their source at first, on every backbone, and small."""

import copy
import json

import pytest
import torch

from regraft.composites.scaled import ScaledGenerator, ScalingConfig
from regraft.core.build import build_with
from regraft.core.networks import ClassCode, Description, evaluating
from support.plugins import backbones_and_classes, find_plugin
from support.toys import toy_gan, two_layer_toy


def scaled(gan, **settings):
    return ScaledGenerator(copy.deepcopy(gan.generator), ScalingConfig(**settings))


@pytest.mark.parametrize(("name", "classes"), backbones_and_classes())
class TestEveryBackbone:
    def test_equals_the_source_at_step_0(self, name, classes):
        gan = two_layer_toy(name, classes)
        made = scaled(gan)
        z = gan.generator.latent.at(0, range(4))
        y = ClassCode(made.code.expand(4, -1)) if classes else None
        assert made.n_classes == 0
        with evaluating(made, gan.generator):
            assert torch.equal(made(z), gan.generator(z, y))
        kept = scaled(gan, classes="keep")
        labels = torch.tensor([0, 2, 1, 0]) if classes else None
        prior = scaled(gan, classes="keep", sampling="prior")
        with evaluating(kept, prior, gan.generator):
            assert torch.equal(kept(z, labels), gan.generator(z, labels))
            assert torch.equal(prior(z, labels, psi=0.5), gan.generator(z, labels, psi=0.5))

    def test_every_scale_and_shift_changes_the_images_of_this_copy_alone(self, name, classes):
        made = scaled(two_layer_toy(name, classes))
        other = copy.deepcopy(made)
        z = made.source.latent.at(0, range(2))
        with evaluating(made, other), torch.no_grad():
            before = other(z)
            for scale in other.scales:
                for parameter, change in ((scale.gain, 0.5), (scale.shift, 0.1)):
                    last = other(z)
                    parameter += change
                    assert not torch.equal(other(z), last)
            assert torch.equal(made(z), before)

    def test_description_survives_sorted_json(self, name, classes):
        made = scaled(two_layer_toy(name, classes))
        with torch.no_grad():
            for k, parameter in enumerate(made.scales.parameters()):
                parameter += 0.01 * k
        d = made.describe()
        again = Description(d.kind, d.role, json.loads(json.dumps(d.config, sort_keys=True)))
        built = build_with(again, made.state_dict(), "test")
        z = made.source.latent.at(0, range(2))
        with evaluating(made, built):
            assert torch.equal(built(z), made(z))


def test_places():
    def widths(name, **settings):
        return scaled(toy_gan(name, **settings)).widths

    assert widths("dcgan", size=16, width=4, latent_dim=6) == {"layers.0.norm": 8, "layers.1.norm": 4}
    assert widths("mlp", size=8, widths=(16, 12), latent_dim=6) == {"layers.0.weights": 16, "layers.1.weights": 12}
    assert list(widths("sngan"))[0] == "first", "the map before the first norm, as published"
    assert all(name.endswith("affine") for name in widths("stylegan2")), "style layers play the norms' part"
    assert not any("colour" in name for name in widths("progan")), "no place after the image"


@pytest.mark.parametrize(("name", "size"), [("dcgan", 32), ("sngan", 128), ("stylegan2", 256)])
def test_adapters_of_full_size_networks_have_kilobytes(name, size):
    """Of millions of numbers tens of thousands at most are learned and stored."""
    family = find_plugin("backbones", name)
    generator = family.generator(family.default_configs(size, 3)[0])
    scales = ScaledGenerator(generator, ScalingConfig()).scales
    stored = 4 * sum(p.numel() for p in scales.parameters()) + 8 * generator.latent.dim
    assert stored < 100_000
    assert stored < 0.01 * 4 * sum(p.numel() for p in generator.parameters())
