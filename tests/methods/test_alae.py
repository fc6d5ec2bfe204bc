"""StyleALAEs: growing, the three updates, the encoder alone at the end."""

import dataclasses
import json

import pytest
import torch
import yaml
from torch.nn.functional import softplus

import regraft
from regraft.core.config import parse
from regraft.core.errors import ConfigError
from regraft.core.gan import tensor_digest
from regraft.core.networks import Batch
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.verbs.pretrain import pretrain
from support.plugins import find_plugin
from support.pretraining import SMALL, same_when_resumed, settings
from support.toys import toy_images


def grown(level, transition=0, done=0, **more):
    family = find_plugin("backbones", "alae")
    torch.manual_seed(0)
    generator, critic, growth = family.growing(16, 1, **SMALL["alae"] | more)
    growth.set_level(level, transition)
    growth.done.fill_(done)
    return family, generator, critic, growth


class TestGrowing:
    def test_blend_is_half_a_cosine(self):
        _, _, _, growth = grown(1, transition=100)
        for done, wanted in ((0, 0.0), (25, 0.5 - 0.5 * 2**-0.5), (50, 0.5), (75, 0.5 + 0.5 * 2**-0.5), (100, 1.0), (900, 1.0)):
            growth.done.fill_(done)
            assert growth.blend == pytest.approx(wanted, abs=1e-12)

    def test_beginning_of_a_transition_is_the_level_before(self):
        """At blend 0 the generator makes the smaller image enlarged, and the critic sees the smaller image."""
        _, generator, critic, growth = grown(2, transition=10, done=0)
        w = generator.mapping(generator.latent.at(0, range(2)))
        large, x = generator.synthesis(w), torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        score = critic.encoder(x)
        growth.set_level(1, 0)
        small = generator.synthesis(w)
        assert torch.allclose(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-6)
        assert torch.allclose(score, critic.encoder(torch.nn.functional.avg_pool2d(x, 2)), atol=1e-5)

    def test_grown_networks_are_plain_ones(self):
        family, generator, critic, _ = grown(2)
        parts = family.export_grown(generator, critic, critic.encoder)
        z = generator.latent.at(0, range(3))
        built = {}
        for role, (description, tensors) in parts.items():
            from regraft.core.build import build_with

            built[role] = build_with(description, tensors, "test")
        images = built["generator"](z)
        assert torch.allclose(images, generator(z), atol=1e-6)
        assert torch.allclose(built["critic"](images), critic(images), atol=1e-5)
        w = built["generator"].mapping(z)[:, 0]
        assert torch.allclose(built["autoencoder"].decode(w), images, atol=1e-6)
        assert torch.allclose(built["autoencoder"].encode(images), critic.encoder(images), atol=1e-5)

    def test_images_are_of_full_size_at_every_level(self):
        for level in range(3):
            _, generator, critic, growth = grown(level)
            images = generator(generator.latent.at(0, range(2)))
            assert images.shape == (2, 1, 16, 16)
            assert critic(images).shape == (2,)
            assert growth.real_images(images, 3).shape[2] == 4 << level

    def test_step_sizes_are_those_of_the_initial_deviations(self):
        family, generator, critic, _ = grown(2)
        for network in (generator, critic):
            groups = family.step_sizes(network)
            listed = [id(p) for parameters, _ in groups for p in parameters]
            assert sorted(listed) == sorted(id(p) for p in network.parameters())
        of = {id(p): factor for parameters, factor in family.step_sizes(generator) for p in parameters}
        layer = generator.mapping.layers[0]
        assert of[id(layer.weight)] == pytest.approx(0.1 * (2 / 6) ** 0.5)
        assert of[id(layer.bias)] == 0.1
        block = generator.synthesis.decode_block[1]
        assert of[id(block.conv_2.weight)] == pytest.approx((2 / (9 * block.conv_2.in_channels)) ** 0.5)
        assert of[id(block.style_1.weight)] == pytest.approx(6**-0.5)
        assert of[id(block.noise_weight_1)] == of[id(block.bias_1)] == of[id(generator.synthesis.const)] == 1.0
        rgb = generator.synthesis.to_rgbs[0]
        assert of[id(rgb.weight)] == pytest.approx(0.03 * rgb.in_channels**-0.5)

    def test_phases_grow_and_half_the_steps_are_at_full_size(self):
        method = find_plugin("methods", "alae")
        config = parse(method.Config, {"size": 16, "channels": 1, "steps": 20, "backbone_settings": SMALL["alae"]}, "test")
        adaptation = method.attach([], toy_images(size=16), config, generator_at(0, "init"))
        assert [(p.name, p.steps) for p in adaptation.phases] == [("4x4", 5), ("8x8", 5), ("16x16", 10)]
        assert not any(p.keep_optimisers for p in adaptation.phases)
        assert adaptation.ema_decay == pytest.approx(0.5 ** (32 / 10_000))

    def test_the_three_updates(self):
        """Each moves what it should: critic; generator; both but for the head, towards E(G(s)) = s."""
        adaptation, batch, generator, critic = attached(mixing=0)
        reached = []
        for update in adaptation.phases[-1].updates:
            for p in [*generator.parameters(), *critic.parameters()]:
                p.grad = None
                p.requires_grad_(any(p is q for o in update.optimisers for group, _ in o.groups for q in group))
            value, logs = update.loss(batch, torch.Generator().manual_seed(1))
            value.backward()
            reached.append({n for net in (generator, critic) for n, p in net.named_parameters() if p.grad is not None})
        assert not any(n.startswith(("mapping", "synthesis")) for n in reached[0])
        assert any(n.startswith("head") for n in reached[0])
        assert not any(n.startswith(("encoder", "head")) for n in reached[1])
        assert any(n.startswith("mapping") for n in reached[2])
        assert any(n.startswith("encoder") for n in reached[2])
        assert not any(n.startswith("head") for n in reached[2])
        rng = torch.Generator().manual_seed(1)
        w = generator.mapping(generator.latent.sample(12, rng))
        again = critic.encoder(generator.synthesis(w, "random", rng))
        assert float(logs["reciprocity"]) == pytest.approx((again - w[:, 0]).square().mean().item(), rel=1e-5)

    def test_the_game_is_the_published_one(self):
        """Nonsaturating losses with R1 of weight 10, on styles that are mixed in nine of ten batches."""
        adaptation, batch, generator, critic = attached(mixing=0)
        losses = [update.loss(batch, torch.Generator().manual_seed(1))[0].item() for update in adaptation.phases[-1].updates]
        rng = torch.Generator().manual_seed(1)
        w = generator.mapping(generator.latent.sample(12, rng))
        torch.rand(2, generator=rng)
        fake, real = generator.synthesis(w, "random", rng), batch.data.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(real).sum(), real)
        expected = (
            softplus(-critic(real)).mean() + softplus(critic(fake)).mean() + 10 / 2 * slope.square().sum((1, 2, 3)).mean()
        )
        assert losses[0] == pytest.approx(expected.item(), rel=1e-4)
        assert losses[1] == pytest.approx(softplus(-critic(fake)).mean().item(), rel=1e-4)
        assert parse(find_plugin("methods", "alae").Config, {}, "test").mixing == 0.9

    def test_weight_of_r1(self):
        """The loss has as much of the penalty as is set, and the source remembers it."""
        method, found = find_plugin("methods", "alae"), {}
        for weight in (0.0, 0.5, 2.0):
            given = {"size": 8, "channels": 1, "steps": 4, "backbone_settings": SMALL["alae"]}
            given["objective"] = {"penalty": "r1", "penalty_weight": weight}
            config = parse(method.Config, given, "test")
            adaptation = method.attach([], toy_images(), config, generator_at(0, "init"))
            adaptation.phases[-1].modes()
            batch = Batch(toy_images().tensor(), torch.arange(12))
            found[weight] = adaptation.phases[-1].updates[0].loss(batch, torch.Generator().manual_seed(1))[0].item()
            made = method.finished(adaptation.modules, toy_images(), config)
            assert made.objective.penalty_weight == weight
        assert found[0.5] > found[0.0]
        assert found[2.0] - found[0.0] == pytest.approx(4 * (found[0.5] - found[0.0]), rel=1e-3)

    def test_encoder_learns_to_find_styles(self):
        """The third update alone: E(G(s)) comes near s."""
        method = find_plugin("methods", "alae")
        given = {"size": 8, "channels": 1, "steps": 300, "batch": 8, "backbone_settings": SMALL["alae"]}
        adaptation = method.attach([], toy_images(), parse(method.Config, given, "test"), generator_at(0, "init"))
        update, values = adaptation.phases[-1].updates[2], []

        def noted(batch, rng):
            found = update.loss(batch, rng)
            values.append(found[0].item())
            return found

        last = dataclasses.replace(adaptation.phases[-1], updates=[dataclasses.replace(update, loss=noted)])
        Loop(dataclasses.replace(adaptation, phases=[last]), toy_images(), Plan(), RunStore(None)).run()
        assert sum(values[-10:]) < 0.5 * sum(values[:10])


