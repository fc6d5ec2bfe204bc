"""Every method that learns classes keeps the contract on labelled images, from conditional and unconditional toy sources."""

import dataclasses

import pytest
import torch

from regraft.core import discover
from regraft.core.errors import ConfigError, Interrupted, MissingCapability
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import evaluating
from regraft.methods._classes import start
from regraft.runs import adapter
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.running import attach, run, state_of, stop_inside
from support.toys import toy_gan, toy_images

# Methods on codes give their own small generator classes and leave the source as it is; they have tests of their own.
LEARNING = {name: find_plugin("methods", name) for name in discover.names("methods")}
METHODS = [name for name, method in LEARNING.items() if method.labels and "autoencoder" not in method.needs]
STEPS = 6
SOURCES = {
    "dcgan": ("dcgan", 0),
    "mlp": ("mlp", 0),
    "resnet": ("wgangp_resnet", 0),
    "sngan": ("sngan", 0),
    "projection": ("dcgan", 2),
    "classifier": ("wgangp_resnet", 2),
    "same classes": ("wgangp_resnet", 3),
}


@pytest.fixture(params=SOURCES)
def source(request):
    backbone, n = SOURCES[request.param]
    return toy_gan(backbone, n_classes=n)


@pytest.fixture
def images():
    return toy_images(labels=[k % 3 for k in range(12)])


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethodThatLearnsClasses:
    def test_source_is_untouched_and_classes_are_the_targets(self, name, source, images):
        digests = tensor_digest(source.generator), tensor_digest(source.critic)
        adaptation, _ = attach(name, source, images)
        loop = run(adaptation, images)
        assert digests == (tensor_digest(source.generator), tensor_digest(source.critic))
        generator = loop.generator()
        assert generator.n_classes == adaptation.critic.n_classes == 3
        z = generator.latent.at(0, [0, 0, 0])
        with evaluating(generator):
            made = generator(z, torch.arange(3))
        assert torch.isfinite(made).all()
        # Six steps are enough for the classes to have come apart.
        assert (made[0] - made[1]).abs().max() > 1e-6

    def test_save_and_load_gives_the_same_images(self, name, source, images, tmp_path):
        adaptation, config = attach(name, source, images)
        generator = run(adaptation, images).generator().eval()
        data = {"n": 12, "held_out": 0, "classes": ["a", "b", "c"]}
        info = adapter.AdapterInfo(name, config.model_dump(mode="json"), {"size": [8, 8], "channels": 1}, data, 0, STEPS)
        adapter.save_adapter(tmp_path / "a", generator, [source], info)
        loaded = adapter.load_adapter(tmp_path / "a", [source])
        y = torch.tensor([0, 1, 2, 1, 0])
        assert torch.equal(GAN(generator).sample(5, 3, y=y), loaded.sample(5, 3, y=y))
        assert loaded.provenance.classes == ("a", "b", "c")

    def test_same_seed_same_run(self, name, source, images):
        states = [state_of(run(attach(name, source, images, seed=7)[0], images, seed=7)) for _ in range(2)]
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])

    @pytest.mark.parametrize("stop_at", [2, 5])
    def test_resume_equals_unbroken_run(self, name, source, images, tmp_path, stop_at):
        whole = run(attach(name, source, images)[0], images, tmp_path / "whole", accumulate=3)
        store = RunStore(tmp_path / "broken")
        stopped = Loop(attach(name, source, images)[0], images, Plan(accumulate=3, checkpoint_every=1000), store)
        stop_inside(stopped, stop_at)
        with pytest.raises(Interrupted):
            stopped.run()
        resumed = run(attach(name, source, images)[0], images, tmp_path / "broken", resume=True, accumulate=3)
        a, b = state_of(whole), state_of(resumed)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)

    @pytest.mark.parametrize("part", ["critic", "generator"])
    def test_classifier_terms_reach_both_networks(self, name, images, part):
        """Their factors change what is learned; without labels nothing of them is left."""
        source = toy_gan("wgangp_resnet")

        def trained(data, weight):
            objective = source.objective.model_copy(update={f"class_weight_{part}": weight})
            loop = run(attach(name, source.trained_with(objective, source.recipe), data)[0], data)
            return state_of(loop)

        with_it, without = trained(images, 1.0), trained(images, 0.0)
        assert any(not torch.equal(with_it[k], without[k]) for k in with_it if k.startswith(f"{part}."))
        bare = dataclasses.replace(images, labels=None, classes=())
        a, b = trained(bare, 1.0), trained(bare, 0.0)
        assert all(torch.equal(a[k], b[k]) for k in a)

    def test_a_network_that_takes_no_classes_is_a_clear_error(self, name, images):
        plain = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
        critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))
        toy = toy_gan()
        with pytest.raises(MissingCapability, match="cannot be given classes"):
            attach(name, GAN(plain, critic, latent=toy.generator.latent), images)


