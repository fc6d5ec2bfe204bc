"""StyleALAE files that users may have: other sizes, colour, parts missing, and wrong ones."""

import json
import math

import pytest
import torch
from torch.nn import functional

import regraft
from regraft.core.config import parse
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import tensor_digest
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.alae_files import models, written
from support.left_out import left_out
from support.plugins import find_plugin
from support.toys import toy_images


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x)


def blur(x):
    padded = functional.pad(x, (1, 1, 1, 1))
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[:, :, :, :-2] + 2 * rows[:, :, :, 1:-1] + rows[:, :, :, 2:]) / 16


def instance_norm(x, eps):
    return (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(x.var((2, 3), keepdim=True, correction=0) + eps)


def shifted(kernel):
    """The 4x4 kernel of a fused layer, entry by entry."""
    out = kernel.new_zeros(*kernel.shape[:2], 4, 4)
    for i in range(3):
        for j in range(3):
            out[:, :, i : i + 2, j : j + 2] += kernel[:, :, i : i + 1, j : j + 1]
    return out


def restated_image(g, w, levels):
    def surrogate(x, k):
        s = math.sqrt(k + 1)
        return x + 0.8 * s * torch.exp(-(x**2) / (2 * s**2)) / math.sqrt(2 * math.pi)

    def style(x, p):
        s = (w @ g[f"{p}.weight"].T + g[f"{p}.bias"]).view(len(w), 2, -1, 1, 1)
        return instance_norm(x, 1e-8) * (1 + s[:, 0]) + s[:, 1]

    x = g["const"].repeat(len(w), 1, 1, 1)
    for k in range(levels):
        p = f"decode_block.{k}"
        if k and 4 << k >= 128:
            x = blur(functional.conv_transpose2d(x, shifted(g[f"{p}.conv_1.weight"]), stride=2, padding=1))
        elif k:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = blur(functional.conv2d(x, g[f"{p}.conv_1.weight"], padding=1))
        x = style(lrelu(surrogate(x, k) + g[f"{p}.bias_1"]), f"{p}.style_1")
        x = functional.conv2d(x, g[f"{p}.conv_2.weight"], padding=1)
        x = style(lrelu(surrogate(x, k) + g[f"{p}.bias_2"]), f"{p}.style_2")
    p = f"to_rgb.{levels - 1}.to_rgb"
    return functional.conv2d(x, g[f"{p}.weight"], g[f"{p}.bias"])


def restated_code(e, x, levels):
    def read(x, p):
        both = torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], dim=1)
        return both @ e[f"{p}.weight"].T + e[f"{p}.bias"]

    x = lrelu(lrelu(functional.conv2d(x, e["from_rgb.0.from_rgb.weight"], e["from_rgb.0.from_rgb.bias"])))
    code = 0
    for k in range(levels):
        q = f"encode_block.{k}"
        fused = x.shape[-1] >= 128
        x = lrelu(functional.conv2d(x, e[f"{q}.conv_1.weight"], padding=1) + e[f"{q}.bias_1"])
        code = code + read(x, f"{q}.style_1")
        x = blur(instance_norm(x, 1e-5))
        if fused:
            x = functional.conv2d(x, shifted(e[f"{q}.conv_2.weight"]) / 4, stride=2, padding=1)
        else:
            x = functional.avg_pool2d(functional.conv2d(x, e[f"{q}.conv_2.weight"], padding=1), 2)
        x = lrelu(x + e[f"{q}.bias_2"])
        code = code + read(x, f"{q}.style_2")
        x = instance_norm(x, 1e-5)
    return code


