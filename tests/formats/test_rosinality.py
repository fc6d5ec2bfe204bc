"""Files of rosinality's StyleGAN2, written here in their own names, read back and computed as that code computes."""

import math

import pytest
import torch
from torch.nn import functional as F

import regraft
from regraft.core.errors import SourceError
from regraft.core.gan import tensor_digest
from regraft.formats.base import Probe
from regraft.formats.rosinality import PLUGIN
from support.left_out import judged, left_out
from support.rosinality_files import FIR, WIDTHS, D, arguments, critic_state, generator_state, training_file


@pytest.fixture
def saved(tmp_path):
    """Save a checkpoint and return its path."""

    def save(content, **options):
        path = tmp_path / "550000.pt"
        torch.save(content, path, **options)
        return path

    return save


def fir_up(x):
    wide = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    kernel = (FIR * 4).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(wide, (2, 1, 2, 1)), kernel, groups=x.shape[1])


def modulated(x, s, weight, doubles=False, demodulate=True):
    n, (outputs, inputs, k, _) = len(x), weight.shape[1:]
    weight = weight / math.sqrt(inputs * k * k) * s[:, None, :, None, None]
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, -1, *x.shape[2:])
    if doubles:
        y = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
        y = y.reshape(n, outputs, *y.shape[2:])
        return F.conv2d(y, (FIR * 4).expand(outputs, 1, 4, 4), padding=1, groups=outputs)
    y = F.conv2d(x, weight.flatten(0, 1), padding=k // 2, groups=n)
    return y.reshape(n, outputs, *y.shape[2:])


def images_of(t, w, use_noise=True):
    """The restated generator, in the file's own names; ``w`` (N, D)."""

    def style(prefix):
        return w @ t[f"{prefix}.conv.modulation.weight"].T / math.sqrt(D) + t[f"{prefix}.conv.modulation.bias"]

    def layer(x, prefix, number, doubles=False):
        y = modulated(x, style(prefix), t[f"{prefix}.conv.weight"], doubles)
        y = y + t[f"{prefix}.noise.weight"] * t[f"noises.noise_{number}"] * use_noise
        return F.leaky_relu(y + t[f"{prefix}.activate.bias"][:, None, None], 0.2) * math.sqrt(2)

    def rgb(x, prefix):
        return modulated(x, style(prefix), t[f"{prefix}.conv.weight"], demodulate=False) + t[f"{prefix}.bias"]

    x = layer(t["input.input"].repeat(len(w), 1, 1, 1), "conv1", 0)
    image = rgb(x, "to_rgb1")
    for i in range(2):
        x = layer(x, f"convs.{2 * i}", 2 * i + 1, doubles=True)
        x = layer(x, f"convs.{2 * i + 1}", 2 * i + 2)
        image = fir_up(image) + rgb(x, f"to_rgbs.{i}")
    return image


def styles_of(t, z):
    x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
    for i in (1, 2):
        x = x @ t[f"style.{i}.weight"].T * (0.01 / math.sqrt(D)) + t[f"style.{i}.bias"] * 0.01
        x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    return x


def test_training_file_computes_as_its_code(saved):
    content = training_file()
    gan = regraft.load(saved(content))
    t = content["g_ema"]
    z = gan.generator.latent.at(0, range(3))
    w = styles_of(t, z)
    assert (gan.generator(z) - images_of(t, w)).abs().max() < 1e-5
    assert (gan.generator(z, noise="none") - images_of(t, w, use_noise=False)).abs().max() < 1e-5
    said = " ".join(gan.provenance.assumptions)
    assert "no mean style in the file" in said
    assert "groups of 4" in said
    # Measured on the latents' distribution, and the same wherever and whenever the file is opened.
    mean = styles_of(t, torch.randn(20000, D)).mean(0)
    assert torch.allclose(gan.generator.mapping.w_avg, mean, atol=0.1)
    assert tensor_digest(regraft.load(saved(content)).generator) == tensor_digest(gan.generator)
    assert gan.critic(gan.generator(z)).shape == (3,)
    assert gan.critic.config.channels == WIDTHS


def test_converted_file_brings_its_mean_style(saved):
    t = generator_state()
    mean = torch.randn(D)
    gan = regraft.load(saved({"g_ema": t, "latent_avg": mean}))
    assert gan.critic is None
    assert gan.provenance.assumptions == ("no critic found",)
    z = gan.generator.latent.at(0, range(2))
    expected = images_of(t, mean + 0.4 * (styles_of(t, z) - mean))
    assert (gan.generator(z, psi=0.4) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("form", ["bare", "wrapped", "only g", "miners", "legacy"])
def test_other_ways_of_saving(saved, form):
    t = generator_state()
    content = {
        "bare": t,
        "wrapped": {"g_ema": {f"module.{k}": v for k, v in t.items()}},
        "only g": {"g": t},
        "miners": {"g_ema": t, "g": t, "miner": {"w": torch.zeros(2)}, "miner_semantic": {"w": torch.zeros(2)}},
        "legacy": {"g_ema": t, "args": arguments()},
    }[form]
    gan = regraft.load(saved(content, _use_new_zipfile_serialization=form != "legacy"))
    z = gan.generator.latent.at(0, range(2))
    assert (gan.generator(z) - images_of(t, styles_of(t, z))).abs().max() < 1e-5
    said = " ".join(gan.provenance.assumptions)
    assert ("not used: miner, miner_semantic" in said) == (form == "miners")
    assert ("generator g is used" in said) == (form == "only g")


def test_grey_and_half_precision_files_are_read(saved):
    t = generator_state()
    for i in ("to_rgb1", "to_rgbs.0", "to_rgbs.1"):
        t[f"{i}.conv.weight"], t[f"{i}.bias"] = t[f"{i}.conv.weight"][:, :1], t[f"{i}.bias"][:, :1]
    gan = regraft.load(saved({"g_ema": {k: v.half() for k, v in t.items()}}))
    assert gan.generator.channels == 1
    assert all(p.dtype == torch.float32 for p in gan.generator.parameters())


def test_training_arguments_of_the_file_are_the_recipe(saved):
    said = {"r1": 10, "d_reg_every": 16, "path_regularize": 2, "g_reg_every": 4, "mixing": 0.9, "lr": 0.002, "batch": 8}
    gan = regraft.load(saved({"g_ema": generator_state(), "args": arguments(**said)}))
    assert (gan.objective.penalty_weight, gan.objective.penalty_every) == (10, 16)
    assert (gan.objective.path_length_weight, gan.objective.path_length_every) == (2, 4)
    assert (gan.recipe.generator_lr, gan.recipe.style_mixing, gan.recipe.batch, gan.recipe.noise) == (0.002, 0.9, 8, "random")
    family = regraft.load(saved({"g_ema": generator_state()}))
    for broken in ({"lr": -1}, {"batch": 0.5}, {"r1": float("nan")}, {"mixing": "often"}):
        gan = regraft.load(saved({"g_ema": generator_state(), "args": arguments(**(said | broken))}))
        assert (gan.objective, gan.recipe) == (family.objective, family.recipe)


def changed(which, edit):
    content = training_file()
    edit(content[which])
    return content


@pytest.mark.parametrize(
    "which, edit, message",
    [
        ("g_ema", lambda t: t.pop("convs.1.conv.weight"), "convs.1.conv.weight is missing"),
        ("g_ema", lambda t: t.pop("convs.1.noise.weight"), "convs.1.noise.weight is missing"),
        ("g_ema", lambda t: t.pop("noises.noise_2"), "noises.noise_2 is missing"),
        ("g_ema", lambda t: t.update(surprise=torch.zeros(2)), "not used: surprise"),
        ("g_ema", lambda t: t.update({"conv1.activate.bias": torch.zeros(3)}), "wrong shape"),
        ("g_ema", lambda t: t.update({"convs.2.conv.blur.kernel": FIR}), "not the filter"),
        ("g_ema", lambda t: t.update({"input.input": torch.zeros(4)}), "must have 4 dimensions"),
        ("g_ema", lambda t: t.update({"to_rgbs.40.bias": torch.zeros(4)}), "numbered"),
        ("g_ema", lambda t: t.update({"noises.noise_0": 3}), "must map names to tensors"),
        ("d", lambda t: t.pop("final_conv.0.weight"), "final_conv.0.weight is missing"),
        ("d", lambda t: t.update({"final_linear.0.weight": torch.zeros(7, 3)}), "wrong shape"),
        ("d", lambda t: t.update({"convs.1.skip.0.kernel": FIR.flip(0) * 2}), "not the filter"),
        ("d", lambda t: t.update({"final_conv.0.weight": torch.zeros(7, 6, 3, 3)}), "mbstd_channels"),
        ("d", lambda t: t.update({"convs.0.0.weight": torch.zeros(4, 2, 1, 1)}), "img_channels"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused_and_a_critic_left_out(saved, which, edit, message):
    judged(saved(changed(which, edit)), message, which == "g_ema")


def test_more_refusals(saved):
    smaller = {k: v for k, v in critic_state().items() if not k.startswith("convs.2")}
    smaller |= {"final_conv.0.weight": torch.zeros(5, 6, 3, 3), "final_conv.1.bias": torch.zeros(5)}
    smaller |= {"final_linear.0.weight": torch.zeros(5, 80), "final_linear.0.bias": torch.zeros(5)}
    smaller |= {"final_linear.1.weight": torch.zeros(1, 5)}
    left_out(saved({"g_ema": generator_state(), "d": smaller}), "makes images of 16 px, the critic takes 8 px")
    path = saved(training_file())
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(SourceError):
        regraft.load(path)


def test_only_its_own_files_are_claimed(saved, tmp_path):
    for content in ({"g_ema": {"main.0.weight": torch.zeros(2)}}, {"style.1.weight": torch.zeros(2)}, [1, 2], {"g_ema": 3}):
        assert not PLUGIN.matches(Probe(saved(content)))
    text = tmp_path / "notes.txt"
    text.write_text("input.input")
    assert not PLUGIN.matches(Probe(text))
    assert PLUGIN.matches(Probe(saved({"g_ema": generator_state()})))


def test_conversion_gives_the_same_network(saved, tmp_path):
    gan = regraft.load(saved(training_file()))
    again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
    assert tensor_digest(again.generator) == tensor_digest(gan.generator)
    assert torch.equal(again.sample(3, 1, psi=0.5), gan.sample(3, 1, psi=0.5))
    assert torch.equal(again.critic(gan.sample(4)), gan.critic(gan.sample(4)))
    assert (again.objective, again.recipe) == (gan.objective, gan.recipe)


def test_a_loaded_source_holds_its_own_memory_and_no_more(saved):
    """Optimiser state, the second generator and whatever shares storage with a tensor are let go."""
    content = training_file()
    joined = torch.zeros(10_000)
    joined[: D * D] = content["g_ema"]["style.1.weight"].flatten()
    content["g_ema"]["style.1.weight"] = joined[: D * D].view(D, D)
    gan = regraft.load(saved(content))
    for network in (gan.generator, gan.critic):
        for name, tensor in network.state_dict().items():
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 4, name


def test_files_without_noise_draw_it_from_a_fixed_seed(saved):
    """Code of 2019 kept no noise; 550000.pt, the file that most people have, is of that kind."""
    content = training_file()
    stored = {k: {n: v for n, v in content[k].items() if not n.startswith("noises.")} for k in ("g", "g_ema")}
    old = content | stored
    gan, again, new = regraft.load(saved(old)), regraft.load(saved(old)), regraft.load(saved(content))
    assert sum("no noise maps in the file" in note for note in gan.provenance.assumptions) == 1
    assert gan.critic is not None
    assert tensor_digest(gan.generator) == tensor_digest(again.generator)
    maps = {n: v for n, v in gan.generator.state_dict().items() if n.endswith("noise_const")}
    assert len(maps) == 5
    assert all(abs(float(v.std()) - 1) < 0.5 for v in maps.values())
    assert len({float(v.sum()) for v in maps.values()}) == len(maps)
    for name, value in new.generator.state_dict().items():
        assert name in maps or torch.equal(value, gan.generator.state_dict()[name]), name
    z = torch.randn(2, 6)
    assert torch.equal(gan.generator(z, noise="none"), new.generator(z, noise="none"))


def test_a_mean_style_that_does_not_fit_is_measured(saved):
    measured = regraft.load(saved({"g_ema": generator_state()})).generator.mapping.w_avg
    for wrong in (torch.zeros(7), 3, "x", torch.zeros(6, dtype=torch.complex64)):
        gan = regraft.load(saved({"g_ema": generator_state(), "latent_avg": wrong}))
        assert torch.equal(gan.generator.mapping.w_avg, measured)
        assert any("latent_avg) is left out, because it must hold 6 numbers" in note for note in gan.provenance.assumptions)