def attached(**more):
    """An 8x8 StyleALAE in its last phase, fully grown, a batch, generator and critic."""
    method = find_plugin("methods", "alae")
    given = {"size": 8, "channels": 1, "steps": 4, "backbone_settings": SMALL["alae"]} | more
    adaptation = method.attach([], toy_images(), parse(method.Config, given, "test"), generator_at(0, "init"))
    phase = adaptation.phases[-1]
    phase.modes()
    if phase.name == "encoder":
        phase.on_enter()
    adaptation.modules["growth"].done.fill_(99)
    batch = Batch(toy_images().tensor(), torch.arange(12))
    return adaptation, batch, adaptation.modules["generator"], adaptation.modules["critic"]


def test_the_encoder_alone_finds_styles_of_both_kinds():
    """Half of them are drawn, half are those that it finds in images; nothing else moves."""
    adaptation, batch, generator, critic = attached(encoder_steps=1)
    encoder, (update,) = adaptation.modules["encoder"], adaptation.phases[-1].updates
    assert tensor_digest(encoder) == tensor_digest(critic.encoder)
    with torch.no_grad():
        for parameter in critic.encoder.parameters():
            parameter += 1  # it is left behind
    value, _ = update.loss(batch, torch.Generator().manual_seed(1))
    value.backward()
    assert all(p.grad is not None for name, p in encoder.named_parameters() if not name.startswith("from_rgbs.1"))
    assert not any(p.grad is not None for network in (generator, critic) for p in network.parameters())
    rng = torch.Generator().manual_seed(1)
    drawn = generator.mapping(generator.latent.sample(6, rng))[:, 0]
    styles = torch.cat([drawn, encoder(batch.data[:6])]).detach()
    again = encoder(generator.synthesis(styles[:, None].expand(-1, 4, -1), "random", rng))
    assert value.item() == pytest.approx((again - styles).square().mean().item(), rel=1e-5)


