"""BSA: ten steps reduce the loss on every backbone, all that is trained is small, and the loss is the published one."""

import copy

import pytest
import torch

import regraft
from regraft.composites.scaled import ScaledGenerator, ScalingConfig, ignores_length, truncated_latent
from regraft.core.config import parse
from regraft.core.errors import ConfigError, MissingCapability, SourceError
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.randomness import generator_at
from regraft.methods._perceptual import perception
from regraft.methods.bsa import BSAConfig, spread
from regraft.runs import adapter
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.extractor_files import vgg16_state
from support.plugins import backbones_and_classes, find_plugin
from support.toys import toy_gan, toy_images, two_layer_toy

BSA = find_plugin("methods", "bsa")


def data_for(gan, n=6):
    return toy_images(n, gan.generator.size[0], gan.generator.channels)


def attach(gan, images, seed=0, **settings):
    return BSA.attach([gan], images, parse(BSAConfig, settings, "bsa"), generator_at(seed, "init"))


@pytest.mark.parametrize(("name", "classes"), backbones_and_classes())
class TestEveryBackbone:
    def test_ten_steps_reduce_the_loss(self, name, classes):
        gan = two_layer_toy(name, classes)
        images = data_for(gan)
        adaptation = attach(gan, images, steps=10, batch=6)
        loss = adaptation.phases[0].updates[0].loss
        batch = images.batch(torch.arange(6), torch.Generator(), torch.device("cpu"))

        def value():
            with torch.no_grad():
                return sum(float(loss(batch, torch.Generator().manual_seed(k))[0]) for k in range(4))

        before = value()
        Loop(adaptation, images, Plan(), RunStore(None)).run()
        assert value() < before

    def test_adapter_is_scales_and_shifts(self, name, classes, tmp_path):
        gan = two_layer_toy(name, classes)
        images = data_for(gan)
        adaptation = attach(gan, images, steps=3)
        loop = Loop(adaptation, images, Plan(), RunStore(None))
        loop.run()
        made = loop.generator().eval()
        size = list(gan.generator.size)
        info = adapter.AdapterInfo("bsa", {"steps": 3}, {"size": size, "channels": 1}, {"n": 6, "held_out": 0}, 0, 3)
        values = adapter.save_adapter(tmp_path / "a", made, [gan], info)
        wanted = sum(p.numel() for p in made.scales.parameters()) + (made.code.numel() if classes else 0)
        wanted += 2 * gan.generator.latent.dim  # means and spreads of the latents
        assert values <= wanted
        again = adapter.load_adapter(tmp_path / "a", [two_layer_toy(name, classes)])
        assert torch.equal(again.sample(3, 1), GAN(made).sample(3, 1))


def test_published_loss():
    """Against a restatement from the paper's terms, for a batch with a repeated image."""
    gan = two_layer_toy("dcgan")
    images = data_for(gan)
    adaptation = attach(gan, images, steps=5, perceptual="none", spread_weight=0.1, scale_weight=0.02, latent_start="prior")
    generator, latents = adaptation.modules["generator"], adaptation.modules["latents"].z
    with torch.no_grad():
        for parameter in generator.scales.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    batch = images.batch(torch.tensor([4, 1, 4]), torch.Generator(), torch.device("cpu"))
    found, _ = adaptation.phases[0].updates[0].loss(batch, torch.Generator().manual_seed(7))
    rng = torch.Generator().manual_seed(7)
    z = latents[torch.tensor([4, 1, 4])]
    made = generator(z + 0.01 * torch.randn(3, 6, generator=rng))
    prior = torch.randn(30, 6, generator=rng)
    gaps = torch.cdist(prior, z) ** 2
    emd = gaps.min(1).values.mean() + gaps.min(0).values.mean()
    pull = sum(((s.gain - 1) ** 2).mean() + (s.shift**2).mean() for s in generator.scales)
    wanted = (made - batch.data).abs().mean() + 0.1 * emd + 0.02 * pull
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("network", "given", "weight"), [("critic", None, 3.0), ("critic", 0.5, 0.5), ("vgg", None, 0.001)])
def test_features_count_with_their_weight(network, given, weight, tmp_path):
    """3 where a network's differences are relative, the published 0.001 for VGG16."""
    gan = toy_gan("dcgan", size=16, channels=3, width=4, latent_dim=6)
    images = data_for(gan)
    torch.save(vgg16_state("caffe"), tmp_path / "vgg.pth")
    name = "critic" if network == "critic" else str(tmp_path / "vgg.pth")
    adaptation = attach(gan, images, steps=5, perceptual=name, perceptual_weight=given, jitter=0, latent_start="prior")
    batch = images.batch(torch.tensor([4, 1]), torch.Generator(), torch.device("cpu"))
    found, parts = adaptation.phases[0].updates[0].loss(batch, torch.Generator().manual_seed(7))
    made = adaptation.generator.render(adaptation.modules["latents"].z[[4, 1]])
    assert parts["features"].item() == pytest.approx(weight * perception(name, gan)(made, batch.data).item(), rel=1e-4)
    others = sum(parts[name] for name in ("pixels", "spread", "scales"))
    assert found.item() == pytest.approx((others + parts["features"]).item(), rel=1e-5)


