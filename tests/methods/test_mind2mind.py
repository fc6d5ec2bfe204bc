"""Mind2Mind: published sizes, no pass through the autoencoder in training, options, refusals, adapters."""

import dataclasses

import pytest
import torch
import yaml
from torch.nn import functional

import regraft
from regraft.backbones import alae
from regraft.composites.decoded import DecodedGenerator, Mind, MindConfig, MindCritic, gaussian_prior
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import AdapterError, ConfigError, MissingCapability
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import Batch
from regraft.core.randomness import generator_at
from regraft.data import codes
from regraft.methods import mind2mind
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.toys import toy_autoencoder, toy_gan, toy_images


def values(module):
    return sum(p.numel() for p in module.parameters())


def attach(source, images, objective=None, **settings):
    method = find_plugin("methods", "mind2mind")
    config = parse(method.Config, {"steps": 4} | settings, "test")
    published, recipe = method.training(config, source)
    given = source.trained_with(objective or published, recipe.model_copy(update={"batch": 6}))
    return method.attach([given], images, config, generator_at(0, "init"))


def train(adaptation, data):
    loop = Loop(adaptation, data, Plan(), RunStore(None))
    loop.run()
    return loop


class TestPublishedSizes:
    def test_1024_pixel_alae(self):
        """443,776 and 427,009 values, as the authors' networks have."""
        preset = mind2mind.PRESETS["alae-1024"]
        assert values(Mind(MindConfig(code_dim=512, widths=preset.generator))) == 443_776
        assert values(MindCritic(512, preset.critic)) == 427_009
        assert (preset.batch, mind2mind.PRESETS["alae-1024-batch256"].batch) == (128, 256)
        assert (preset.betas, preset.drift) == ((0.0, 0.5), 0.01)

    def test_28x28(self):
        autoencoder = find_plugin("backbones", "autoencoder")
        config = autoencoder.default_autoencoder_config(28, 1)
        assert [layer.outputs for layer in config.encoder] == [32, 64, 128, 256]
        assert config.decoder[0].view == (64, 4, 4)
        assert [layer.outputs for layer in config.decoder] == [1024, 64, 64, 32, 1]
        source = GAN(gaussian_prior(autoencoder.autoencoder(config)), autoencoder=autoencoder.autoencoder(config))
        settings = parse(mind2mind.Mind2MindConfig, {}, "test")
        mind = settings.mind(source.autoencoder)
        assert (mind.widths, mind.norm, mind.output, mind.code_dim) == ((512, 512, 512), "batch", "tanh", 256)
        as_published = parse(mind2mind.Mind2MindConfig, {"preset": "28x28"}, "test")
        mind = as_published.mind(source.autoencoder)
        assert (mind.widths, mind.norm, mind.output, mind.code_dim) == ((512, 512), "batch", "tanh", 256)
        published = mind2mind.PRESETS["28x28"]
        assert (published.critic, published.batch) == ((256, 256), 128)
        method = find_plugin("methods", "mind2mind")
        objective, recipe = method.training(as_published, source)
        assert (objective.penalty_weight, objective.critic_steps, objective.drift_weight) == (10, 5, 0)
        assert (recipe.betas, recipe.generator_lr, recipe.critic_lr) == ((0.1, 0.5), 1e-3, 1e-3)
        objective, recipe = method.training(settings, source)
        assert (objective.penalty_weight, objective.critic_steps, recipe.betas) == (0.1, 3, (0.0, 0.99))
        generator, critic = autoencoder.default_configs(28, 1)
        # The whole GAN in pixels is the same layers: decoder and g0, encoder and c0.
        whole = values(autoencoder.generator(generator)) + values(autoencoder.critic(critic))
        assert whole == values(autoencoder.autoencoder(config)) + values(Mind(mind)) + values(MindCritic(256, (256, 256)))

    @pytest.mark.parametrize(("code_range", "means"), [("tanh", "28x28-calm"), ("none", "alae-1024")])
    def test_a_run_remembers_what_auto_meant(self, code_range, means, photos, tmp_path, monkeypatch):
        """Its samples stay what they are when the presets change."""
        source = toy_gan()
        source.autoencoder = toy_autoencoder(code_range=code_range)
        made = regraft.adapt(photos, source, method="mind2mind", steps=1, batch=4, out=tmp_path / "run").gan
        settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["settings"]
        kept = mind2mind.preset_of(parse(mind2mind.Mind2MindConfig, {}, "test"), source.autoencoder)
        assert settings["preset"] == means
        assert (tuple(settings["generator_widths"]), tuple(settings["critic_widths"])) == (kept.generator, kept.critic)
        changed = {
            name: p.model_copy(update={"generator": (3,), "norm": "batch" if p.norm == "none" else "none"})
            for name, p in mind2mind.PRESETS.items()
        }
        monkeypatch.setattr(mind2mind, "PRESETS", changed)
        assert torch.equal(regraft.load_adapter(tmp_path / "run", [source]).sample(2, 0), made.sample(2, 0))

    def test_widths_scale_with_an_unbounded_code(self):
        _, _, config = alae.default_configs(32, 1, latent_dim=32, width=4)
        autoencoder = alae.PLUGIN.autoencoder(config)
        settings = parse(mind2mind.Mind2MindConfig, {}, "test")
        assert settings.mind(autoencoder).widths == (8, 16, 32)
        assert mind2mind.preset_of(settings, autoencoder).critic == (32, 16, 8)


