"""BSA: a scaled generator is its source at first, everything that is trained is small, and the loss is the published one."""

import copy
import json

import pytest
import torch
from torch.nn import functional as F

import regraft
from regraft.composites.scaled import ScaledGenerator, ScalingConfig, ignores_length, truncated_latent
from regraft.core import discover
from regraft.core.build import build_with
from regraft.core.config import parse
from regraft.core.errors import ConfigError, MissingCapability, SourceError
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, Description, evaluating
from regraft.core.randomness import generator_at
from regraft.methods._perceptual import MOBILE_KEPT, VGG_CONVS, CriticPerception, perception
from regraft.methods.bsa import BSAConfig, spread
from regraft.runs import adapter
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.toys import toy_gan, toy_images

BSA = find_plugin("methods", "bsa")
CASES = [
    (name, k) for name in discover.names("backbones") for k in (0, 3) if find_plugin("backbones", name).conditional or not k
]


def toy(name, classes=0):
    # Two hidden convolutions rather than one, where the smallest network has only one.
    settings = {"size": 16, "width": 4, "latent_dim": 6} if name == "dcgan" else {}
    return toy_gan(name, n_classes=classes, **settings)


def data_for(gan, n=6):
    return toy_images(n, gan.generator.size[0], gan.generator.channels)


def scaled(gan, **settings):
    return ScaledGenerator(copy.deepcopy(gan.generator), ScalingConfig(**settings))


def attach(gan, images, seed=0, **settings):
    return BSA.attach([gan], images, parse(BSAConfig, settings, "bsa"), generator_at(seed, "init"))


@pytest.mark.parametrize(("name", "classes"), CASES)
class TestEveryBackbone:
    def test_equals_the_source_at_step_0(self, name, classes):
        gan = toy(name, classes)
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
        made = scaled(toy(name, classes))
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

    def test_ten_steps_reduce_the_loss(self, name, classes):
        gan = toy(name, classes)
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
        gan = toy(name, classes)
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
        again = adapter.load_adapter(tmp_path / "a", [toy(name, classes)])
        assert torch.equal(again.sample(3, 1), GAN(made).sample(3, 1))

    def test_description_survives_sorted_json(self, name, classes):
        made = scaled(toy(name, classes))
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


def test_published_loss():
    """Against a restatement from the paper's terms, for a batch with a repeated image."""
    gan = toy("dcgan")
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
    torch.save(vgg("caffe"), tmp_path / "vgg.pth")
    name = "critic" if network == "critic" else str(tmp_path / "vgg.pth")
    adaptation = attach(gan, images, steps=5, perceptual=name, perceptual_weight=given, jitter=0, latent_start="prior")
    batch = images.batch(torch.tensor([4, 1]), torch.Generator(), torch.device("cpu"))
    found, parts = adaptation.phases[0].updates[0].loss(batch, torch.Generator().manual_seed(7))
    made = adaptation.generator.render(adaptation.modules["latents"].z[[4, 1]])
    assert parts["features"].item() == pytest.approx(weight * perception(name, gan)(made, batch.data).item(), rel=1e-4)
    others = sum(parts[name] for name in ("pixels", "spread", "scales"))
    assert found.item() == pytest.approx((others + parts["features"]).item(), rel=1e-5)


def test_the_class_code_is_learned_and_held_at_its_start():
    gan = toy("dcgan", 3)
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


@pytest.mark.parametrize(("name", "size"), [("dcgan", 32), ("sngan", 128), ("stylegan2", 256)])
def test_adapters_of_full_size_networks_have_kilobytes(name, size):
    """Of millions of numbers tens of thousands at most are learned and stored."""
    family = find_plugin("backbones", name)
    generator = family.generator(family.default_configs(size, 3)[0])
    scales = ScaledGenerator(generator, ScalingConfig()).scales
    stored = 4 * sum(p.numel() for p in scales.parameters()) + 8 * generator.latent.dim
    assert stored < 100_000
    assert stored < 0.01 * 4 * sum(p.numel() for p in generator.parameters())


def test_spread_of_known_points():
    z, prior = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [3.0], [3.5]])
    # Nearest latent of each draw: 1, 0, 0.25; nearest draw of each latent: 1, 0.
    assert spread(z, prior).item() == pytest.approx(1.25 / 3 + 0.5)


def test_step_sizes_decay_as_published():
    adaptation = attach(toy("dcgan"), data_for(toy("dcgan")), steps=10_000, scale_lr=0.03, latent_lr=0.05)
    (optimiser,) = adaptation.phases[0].updates[0].optimisers
    assert [optimiser.schedule(k) for k in (0, 2999, 3000, 6000)] == pytest.approx([1, 1, 0.2, 0.04])
    assert [lr for _, lr in optimiser.groups] == [0.03, 0.05]
    assert optimiser.betas == (0.9, 0.999)


def test_latents_start_where_said_and_samples_come_from_the_middle():
    gan = toy("dcgan")
    assert not attach(gan, data_for(gan)).modules["latents"].z.any()
    style = toy("stylegan2")
    assert ignores_length(style.generator)
    assert attach(style, data_for(style)).modules["latents"].z.std() > 0.5
    made = scaled(gan, tau=0.3, sampling="prior")
    z = made.latent.at(0, range(500))
    assert z.abs().max() <= 0.3
    assert z.std() == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert truncated_latent(Latent(4, "uniform", 2.0), 0.5) == Latent(4, "uniform", 1.0)
    assert truncated_latent(Latent(4, "truncated_normal", 0.2), 0.5).bound == 0.2
    assert truncated_latent(Latent(4, "sphere"), 0.5) == Latent(4, "sphere")