def test_parts_of_one_image_see_both_kinds_as_often():
    adaptation, batch, *_ = attached(encoder_steps=1)
    (update,) = adaptation.phases[-1].updates
    seen = 0
    for seed in range(40):
        values = {
            update.loss(Batch(image[None], torch.zeros(1)), torch.Generator().manual_seed(seed))[0].item()
            for image in (batch.data[0], -batch.data[0])
        }
        seen += len(values) == 2
    assert 10 <= seen <= 30


def test_the_encoder_alone_learns_in_bfloat16(photos, tmp_path):
    """Its convolutions too: it runs with and without gradients in one step."""
    made = pretrain(photos, out=tmp_path / "x", precision="bfloat16", encoder_steps=3, **settings("alae"))
    before = dict(made.critic.encoder.named_parameters())
    moved = {name: not torch.equal(p, before[name]) for name, p in made.autoencoder.encoder.named_parameters()}
    assert all(moved.values()), moved


@pytest.mark.parametrize("size", [32, 64])
def test_sizes(size, photos, tmp_path):
    given = settings("alae", size=size, channels=3, steps=10, encoder_steps=2)
    pretrain(photos, out=tmp_path / "x", **given)
    loaded = regraft.load(tmp_path / "x")
    images = loaded.sample(2, 0)
    assert images.shape == (2, 3, size, size)
    again = loaded.autoencoder.decode(loaded.autoencoder.encode(images))
    assert again.shape == images.shape
    assert torch.isfinite(again).all()
    phases = [json.loads(line).get("phase") for line in (tmp_path / "x" / "metrics.jsonl").read_text().splitlines()]
    grown = [f"{4 << k}x{4 << k}" for k in range(size.bit_length() - 2)]
    assert list(dict.fromkeys(p for p in phases if p)) == [*grown, "encoder"]


