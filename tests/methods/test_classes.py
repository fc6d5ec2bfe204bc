"""How methods that learn classes begin, and which of their parameters learn faster."""

import dataclasses

import pytest
import torch

from regraft.core.gan import GAN
from regraft.core.networks import evaluating
from regraft.methods import _classes
from regraft.methods._classes import LabelledConfig, start
from support.running import attach, run
from support.toys import toy_gan, toy_images


def test_new_class_tables_learn_faster_and_nothing_else():
    """Neither the inputs that a one-hot class adds, nor a layer that happens to be as wide as there are classes."""
    config = LabelledConfig()
    plain, n = toy_gan(size=16, width=4, latent_dim=6), 4  # the last block has four channels
    for how, wanted in (("norm", {"gain", "shift"}), ("concat", {"classes"})):
        made = _classes.conditioned(plain.generator, n, how)
        found = _classes.groups(made, plain.generator, 1.0, config, n)
        fast = {id(p) for p in found[1][0]} if len(found) > 1 else set()
        assert {k.rpartition(".")[2] for k, p in made.named_parameters() if id(p) in fast} == wanted


class TestStepZero:
    @pytest.mark.parametrize("condition", ["norm", "concat"])
    @pytest.mark.parametrize("backbone", ["dcgan", "wgangp_resnet", "stylegan2"])
    @pytest.mark.parametrize("name", ["transfergan", "freezed"])
    def test_unconditional_source(self, name, backbone, condition):
        source = toy_gan(backbone, channels=3)
        images = toy_images(size=source.generator.size[0], channels=3, labels=[k % 3 for k in range(12)])
        generator = attach(name, source, images, condition=condition)[0].generator
        z = source.generator.latent.at(0, range(3))
        with evaluating(generator, source.generator):
            assert torch.allclose(generator(z, torch.arange(3)), source.generator(z), atol=1e-6)

    def test_critic_scores_are_the_sources(self):
        source = toy_gan("wgangp_resnet")
        images = toy_images(labels=[k % 3 for k in range(12)])
        critic = attach("transfergan", source, images)[0].critic
        x = images.tensor()
        assert torch.equal(critic(x), source.critic(x))
        assert critic.classifies

    @pytest.mark.parametrize("backbone", ["dcgan", "mlp", "wgangp_resnet", "sngan", "biggan", "stylegan2"])
    def test_same_classes_are_kept_and_others_begin_as_mixtures(self, backbone):
        source = toy_gan(backbone, channels=3, n_classes=3)
        rng = torch.Generator().manual_seed(0)
        for parameter in source.generator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        size, z = source.generator.size[0], source.generator.latent.at(0, range(6))
        for n, mixture in ((3, torch.eye(3)), (2, torch.full((2, 3), 1 / 3))):
            images = toy_images(size=size, channels=3, labels=[k % n for k in range(12)])
            generator = attach("transfergan", source, images)[0].generator
            y = torch.arange(6) % n
            with evaluating(generator, source.generator):
                expected = source.generator(z, source.generator.embed(mixture[y]))
                assert torch.allclose(generator(z, y), expected, atol=1e-5)

    def test_classes_are_found_by_name(self):
        cat, dog = torch.eye(2)
        rows = start(2, ("cat", "dog"), 3, ("dog", "fox", "cat"), "auto")
        assert torch.equal(rows, torch.stack([dog, (cat + dog) / 2, cat]))
        assert torch.equal(start(2, ("cat", "dog"), 2, ("fox", "owl"), "auto"), torch.full((2, 2), 0.5))
        assert torch.equal(start(2, (), 2, ("fox", "owl"), "auto"), torch.eye(2))
        assert torch.equal(start(2, (), 3, (), "cycle"), torch.eye(2)[[0, 1, 0]])
        assert torch.equal(start(2, ("cat", "dog"), 2, ("dog", "cat"), "mean"), torch.full((2, 2), 0.5))

    def test_a_named_permutation_permutes_the_generator(self):
        source = toy_gan("wgangp_resnet", n_classes=2)
        for norm in source.generator.norms:
            norm.codes[1] += 0.5
        source.provenance = dataclasses.replace(source.provenance, classes=("1", "0"))
        images = toy_images(labels=[0, 1] * 6)
        generator = attach("transfergan", source, images)[0].generator
        z = source.generator.latent.at(0, range(2))
        with evaluating(generator, source.generator):
            assert torch.allclose(generator(z, torch.tensor([0, 1])), source.generator(z, torch.tensor([1, 0])), atol=1e-6)


class TestStepSizes:
    def sizes(self, source, labelled_images, **settings):
        """Step size of every parameter of both networks, by name."""
        adaptation, _ = attach("transfergan", source, labelled_images, **settings)
        by_id = {id(p): lr for o in adaptation.optimisers for part, lr in o.groups for p in part}
        found = {
            f"{role}.{k}": by_id[id(p)]
            for role in ("generator", "critic")
            for k, p in adaptation.modules[role].named_parameters()
        }
        counted = [id(p) for o in {o.name: o for o in adaptation.optimisers}.values() for part, _ in o.groups for p in part]
        assert len(counted) == len(set(counted)) == len(found)
        return found

    def test_new_classes_are_learned_faster(self, labelled_images):
        source = toy_gan("wgangp_resnet")
        found = self.sizes(source, labelled_images, class_lr=7.0)
        fast = {k for k, lr in found.items() if lr == pytest.approx(7 * source.recipe.generator_lr)}
        assert fast == {k for k in found if k.endswith(".codes") or ".classifier." in k}
        assert {found[k] for k in found if k not in fast} == {source.recipe.generator_lr}

    def test_exchanged_classes_are_new_and_kept_ones_are_not(self, labelled_images):
        source = toy_gan("wgangp_resnet", n_classes=3)
        for norm in source.generator.norms:
            norm.codes += torch.randn(norm.codes.shape, generator=torch.Generator().manual_seed(0))
        assert len(set(self.sizes(source, labelled_images).values())) == 1
        found = self.sizes(source, labelled_images, class_start="mean")
        fast = {k for k, lr in found.items() if lr > source.recipe.generator_lr}
        # A bias that is zero before and after does not show that it is new.
        assert fast == {k for k in found if k.endswith((".codes", "classifier.weight"))}

    def test_without_labels_all_are_alike(self):
        assert len(set(self.sizes(toy_gan("wgangp_resnet", n_classes=3), toy_images()).values())) == 1


def test_a_source_without_critic_gets_one_with_a_classifier(labelled_images):
    adaptation, _ = attach("transfergan", GAN(toy_gan().generator), labelled_images)
    assert adaptation.critic.classifies
    run(adaptation, labelled_images)