@pytest.mark.parametrize(("levels", "channels"), [(2, 1), (3, 3), (6, 3), (7, 1)], ids=["8", "16", "128 fused", "256 fused"])
def test_images_codes_and_scores(tmp_path, levels, channels):
    made = models(levels, channels=channels)
    gan = regraft.load(written(tmp_path / "m.pth", made))
    assert gan.generator.size == gan.critic.size == gan.autoencoder.size == (2 << levels,) * 2
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    w = z / torch.sqrt(z.square().mean(1, keepdim=True) + 1e-8)
    for k in range(2):
        f = made["mapping_fl_s"]
        w = lrelu(w @ f[f"map_blocks.{k}.fc.weight"].T + f[f"map_blocks.{k}.fc.bias"])
    assert torch.allclose(gan.generator.mapping(z), w[:, None].expand(-1, 2 * levels, -1), atol=1e-6)
    image = restated_image(made["generator_s"], w, levels)
    assert (gan.generator(z) - image).abs().max() < 2e-5 * image.abs().max().clamp_min(1)
    assert torch.equal(gan.autoencoder.decode(gan.generator.mapping(z)[:, 0]), gan.generator(z))
    code = restated_code(made["discriminator_s"], image, levels)
    assert torch.allclose(gan.autoencoder.encode(image), code, rtol=1e-4, atol=1e-4)
    head, h = made["mapping_tl_s"], code
    for k in range(3):
        h = h @ head[f"map_blocks.{k}.weight"].T + head[f"map_blocks.{k}.bias"]
    assert torch.allclose(gan.critic(image), h[:, 6], rtol=1e-4, atol=1e-4)


@pytest.fixture
def path(tmp_path):
    """A checkpoint of random weights."""
    return written(tmp_path / "model_final.pth", models())


def test_truncation_acts_on_the_first_styles(path):
    generator = regraft.load(written(path, models(levels=6))).generator
    z = generator.latent.at(0, range(2))
    w, mean = generator.mapping(z), generator.mapping.w_avg
    w = torch.cat([mean[:8] + 0.3 * (w[:, :8] - mean[:8]), w[:, 8:]], dim=1)
    assert torch.allclose(generator(z, psi=0.3), generator.synthesis(w), atol=1e-4)


def test_networks_share_their_memory_and_conversion_keeps_that(path, tmp_path):
    gan = regraft.load(path)
    again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
    for g in (gan, again):
        assert g.generator.synthesis.const.data_ptr() == g.autoencoder.decoder.const.data_ptr()
        assert g.critic.encoder.from_rgb.weight.data_ptr() == g.autoencoder.encoder.from_rgb.weight.data_ptr()
    assert tensor_digest(gan.generator, gan.critic, gan.autoencoder) == tensor_digest(
        again.generator, again.critic, again.autoencoder
    )
    assert torch.equal(gan.sample(3, 1), again.sample(3, 1))
    x = gan.sample(3, 1)
    assert torch.equal(gan.autoencoder.encode(x), again.autoencoder.encode(x))
    assert torch.equal(gan.autoencoder.mean_code, again.autoencoder.mean_code)


@pytest.mark.parametrize("same", [["x"], {"generator.a": "generator.b"}, {"generator.a": 3}])
def test_a_conversion_that_repeats_what_is_not_there_is_refused(path, tmp_path, same):
    record = regraft.convert(regraft.load(path), tmp_path / "converted") / "source.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"same": same}))
    with pytest.raises(SourceError, match="same must map"):
        regraft.load(record.parent)


def test_random_noise_is_one_map_per_row(path):
    generator = regraft.load(path).generator
    z = generator.latent.at(0, range(3))

    def rngs(rows):
        return [torch.Generator().manual_seed(k) for k in rows]

    whole = generator(z, noise="random", rng=rngs([0, 1, 2]))
    assert torch.allclose(whole[1:2], generator(z[1:2], noise="random", rng=rngs([1])), atol=1e-5)
    assert not torch.allclose(whole, generator(z, noise="none"), atol=1e-3)
    with pytest.raises(ConfigError, match="rng"):
        generator(z, noise="random")


def test_parts_that_may_be_absent(tmp_path):
    made = models()
    averaged = regraft.load(written(tmp_path / "a.pth", made))
    trained = {k.removesuffix("_s"): v for k, v in made.items()}
    plain = regraft.load(written(tmp_path / "b.pth", trained | {"generator_s": None}))
    assert tensor_digest(plain.generator) == tensor_digest(averaged.generator)
    assert any("as last trained" in note for note in plain.provenance.assumptions)
    other = models(seed=1)
    both = {k: v for k, v in other.items() if k.endswith("_s")} | trained
    assert tensor_digest(regraft.load(written(tmp_path / "c.pth", both)).generator) != tensor_digest(averaged.generator)

    alone = regraft.load(written(tmp_path / "d.pth", made | {"discriminator_s": None, "mapping_tl_s": None}))
    assert (alone.critic, alone.autoencoder) == (None, None)
    headless = regraft.load(written(tmp_path / "e.pth", made | {"mapping_tl_s": None}))
    assert headless.critic is None
    assert headless.autoencoder is not None


