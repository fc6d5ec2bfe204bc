"""TransferGAN checkpoints that users may have: conditional, of other sizes, continued, renamed, and wrong ones."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

import regraft
from regraft.composites.mined import MinedGenerator, Miner, MinerConfig
from regraft.core import norms
from regraft.core.config import parse
from regraft.core.errors import SourceError
from regraft.core.gan import tensor_digest
from regraft.core.networks import evaluating
from regraft.core.randomness import generator_at
from regraft.formats.base import reproducible
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.tensorflow_writer import write_bundle, write_single
from support.toys import toy_images
from support.transfergan_files import variables


def tails(made):
    return {k.rpartition("/")[2]: torch.from_numpy(v) for k, v in made.items()}


def conv(x, v, name):
    kernel = v[f"{name}.Filters"].permute(3, 2, 0, 1)
    return functional.conv2d(x, kernel, v.get(f"{name}.Biases"), padding=kernel.shape[-1] // 2)


def by_batch(x, v, name, y):
    gain, shift = (v[f"{name}.{leaf}"] for leaf in ("scale", "offset"))
    gain, shift = (t[y] if t.dim() == 2 else t[None] for t in (gain, shift))
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return torch.relu((x - mean) / torch.sqrt(var + 1e-5) * gain[:, :, None, None] + shift[:, :, None, None])


def by_layer(x, v, name):
    mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), keepdim=True, correction=0)
    gain, shift = v[f"{name}.scale"][:, None, None], v[f"{name}.offset"][:, None, None]
    return torch.relu((x - mean) / torch.sqrt(var + 1e-5) * gain + shift)


def up2(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def down2(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def restated_image(v, z, y, blocks=2):
    x = (z @ v["Generator.Input.W"] + v["Generator.Input.b"]).view(len(z), -1, 4, 4)
    for k in range(1, blocks + 1):
        name = f"Generator.Res{k}"
        h = conv(up2(by_batch(x, v, f"{name}.BN1", y)), v, f"{name}.Conv1")
        h = conv(by_batch(h, v, f"{name}.BN2", y), v, f"{name}.Conv2")
        x = h + conv(up2(x), v, f"{name}.Shortcut")
    return torch.tanh(conv(by_batch(x, v, "Generator.OutputN", y), v, "Generator.Output"))


def restated_scores(v, x, blocks=2):
    x = conv(x, v, "Discriminator.Input")
    for k in range(1, blocks + 1):
        name = f"Discriminator.Res{k}"
        h = conv(by_layer(x, v, f"{name}.BN1"), v, f"{name}.Conv1")
        h = down2(conv(by_layer(h, v, f"{name}.BN2"), v, f"{name}.Conv2"))
        x = h + conv(down2(x), v, f"{name}.Shortcut")
    x = x.flatten(1)
    logits = (
        x @ v["Discriminator.ACGANOutput.W"] + v["Discriminator.ACGANOutput.b"] if "Discriminator.ACGANOutput.W" in v else None
    )
    return (x @ v["Discriminator.Output.W"] + v["Discriminator.Output.b"])[:, 0], logits


@pytest.mark.parametrize("container", [write_bundle, write_single])
@pytest.mark.parametrize(("classes", "channels"), [(3, 3), (0, 1)])
def test_images_scores_and_classes(tmp_path, container, classes, channels):
    made = variables(classes=classes, channels=channels)
    gan = regraft.load(container(tmp_path / "wgan-gp.model", made))
    v = tails(made)
    z, y = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3 if classes else None
    assert (gan.generator.n_classes, gan.generator.size, gan.generator.channels) == (classes, (16, 16), channels)
    images = gan.generator(z, y)
    assert (images - restated_image(v, z, y)).abs().max() < 1e-5
    scores, logits = restated_scores(v, images)
    assert torch.allclose(gan.critic(images), scores, atol=1e-5)
    if classes:
        assert torch.allclose(gan.critic.classify(images), logits, atol=1e-5)
        assert torch.allclose(gan.generator(z, gan.generator.embed(y)), images, atol=1e-6)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of two data files."""
    return write_bundle(tmp_path / "wgan-gp.model", variables(), shards=2, per_block=4, snappy=True)


def test_prefix_data_file_and_folder_name_the_same_source(checkpoint, tmp_path):
    digests = {
        tensor_digest(regraft.load(path).generator)
        for path in (checkpoint, tmp_path / "wgan-gp.model", tmp_path / "wgan-gp.model.data-00001-of-00002", tmp_path)
    }
    assert len(digests) == 1
    assert set(regraft.load(checkpoint).provenance.files) == {p.name for p in tmp_path.iterdir()}


def test_a_continued_run_holds_more_than_is_needed(tmp_path):
    made = variables()
    more = {f"train/{k}/Adam": v for k, v in made.items()} | {f"train/{k}/Adam_1": v for k, v in made.items()}
    more |= {"train/beta1_power": np.float32(0.5).reshape(()), "train/beta2_power_1": np.float32(0.5).reshape(())}
    more["global_step"] = np.array(7, "i8")
    for k, channels in (("BN1", 6), ("BN2", 4)):
        more[f"Generator.Res1.{k}.moving_mean"] = np.full(channels, 0.5, "f4")
        more[f"Generator.Res1.{k}.moving_variance"] = np.ones(channels, "f4")
    renamed = {k.replace("Generator.Res1.Conv1/", "Generator.Res1.Conv1_1/"): v for k, v in made.items()}
    plain = regraft.load(write_bundle(tmp_path / "a", made))
    continued = regraft.load(write_bundle(tmp_path / "b", renamed | more))
    assert tensor_digest(plain.generator, plain.critic) == tensor_digest(continued.generator, continued.critic)
    assert any("moving averages" in note for note in continued.provenance.assumptions)


