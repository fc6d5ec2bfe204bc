"""Every method that learns classes keeps the contract on labelled images, from conditional and unconditional toy sources."""

import dataclasses

import pytest
import torch

from regraft.core import discover
from regraft.core.errors import MissingCapability
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import evaluating
from regraft.runs import adapter
from support.plugins import find_plugin
from support.running import assert_same, attach, attached, run, state_of, stop_and_resume
from support.toys import toy_gan

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
    """A toy source with the classes that its name says."""
    backbone, n = SOURCES[request.param]
    return toy_gan(backbone, n_classes=n)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethodThatLearnsClasses:
    def test_source_is_untouched_and_classes_are_the_targets(self, name, source, labelled_images):
        digests = tensor_digest(source.generator), tensor_digest(source.critic)
        adaptation, _ = attach(name, source, labelled_images)
        loop = run(adaptation, labelled_images)
        assert digests == (tensor_digest(source.generator), tensor_digest(source.critic))
        generator = loop.generator()
        assert generator.n_classes == adaptation.critic.n_classes == 3
        z = generator.latent.at(0, [0, 0, 0])
        with evaluating(generator):
            made = generator(z, torch.arange(3))
        assert torch.isfinite(made).all()
        # Six steps are enough for the classes to have come apart.
        assert (made[0] - made[1]).abs().max() > 1e-6

    def test_save_and_load_gives_the_same_images(self, name, source, labelled_images, tmp_path):
        adaptation, config = attach(name, source, labelled_images)
        generator = run(adaptation, labelled_images).generator().eval()
        data = {"n": 12, "held_out": 0, "classes": ["a", "b", "c"]}
        info = adapter.AdapterInfo(name, config.model_dump(mode="json"), {"size": [8, 8], "channels": 1}, data, 0, STEPS)
        adapter.save_adapter(tmp_path / "a", generator, [source], info)
        loaded = adapter.load_adapter(tmp_path / "a", [source])
        y = torch.tensor([0, 1, 2, 1, 0])
        assert torch.equal(GAN(generator).sample(5, 3, y=y), loaded.sample(5, 3, y=y))
        assert loaded.provenance.classes == ("a", "b", "c")

    def test_same_seed_same_run(self, name, source, labelled_images):
        states = [state_of(run(attach(name, source, labelled_images, seed=7)[0], labelled_images, seed=7)) for _ in range(2)]
        assert_same(*states)

    @pytest.mark.parametrize("stop_at", [2, 5])
    def test_resume_equals_unbroken_run(self, name, source, labelled_images, tmp_path, stop_at):
        def make():
            return attached(name, source, labelled_images)

        whole = run(make(), labelled_images, tmp_path / "whole", accumulate=3)
        resumed = stop_and_resume(make, labelled_images, tmp_path / "broken", stop_at, accumulate=3)
        assert_same(state_of(whole), state_of(resumed))

    @pytest.mark.parametrize("part", ["critic", "generator"])
    def test_classifier_terms_reach_both_networks(self, name, labelled_images, part):
        """Their factors change what is learned; without labels nothing of them is left."""
        source = toy_gan("wgangp_resnet")

        def trained(data, weight):
            objective = source.objective.model_copy(update={f"class_weight_{part}": weight})
            loop = run(attach(name, source.trained_with(objective, source.recipe), data)[0], data)
            return state_of(loop)

        with_it, without = trained(labelled_images, 1.0), trained(labelled_images, 0.0)
        assert any(not torch.equal(with_it[k], without[k]) for k in with_it if k.startswith(f"{part}."))
        bare = dataclasses.replace(labelled_images, labels=None, classes=())
        a, b = trained(bare, 1.0), trained(bare, 0.0)
        assert all(torch.equal(a[k], b[k]) for k in a)

    def test_a_network_that_takes_no_classes_is_a_clear_error(self, name, labelled_images):
        plain = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
        critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))
        toy = toy_gan()
        with pytest.raises(MissingCapability, match="cannot be given classes"):
            attach(name, GAN(plain, critic, latent=toy.generator.latent), labelled_images)