def test_the_class_code_is_learned_and_held_at_its_start():
    gan = two_layer_toy("dcgan", 3)
    images = data_for(gan)
    adaptation = attach(gan, images, steps=2, code_lr=0.007, scale_weight=0.02)
    generator, (update,) = adaptation.generator, adaptation.phases[0].updates
    (code, rate) = update.optimisers[0].groups[-1]
    assert (code[0] is generator.code, rate) == (True, 0.007)
    batch = images.batch(torch.tensor([0, 1]), torch.Generator(), torch.device("cpu"))
    before = update.loss(batch, torch.Generator().manual_seed(7))[1]["scales"]
    with torch.no_grad():
        generator.code += 3
    after = update.loss(batch, torch.Generator().manual_seed(7))[1]["scales"]
    assert (before.item(), after.item()) == pytest.approx((0, 0.02 * 9))


def test_spread_of_known_points():
    z, prior = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [3.0], [3.5]])
    # Nearest latent of each draw: 1, 0, 0.25; nearest draw of each latent: 1, 0.
    assert spread(z, prior).item() == pytest.approx(1.25 / 3 + 0.5)


def test_step_sizes_decay_as_published():
    adaptation = attach(two_layer_toy("dcgan"), data_for(two_layer_toy("dcgan")), steps=10_000, scale_lr=0.03, latent_lr=0.05)
    (optimiser,) = adaptation.phases[0].updates[0].optimisers
    assert [optimiser.schedule(k) for k in (0, 2999, 3000, 6000)] == pytest.approx([1, 1, 0.2, 0.04])
    assert [lr for _, lr in optimiser.groups] == [0.03, 0.05]
    assert optimiser.betas == (0.9, 0.999)


def test_latents_start_where_said_and_samples_come_from_the_middle():
    gan = two_layer_toy("dcgan")
    assert not attach(gan, data_for(gan)).modules["latents"].z.any()
    style = two_layer_toy("stylegan2")
    assert ignores_length(style.generator)
    assert attach(style, data_for(style)).modules["latents"].z.std() > 0.5
    made = ScaledGenerator(copy.deepcopy(gan.generator), ScalingConfig(tau=0.3, sampling="prior"))
    z = made.latent.at(0, range(500))
    assert z.abs().max() <= 0.3
    assert z.std() == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert truncated_latent(Latent(4, "uniform", 2.0), 0.5) == Latent(4, "uniform", 1.0)
    assert truncated_latent(Latent(4, "truncated_normal", 0.2), 0.5).bound == 0.2
    assert truncated_latent(Latent(4, "sphere"), 0.5) == Latent(4, "sphere")