def without(made, *names):
    return {k: v for k, v in made.items() if k.rpartition("/")[2] not in names}


def wrong():
    made = variables()
    key = "Generator.Res1.Conv1/Generator.Res1.Conv1.Filters"
    yield "missing", without(made, "Generator.Res2.Conv2.Biases"), "Generator.Res2.Conv2.Biases is missing"
    yield "surplus", made | {"Generator.Extra.W": made[key]}, "not used: Generator.Extra.W"
    yield "shape", made | {key.replace("Res1", "Res2"): made[key]}, "wrong shape"
    yield "dimensions", made | {key: made[key][0]}, "must have 4 dimensions"
    yield "twice", made | {f"again/{key}": made[key]}, "the same variable"
    yield "another network", {"encoder/kernel": made[key]}, "without TransferGAN's Generator.Input.W; it has kernel"
    yield "no square", made | {"Generator.Input/Generator.Input.W": np.zeros((5, 20), "f4")}, "no square map"
    yield "an enormous image", made | {"Generator.Input/Generator.Input.W": np.zeros((1, 6 << 18), "f4")}, "at most 4194304"
    yield "channels", variables(channels=2), "channels"


@pytest.mark.parametrize(("made", "message"), [w[1:] for w in wrong()], ids=[w[0] for w in wrong()])
def test_wrong_checkpoints_are_refused(tmp_path, made, message):
    with pytest.raises(SourceError, match=message):
        regraft.load(write_bundle(tmp_path / "m", made))


def test_a_generator_alone(tmp_path):
    made = {k: v for k, v in variables().items() if k.startswith("Generator.")}
    gan = regraft.load(write_bundle(tmp_path / "m", made))
    assert gan.critic is None
    assert "no critic found" in gan.provenance.assumptions


class TestStatistics:
    """``generator(z)`` is the authors' form, sampling uses stored statistics, training what was said."""

    def test_batch_in_evaluation_and_stored_when_sampling(self, checkpoint):
        generator = regraft.load(checkpoint).generator
        z, y = generator.latent.at(0, range(6)), torch.zeros(6, dtype=torch.long)
        digest = tensor_digest(generator)
        assert not torch.allclose(generator(z, y)[:3], generator(z[:3], y[:3]), atol=1e-3)
        with evaluating(generator):
            assert torch.allclose(generator(z, y)[:3], generator(z[:3], y[:3]), atol=1e-5)
        assert not torch.allclose(generator(z, y)[:3], generator(z[:3], y[:3]), atol=1e-3)
        assert tensor_digest(generator) == digest

    def test_stored_ones_are_close_to_those_of_a_large_batch(self, checkpoint):
        gan = regraft.load(checkpoint)
        z = gan.generator.latent.at(5, range(512))
        y = torch.arange(512) % 3
        assert (gan.at(z, y, batch=512) - gan.generator(z, y).clamp(-1, 1)).abs().mean() < 0.05

    def test_training_obeys_the_recipe_inside_a_miner_too(self, checkpoint):
        source = regraft.load(checkpoint).generator
        mined = MinedGenerator(Miner(MinerConfig(), source.latent), copy.deepcopy(source))
        z, y = source.latent.at(0, range(6)), torch.zeros(6, dtype=torch.long)
        norms.set_training(mined, "running")
        assert torch.allclose(mined(z, y)[:2], mined(z[:2], y[:2]), atol=1e-5)
        assert not norms.uses_batch_statistics(mined)
        norms.set_training(mined, "batch")
        assert not torch.allclose(mined(z, y)[:2], mined(z[:2], y[:2]), atol=1e-3)
        assert norms.uses_batch_statistics(mined)
        mined.eval()
        assert not torch.allclose(mined(z, y)[:2], mined(z[:2], y[:2]), atol=1e-3)
        assert not norms.uses_batch_statistics(mined)

    @pytest.mark.parametrize("method", ["freezed", "minegan", "transfergan", "untouched"])
    def test_methods_train_and_save_it(self, tmp_path, method):
        gan = regraft.load(write_single(tmp_path / "m", variables(classes=0)))
        plugin, images = find_plugin("methods", method), toy_images(size=16, channels=3)
        settings = {} if method == "untouched" else {"steps": 2}
        adaptation = plugin.attach([gan], images, parse(plugin.Config, settings, method), generator_at(0, "init"))
        loop = Loop(adaptation, images, Plan(observe_every=0), RunStore(None))
        loop.run()
        made = regraft.GAN(loop.generator().eval())
        assert torch.isfinite(made.sample(3)).all()
        assert torch.equal(made.sample(3), gan.sample(3)) == (method == "untouched")

    def test_conversion_keeps_them(self, checkpoint, tmp_path):
        gan = regraft.load(checkpoint)
        again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
        assert torch.equal(gan.sample(5, 1), again.sample(5, 1))
        z, y = gan.generator.latent.at(0, range(4)), torch.arange(4) % 3
        assert torch.equal(gan.generator(z, y), again.generator(z, y))


def test_measured_statistics_are_the_same_on_every_machine():
    """Rounding takes out what the order of sums changes in float64, and little more."""
    values = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    again = values * (1 + 1e-13 * torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(values, again)
    assert torch.equal(reproducible(values), reproducible(again))
    assert ((reproducible(values) - values) / values).abs().max() < 2**-12