class TestStepZero:
    """Before the first step, a transferred generator makes what its source makes."""

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


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {"generator": True, "critic": True}),
        ({"transfer_generator": False}, {"generator": False, "critic": True}),
        ({"transfer_critic": False}, {"generator": True, "critic": False}),
    ],
)
@pytest.mark.parametrize("n", [0, 2])
def test_what_transfergan_transfers(settings, kept, n):
    source = toy_gan("wgangp_resnet", n_classes=n)
    images = toy_images(labels=[k % 3 for k in range(12)])
    adaptation, _ = attach("transfergan", source, images, **settings)
    for role, expected in kept.items():
        network, old = getattr(adaptation, role), getattr(source, role)
        same = torch.equal(network.blocks[0].conv1.weight, old.blocks[0].conv1.weight)
        assert same == expected, role
        assert network.n_classes == 3
    run(adaptation, images)


class TestStepSizes:
    def sizes(self, source, images, **settings):
        """Step size of every parameter of both networks, by name."""
        adaptation, _ = attach("transfergan", source, images, **settings)
        by_id = {id(p): lr for o in adaptation.optimisers for part, lr in o.groups for p in part}
        found = {
            f"{role}.{k}": by_id[id(p)]
            for role in ("generator", "critic")
            for k, p in adaptation.modules[role].named_parameters()
        }
        counted = [id(p) for o in {o.name: o for o in adaptation.optimisers}.values() for part, _ in o.groups for p in part]
        assert len(counted) == len(set(counted)) == len(found)
        return found

    def test_new_classes_are_learned_faster(self, images):
        source = toy_gan("wgangp_resnet")
        found = self.sizes(source, images, class_lr=7.0)
        fast = {k for k, lr in found.items() if lr == pytest.approx(7 * source.recipe.generator_lr)}
        assert fast == {k for k in found if k.endswith(".codes") or ".classifier." in k}
        assert {found[k] for k in found if k not in fast} == {source.recipe.generator_lr}

    def test_exchanged_classes_are_new_and_kept_ones_are_not(self, images):
        source = toy_gan("wgangp_resnet", n_classes=3)
        for norm in source.generator.norms:
            norm.codes += torch.randn(norm.codes.shape, generator=torch.Generator().manual_seed(0))
        assert len(set(self.sizes(source, images).values())) == 1
        found = self.sizes(source, images, class_start="mean")
        fast = {k for k, lr in found.items() if lr > source.recipe.generator_lr}
        # A bias that is zero before and after does not show that it is new.
        assert fast == {k for k in found if k.endswith((".codes", "classifier.weight"))}

    def test_without_labels_all_are_alike(self):
        assert len(set(self.sizes(toy_gan("wgangp_resnet", n_classes=3), toy_images()).values())) == 1


def test_a_source_without_critic_gets_one_with_a_classifier(images):
    adaptation, _ = attach("transfergan", GAN(toy_gan().generator), images)
    assert adaptation.critic.classifies
    run(adaptation, images)


def test_methods_without_classes_are_not_offered_labels(photos_by_class, source_folder):
    import regraft

    with pytest.raises(ConfigError, match="minegan does not learn classes"):
        regraft.adapt(photos_by_class, source_folder, method="minegan", labels=True, write=False)