def test_samples_follow_the_latents():
    gan = two_layer_toy("dcgan")
    images = data_for(gan)
    adaptation = attach(gan, images, steps=6, scaling={"sampling": "latents"}, latent_start="prior")
    z = gan.generator.latent.at(0, range(3))
    assert torch.equal(adaptation.generator.eval()(z), gan.generator(z)), "as the source until something is learned"
    Loop(adaptation, images, Plan(), RunStore(None)).run()
    made, learned = adaptation.generator.eval(), adaptation.modules["latents"].z
    assert torch.allclose(made.centre, learned.mean(0))
    mapped = learned.mean(0) + learned.std(0, unbiased=False) * z
    assert torch.allclose(made(z), made.render(mapped), atol=1e-6)
    assert torch.allclose(made(z, psi=0.0)[0], made.render(learned.mean(0, keepdim=True))[0], atol=1e-5)


def test_statistics_of_the_target():
    gan = two_layer_toy("dcgan")
    images = data_for(gan)
    found = {}
    for which in ("source", "target"):
        loop = Loop(attach(gan, images, steps=4, statistics=which), images, Plan(), RunStore(None))
        loop.run()
        found[which] = loop.generator().source.layers[0].norm.running_var
    assert torch.equal(found["source"], gan.generator.layers[0].norm.running_var)
    assert not torch.equal(found["target"], found["source"])
    seen = []
    norm = loop.generator().source.layers[0].norm
    made = loop.generator()
    made.source.layers[0].norm.register_forward_pre_hook(lambda norm, given: seen.append(given[0].transpose(0, 1).flatten(1)))
    GAN(made).sample(2000, 1)
    assert torch.allclose(norm.running_mean, torch.cat(seen, 1).mean(1), atol=0.05 * float(norm.running_var.mean()) ** 0.5)
    assert torch.allclose(norm.running_var, torch.cat(seen, 1).var(1), rtol=0.1)
    with pytest.raises(ConfigError, match="no batch normalisation"):
        attach(two_layer_toy("mlp"), data_for(two_layer_toy("mlp")), statistics="target")


def test_mistakes_are_named(photos):
    gan = two_layer_toy("dcgan", 3)
    with pytest.raises(ConfigError, match="labelled"):
        attach(gan, data_for(gan), scaling={"classes": "keep"})
    bare = GAN(gan.generator)
    with pytest.raises(MissingCapability, match="perceptual=critic"):
        attach(bare, data_for(gan))
    attach(bare, data_for(gan), perceptual="none")
    with pytest.raises(SourceError, match="no such file"):
        attach(bare, data_for(gan), perceptual="nowhere.pth")
    with pytest.raises(ConfigError, match="mirrored"):
        regraft.adapt(photos, toy_gan(), method="bsa", flip="on", write=False)


def test_labels_choose_the_class():
    gan = two_layer_toy("dcgan", 3)
    images = toy_images(6, 16, 1, labels=[0, 1, 2, 0, 1, 2])
    adaptation = attach(gan, images, steps=2, scaling={"classes": "keep"})
    Loop(adaptation, images, Plan(), RunStore(None)).run()
    assert adaptation.generator.n_classes == 3
    assert adaptation.generator.code is None


def test_adapt_keeps_images_as_they_are(photos, tmp_path):
    run = regraft.adapt(photos, toy_gan(), method="bsa", steps=4, out=tmp_path / "run")
    stored = (tmp_path / "run" / "adapter_model.safetensors").stat().st_size
    assert stored < 2000
    assert regraft.load_adapter(tmp_path / "run", sources=[toy_gan()]).sample(2).equal(run.gan.sample(2))


def test_a_stand_alone_file_makes_the_same_images(photos, tmp_path):
    run = regraft.adapt(photos, toy_gan(), method="bsa", steps=4, keep="last", write=False)
    again = regraft.load(regraft.convert(run.gan, tmp_path / "merged"))
    assert again.sample(3, 1).equal(run.gan.sample(3, 1))
    assert not again.sample(3, 1).equal(toy_gan().sample(3, 1))