@pytest.mark.parametrize("at", [5, 7])
def test_a_resumed_encoder_phase_gives_the_same_source(at, photos, tmp_path):
    same_when_resumed(photos, tmp_path, at, **settings("alae", encoder_steps=4))


def test_encoder_steps_move_the_autoencoders_encoder_alone(photos, tmp_path):
    """Generator and critic are those of the same training without it, and styles are found better."""
    given, apart = settings("alae", steps=40, batch=8), {}
    for steps in (0, 150):
        made = pretrain(photos, out=tmp_path / str(steps), encoder_steps=steps, **given)
        w = made.generator.mapping(torch.randn(64, 6, generator=torch.Generator().manual_seed(0)))[:, 0].detach()
        with torch.no_grad():
            apart[steps] = (made.autoencoder.encode(made.autoencoder.decode(w)) - w).square().mean()
    plain, more = (regraft.load(tmp_path / str(steps)) for steps in (0, 150))
    assert tensor_digest(plain.generator) == tensor_digest(more.generator)
    assert tensor_digest(plain.critic) == tensor_digest(more.critic)
    assert tensor_digest(plain.autoencoder.decoder) == tensor_digest(more.autoencoder.decoder)
    assert apart[150] < 0.7 * apart[0]


def test_steps_of_each_level(photos, tmp_path):
    """A last level made longer is a list of the levels' steps."""
    longer = pretrain(photos, out=tmp_path / "longer", more=4, **settings("alae"))
    given = settings("alae", level_steps=[3, 7], transition=1)
    del given["steps"]
    listed = pretrain(photos, out=tmp_path / "listed", **given)
    assert tensor_digest(listed.generator) == tensor_digest(longer.generator)
    assert yaml.safe_load((tmp_path / "listed" / "config.yaml").read_text())["settings"]["steps"] == 10
    with pytest.raises(ConfigError, match="steps 6, and level_steps are 10 together: leave steps out"):
        pretrain(photos, out=tmp_path / "x", **given, steps=6)
    with pytest.raises(ConfigError, match="level_steps: 3 for 2 levels, 4x4 to 8x8"):
        pretrain(photos, out=tmp_path / "x", **given | {"level_steps": [1, 2, 3]})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("odd", [{"penalty_every": 16}, {"critic_steps": 5}, {"path_length_weight": 5.0}])
def test_what_a_stylealae_does_not_play_is_refused(odd, photos, tmp_path):
    with pytest.raises(ConfigError, match=f"objective.{next(iter(odd))}"):
        pretrain(photos, out=tmp_path / "x", objective=odd, **settings("alae"))