def test_a_missing_mean_style_is_measured(tmp_path):
    generator = regraft.load(written(tmp_path / "m.pth", models() | {"dlatent_avg": None})).generator
    wanted = generator.mapping(generator.latent.at(7, range(4096))).mean((0, 1))
    assert torch.allclose(generator.mapping.w_avg.mean(0), wanted, atol=0.03)


def changed(part, name, value):
    made = models()
    made[part][name] = value
    return made


def without(part, name):
    made = models()
    del made[part][name]
    return made


def wrong():
    ones = torch.ones(2, 2)
    yield "no generator", models() | {"generator_s": None}, "generator is absent"
    yield "no mapping", models() | {"mapping_fl_s": None}, "mapping_fl is absent"
    yield "another model", models() | {"style_net": {"x": ones}}, "style_net"
    yield "no state dict", models() | {"generator_s": [1, 2]}, "no state dict"
    yield "surplus", changed("generator_s", "extra.weight", ones), "generator_s: tensors not used: extra.weight"
    yield "another blur", changed("generator_s", "decode_block.0.blur.weight", torch.ones(8, 1, 3, 3) / 9), "is not the blur"
    yield "fully connected", models() | {"generator_s": {"layers.0.weight": ones}}, "fully connected"
    yield "missing", without("generator_s", "decode_block.1.bias_2"), "missing: synthesis.decode_block.1.bias_2"
    yield "no image layer", without("generator_s", "to_rgb.2.to_rgb.weight"), "to_rgb.weight is missing"


@pytest.mark.parametrize(("made", "message"), [w[1:] for w in wrong()], ids=[w[0] for w in wrong()])
def test_wrong_files_are_refused(tmp_path, made, message):
    with pytest.raises(SourceError, match=message):
        regraft.load(written(tmp_path / "m.pth", made))


def test_parts_that_are_wrong_are_left_out_alone(tmp_path):
    ones = torch.ones(2, 2)
    head = left_out(
        written(tmp_path / "head.pth", changed("mapping_tl_s", "extra.weight", ones)),
        "critic's head .*mapping_tl_s: tensors not used: extra.weight",
    )
    assert head.autoencoder is not None
    wrong = changed("discriminator_s", "encode_block.1.style_1.bias", ones)
    assert left_out(written(tmp_path / "encoder.pth", wrong), "encoder is left out.* wrong shape").autoencoder is None
    none = written(tmp_path / "list.pth", models() | {"discriminator_s": [1, 2]})
    assert left_out(none, "discriminator is left out: discriminator_s is no state dict").autoencoder is None


def test_a_wrong_mean_style_is_measured(tmp_path):
    gan = regraft.load(written(tmp_path / "m.pth", models() | {"dlatent_avg": {"buff": torch.ones(2, 2)}}))
    without = regraft.load(written(tmp_path / "none.pth", models() | {"dlatent_avg": None}))
    assert torch.equal(gan.generator.mapping.w_avg, without.generator.mapping.w_avg)
    assert gan.critic is not None
    said = " ".join(gan.provenance.assumptions)
    assert "buff has shape (2, 2), and must hold (6, 6)" in said
    assert "measured over 4096 latents" in said


def test_truncated_file(path):
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceError):
        regraft.load(path)


@pytest.mark.parametrize("method", ["freezed", "minegan", "transfergan"])
def test_methods_train_it(path, method):
    gan = regraft.load(path)
    plugin, images = find_plugin("methods", method), toy_images(size=16, channels=3)
    adaptation = plugin.attach([gan], images, parse(plugin.Config, {"steps": 2}, method), generator_at(0, "init"))
    loop = Loop(adaptation, images, Plan(observe_every=0), RunStore(None))
    loop.run()
    made = regraft.GAN(loop.generator().eval())
    assert torch.isfinite(made.sample(3)).all()
    assert not torch.equal(made.sample(3), gan.sample(3))


def test_constant_images_have_finite_second_derivatives(path):
    """The authors' standard deviations have infinite slopes there."""
    critic = regraft.load(path).critic.requires_grad_(True)
    x = torch.zeros(2, 3, 16, 16, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters() if p.grad is not None)