def test_samples_follow_the_latents():
    gan = toy("dcgan")
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
    gan = toy("dcgan")
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
        attach(toy("mlp"), data_for(toy("mlp")), statistics="target")


def test_mistakes_are_named(photos):
    gan = toy("dcgan", 3)
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
    gan = toy("dcgan", 3)
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


def vgg(dialect):
    rng = torch.Generator().manual_seed(0)
    blocks = [f"conv{b}_{k}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3)) for k in range(1, n + 1)]
    names = blocks if dialect == "caffe" else [f"features.{n}" for n, _ in VGG_CONVS]
    tensors, inputs = {}, 3
    for name, (_, width) in zip(names, VGG_CONVS):
        tensors[f"{name}.weight"] = torch.randn(width, inputs, 3, 3, generator=rng) * (2 / (9 * inputs)) ** 0.5
        tensors[f"{name}.bias"] = torch.randn(width, generator=rng) * 0.1
        inputs = width
    return tensors | {"classifier.0.weight": torch.zeros(3)}


@pytest.mark.parametrize("dialect", ["caffe", "torch"])
def test_vgg16_from_a_file(dialect, tmp_path):
    tensors = vgg(dialect)
    torch.save(tensors, tmp_path / "vgg.pth")
    network = perception(str(tmp_path / "vgg.pth"), None)
    rng = torch.Generator().manual_seed(1)
    x, t = (torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1 for _ in range(2))
    if dialect == "caffe":
        prepare = lambda v: (v[:, [2, 1, 0]] + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]  # noqa: E731
    else:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        prepare = lambda v: ((v + 1) / 2 - mean[:, None, None]) / std[:, None, None]  # noqa: E731
    a, b, total = prepare(x), prepare(t), 0
    values = [v for k, v in tensors.items() if "classifier" not in k]
    for k, (weight, bias) in enumerate(zip(values[::2], values[1::2])):
        if k in (2, 4, 7):
            a, b = F.max_pool2d(a, 2), F.max_pool2d(b, 2)
        a, b = (F.conv2d(v, weight, bias, padding=1).relu() for v in (a, b))
        total = total + (a - b).abs().mean() / (b.mean() if dialect == "torch" else 1)
    assert torch.allclose(network(x, t), total, rtol=1e-4)
    assert network(x, x).item() == 0


def test_mobilenet_on_real_weights(shared):
    """Its features must tell cats from faces; a network that is wired wrongly does not."""
    network = perception(str(shared / "data" / "weights" / "mobilenet_v1_imagenet_features.safetensors"), None)
    sets = [
        regraft.open_images(shared / "data" / f"{name}.zip").take(0, 12).decode((64, 64), 3).tensor()
        for name in ("afhq_cat_128", "celeba_64")
    ]
    with torch.no_grad():
        last = torch.cat([network.features(x)[-1].mean((2, 3)) for x in sets])
    assert last.shape == (24, 512)
    gaps = torch.cdist(last, last).fill_diagonal_(float("inf"))
    nearest = gaps.argmin(1) >= 12
    right = (nearest == torch.tensor([False] * 12 + [True] * 12)).float().mean()
    assert right >= 0.9
    assert len(network.features(sets[0][:1, :1])) == len(MOBILE_KEPT)


def test_critic_features_are_those_of_its_hidden_stages():
    gan = toy("dcgan")
    network = CriticPerception(gan.critic)
    x, t = (torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    total, a, b = 0, x, t
    for stage in gan.critic.stages[:-1]:
        a, b = stage(a), stage(b)
        total = total + (a - b).abs().mean() / b.abs().mean()
    assert torch.allclose(network(x, t), total, rtol=1e-5)


def test_files_that_are_no_perceptual_network(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(SourceError, match="neither VGG16"):
        perception(str(tmp_path / "a.pth"), None)
    tensors = vgg("torch")
    torch.save(tensors | {"features.2.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with pytest.raises(SourceError, match=r"features.2.weight is \(1,\), must be \(64, 64, 3, 3\)"):
        perception(str(tmp_path / "b.pth"), None)
    del tensors["features.21.bias"]
    torch.save(tensors, tmp_path / "c.pth")
    with pytest.raises(SourceError, match=r"without the tensor features.21.bias"):
        perception(str(tmp_path / "c.pth"), None)
    (tmp_path / "d.pth").write_bytes(b"no tensors")
    with pytest.raises(SourceError, match=r"d.pth"):
        perception(str(tmp_path / "d.pth"), None)


def test_a_stand_alone_file_makes_the_same_images(photos, tmp_path):
    run = regraft.adapt(photos, toy_gan(), method="bsa", steps=4, keep="last", write=False)
    again = regraft.load(regraft.convert(run.gan, tmp_path / "merged"))
    assert again.sample(3, 1).equal(run.gan.sample(3, 1))
    assert not again.sample(3, 1).equal(toy_gan().sample(3, 1))