def counted(autoencoder):
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        original = getattr(autoencoder, name)

        def run(*given, name=name, original=original, **more):
            """A finished run of Mind2Mind, and the path of its source."""
            calls[name] += 1
            return original(*given, **more)

        setattr(autoencoder, name, run)
    return calls


class TestTraining:
    def test_no_pass_through_the_autoencoder(self):
        adaptation = attach(
            toy_gan(autoencoder=True), toy_images(), preset="alae-1024", generator_widths=[8], critic_widths=[8]
        )
        calls = counted(adaptation.generator.autoencoder)
        train(adaptation, toy_images())
        assert calls == {"encode": 0, "decode": 0}

    def test_encoder_and_decoder_stay_as_they_are(self):
        source = toy_gan(autoencoder=True)
        digest = tensor_digest(source.autoencoder)
        adaptation = attach(source, toy_images())
        loop = train(adaptation, toy_images())
        assert tensor_digest(source.autoencoder) == digest
        assert tensor_digest(adaptation.generator.autoencoder) == digest
        assert tensor_digest(loop.generator().autoencoder) == digest
        assert all(p.grad is None for p in adaptation.generator.autoencoder.parameters())

    def test_images_become_codes_as_the_encoder_has_it(self):
        source, images = toy_gan(autoencoder=True), toy_images()
        data = attach(source, images).phases[0].data
        assert torch.allclose(data.values, source.autoencoder.encode(images.tensor()), atol=1e-6)
        assert data.mirrored is None
        flipped = attach(source, dataclasses.replace(images, flip=True)).phases[0].data
        assert torch.allclose(flipped.mirrored, source.autoencoder.encode(images.tensor().flip(3)), atol=1e-6)
        drawn = flipped.batch(torch.zeros(200, dtype=torch.long), torch.Generator().manual_seed(0), torch.device("cpu")).data
        share = (drawn == flipped.mirrored[0]).all(1).float().mean()
        assert 0.4 < share < 0.6
        assert ((drawn == flipped.mirrored[0]).all(1) | (drawn == flipped.values[0]).all(1)).all()

    @pytest.mark.parametrize(("how", "sets"), [("fresh", 4), ("reuse", 2)])
    def test_reals_of_the_critic_steps(self, how, sets):
        """Fresh: three critic steps and the generator's see four batches.  Reused: two."""
        objective = Objective(loss="wgan", penalty="none", critic_steps=3)
        adaptation = attach(toy_gan(autoencoder=True), toy_images(24), objective, steps=1, critic_data=how)
        seen = []
        data = adaptation.phases[0].data

        class Noting:
            n, n_classes = data.n, 0

            def batch(self, index, rng, device):
                seen.append(tuple(index.tolist()))
                return data.batch(index, rng, device)

        phases = [dataclasses.replace(adaptation.phases[0], data=Noting())]
        train(dataclasses.replace(adaptation, phases=phases), toy_images(24))
        assert len(seen) == 4
        assert len(set(seen)) == sets
        assert seen[0] == seen[1] or how == "fresh"

    def test_loss_is_that_of_the_paper(self):
        """- mean c0(m) + mean c0(m') + 10 mean (|slope| - 1)^2 + 0.01 mean c0(m)^2, restated."""
        source, images = toy_gan(autoencoder=True), toy_images()
        adaptation = attach(source, images, preset="alae-1024", generator_widths=[4], critic_widths=[5])
        update = adaptation.phases[0].updates[0]
        assert update.repeat == 5
        assert update.optimisers[0].betas == (0.0, 0.5)
        data = adaptation.phases[0].data
        real = data.values[:6]
        value, logs = update.loss(Batch(real, torch.arange(6)), torch.Generator().manual_seed(3))
        rng = torch.Generator().manual_seed(3)
        z = torch.rand(6, 128, generator=rng) * 2 - 1
        g, c = adaptation.generator.mind.state_dict(), adaptation.modules["critic"].state_dict()

        def score(x):
            h = functional.relu(x @ c["layers.0.weight"].T + c["layers.0.bias"])
            return (h @ c["layers.1.weight"].T + c["layers.1.bias"])[:, 0]

        hidden = functional.relu(z @ g["layers.0.weight"].T + g["layers.0.bias"])
        fake = torch.tanh(hidden @ g["layers.1.weight"].T + g["layers.1.bias"])
        t = torch.rand(6, 1, generator=rng)
        between = ((1 - t) * real + t * fake).requires_grad_()
        (slope,) = torch.autograd.grad(score(between).sum(), between)
        restated = score(fake).mean() - score(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        restated = restated + 0.01 * (score(real) ** 2).mean()
        assert value.item() == pytest.approx(restated.item(), rel=1e-5)
        assert set(logs) >= {"critic_loss", "penalty"}

    def test_it_learns_a_distribution_of_codes(self):
        """Codes far from where the networks start: 1,000 steps bring mean and spread near."""
        rng = torch.Generator().manual_seed(0)
        target = codes.Codes(torch.randn(400, 6, generator=rng) * 0.1 + 0.4)
        source = toy_gan(autoencoder=True)
        adaptation = attach(source, target, steps=1000, generator_widths=[32], critic_widths=[32])
        loop = train(dataclasses.replace(adaptation, batch=64), target)
        made = loop.generator().codes(adaptation.generator.latent.at(0, range(400)))
        assert (made.mean(0) - 0.4).abs().max() < 0.15
        assert 0.03 < made.std(0).mean() < 0.2

    def test_standardised_codes_are_undone(self):
        source = toy_gan(autoencoder=True)
        target = codes.Codes(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 0.02 + 0.3)
        adaptation = attach(source, target, standardise=True)
        mind = adaptation.generator.mind
        assert mind.config.output == "none"
        assert torch.allclose(mind.shift, target.values.mean(0), atol=1e-6)
        assert torch.allclose(mind.scale, target.values.std(0, correction=0), atol=1e-6)
        made = adaptation.generator.eval().codes(torch.zeros(1, 128))
        plain = mind(torch.zeros(1, 128)) * mind.scale + mind.shift
        assert torch.allclose(made, plain.clamp(-1, 1))

    def test_truncation_pulls_to_the_mean_code_of_the_target(self):
        adaptation = attach(toy_gan(autoencoder=True), toy_images())
        generator = adaptation.generator.eval()
        z = generator.latent.at(0, range(3))
        mean = adaptation.phases[0].data.values.mean(0)
        assert torch.allclose(generator.codes(z, psi=0.0), mean.expand(3, -1), atol=1e-6)
        assert torch.allclose(generator.codes(z, psi=0.5), (mean + generator.codes(z)) / 2, atol=1e-6)

    def test_classes(self):
        images = toy_images(labels=[k % 3 for k in range(12)])
        adaptation = attach(toy_gan(autoencoder=True), images)
        generator = adaptation.generator
        assert generator.n_classes == 3
        loop = train(adaptation, images)
        judged = loop.generator().eval()
        z = judged.latent.at(0, range(1)).expand(3, -1)
        made = judged(z, torch.arange(3))
        assert (made[0] - made[1]).abs().max() > 0
        assert torch.allclose(judged(z, judged.embed(torch.eye(3))), made, atol=1e-6)
        with pytest.raises(MissingCapability, match="conditional"):
            judged(z)
        assert attach(toy_gan(autoencoder=True), images, n_classes=0).generator.n_classes == 0
        with pytest.raises(ConfigError, match="n_classes=5"):
            attach(toy_gan(autoencoder=True), images, n_classes=5)

    def test_last_phase_trains_the_decoder_and_not_the_encoder(self):
        source = toy_gan(autoencoder=True)
        adaptation = attach(source, toy_images(), decoder_steps=3, decoder_lr=1e-3)
        before = {k: v.clone() for k, v in adaptation.generator.autoencoder.state_dict().items()}
        loop = train(adaptation, toy_images())
        after = adaptation.generator.autoencoder.state_dict()
        moved = {k.partition(".")[0] for k in before if not torch.equal(before[k], after[k])}
        assert moved == {"decoder"}
        assert loop.position.total == 7
        assert tensor_digest(source.autoencoder) == tensor_digest(toy_autoencoder())


class TestRefusals:
    def test_source_without_autoencoder(self):
        with pytest.raises(MissingCapability, match="mind2mind needs autoencoder.*pretrain"):
            find_plugin("methods", "mind2mind").check([toy_gan()], "mind2mind")

    def test_codes_of_another_autoencoder(self):
        data = codes.Codes(torch.zeros(4, 6), record={"autoencoder_digest": "0" * 64})
        with pytest.raises(ConfigError, match="digest 0000000000000000"):
            attach(toy_gan(autoencoder=True), data)
        with pytest.raises(ConfigError, match="5 numbers, this autoencoder's have 6"):
            attach(toy_gan(autoencoder=True), codes.Codes(torch.zeros(4, 5)))

    def test_decoder_phase_needs_images(self):
        with pytest.raises(ConfigError, match="give the images"):
            attach(toy_gan(autoencoder=True), codes.Codes(torch.rand(4, 6)), decoder_steps=2)


@pytest.fixture
def run(photos, tmp_path):
    """A finished run of Mind2Mind, and the path of its source."""
    source = regraft.convert(toy_gan(autoencoder=True), tmp_path / "source")
    settings = {"steps": 4, "batch": 4, "evaluate_every": 2, "generator_widths": [8], "critic_widths": [8]}
    return regraft.adapt(photos, source, method="mind2mind", out=tmp_path / "run", **settings), source


class TestRun:
    def test_adapter_holds_the_mindgan_only(self, run, tmp_path):
        made, source = run
        tensors = __import__("safetensors.torch").torch.load_file(made.folder / "adapter_model.safetensors")
        assert {k.partition(".")[0] for k in tensors} == {"mind"}
        again = regraft.load_adapter(made.folder)
        assert torch.equal(again.sample(5, 3), made.gan.sample(5, 3))
        assert again.autoencoder is not None
        assert torch.equal(regraft.sample(made.folder, n=3, psi=0.5), again.sample(3, 0, psi=0.5))

    def test_the_autoencoder_is_the_one_that_was_trained(self, photos, tmp_path):
        source = regraft.convert(toy_gan(autoencoder=True), tmp_path / "source")
        settings = {"steps": 2, "decoder_steps": 3, "decoder_lr": 1e-2, "batch": 4, "evaluate_every": 0, "keep": "last"}
        made = regraft.adapt(photos, source, method="mind2mind", out=tmp_path / "run", critic_widths=[8], **settings)
        loaded, alone = regraft.load(made.folder), regraft.load(regraft.convert(made.folder, tmp_path / "whole"))
        z = made.gan.generator.latent.at(0, range(3))
        for gan in (made.gan, loaded, alone):
            assert torch.equal(gan.autoencoder.decode(gan.generator.codes(z)), gan.generator(z))
        assert tensor_digest(loaded.autoencoder) == tensor_digest(made.gan.autoencoder)
        assert tensor_digest(loaded.autoencoder) != tensor_digest(regraft.load(source).autoencoder)

    def test_another_source_is_refused(self, run):
        made, _ = run
        with pytest.raises(AdapterError, match="works on the very source"):
            regraft.load_adapter(made.folder, [toy_gan(autoencoder=True, seed=1)])

    def test_another_autoencoder_behind_the_same_generator_is_refused(self, run):
        made, _ = run
        other = toy_gan()
        changed = GAN(
            other.generator, other.critic, autoencoder=toy_autoencoder(seed=5), recipe=Recipe(), objective=Objective()
        )
        with pytest.raises(AdapterError, match="autoencoder"):
            regraft.load_adapter(made.folder, [changed])

    def test_converted_it_stands_alone(self, run, tmp_path):
        made, _ = run
        folder = regraft.convert(made.folder, tmp_path / "whole")
        alone = regraft.load(folder)
        assert isinstance(alone.generator, DecodedGenerator)
        assert torch.equal(alone.sample(4, 1), made.gan.sample(4, 1))
