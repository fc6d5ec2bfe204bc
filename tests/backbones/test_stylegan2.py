"""StyleGAN2's networks against a plain restatement of their published equations, one image and one filter at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from regraft.backbones import _resample
from regraft.backbones._style import Dense, Mapping, minibatch_stddev
from regraft.backbones._style_config import StyleCriticConfig, StyleGAN2GeneratorConfig
from regraft.backbones._style_critic import StyleCritic
from regraft.backbones.stylegan2 import PLUGIN, Layer, StyleGAN2Generator, default_configs
from regraft.core.build import build_fresh, build_with
from regraft.core.config import parse
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import Description
from regraft.core.randomness import generator_at
from support.plugins import find_plugin
from support.toys import toy_images

FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def zeros_between(x):
    n, c, h, w = x.shape
    out = torch.zeros(n, c, 2 * h, 2 * w, dtype=x.dtype)
    out[:, :, ::2, ::2] = x
    return out


def fir(x, pads, gain=1.0):
    n, c, h, w = x.shape
    padded = F.pad(x, pads).flatten(0, 1)[:, None]
    return F.conv2d(padded, FIR[None, None].to(x) * gain).unflatten(0, (n, c))[:, :, 0]


def up(x):
    return fir(zeros_between(x), (2, 1, 2, 1), 4.0)


def down(x):
    return fir(x, (1, 1, 1, 1))[:, :, ::2, ::2]


def dense(x, t, key, lr=1.0, act=False):
    y = x @ (t[f"{key}.weight"] * lr / math.sqrt(x.shape[1])).T + t[f"{key}.bias"] * lr
    return F.leaky_relu(y, 0.2) * math.sqrt(2) if act else y


def pixel_norm(x):
    return x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-8)


def mapping(z, one_hot, t, prefix, layers, lr=0.01):
    parts = [] if z is None else [pixel_norm(z)]
    if one_hot is not None:
        parts.append(pixel_norm(dense(one_hot, t, f"{prefix}.embed")))
    x = torch.cat(parts, 1)
    for i in range(layers):
        x = dense(x, t, f"{prefix}.fc{i}", lr, act=True)
    return x


def clamp(x, limit):
    return x if limit is None else x.clamp(-limit, limit)


def layer(x, w, t, key, c, up2, noise, gain=1.0):
    s = dense(w, t, f"{key}.affine")
    rows = []
    for k in range(len(x)):
        weight = t[f"{key}.weight"] * (1 / math.sqrt(t[f"{key}.weight"][0].numel()) if c.scaled_demod else 1)
        weight = weight * s[k][None, :, None, None]
        weight = weight / torch.sqrt((weight**2).sum((1, 2, 3), keepdim=True) + 1e-8)
        if up2:
            row = fir(F.conv_transpose2d(x[k : k + 1], weight.transpose(0, 1), stride=2), (1, 1, 1, 1), 4.0)
        else:
            row = F.conv2d(x[k : k + 1], weight, padding=1)
        rows.append(row)
    y = torch.cat(rows)
    if noise is not None and c.use_noise:
        y = y + noise * t[f"{key}.noise_strength"]
    y = F.leaky_relu(y + t[f"{key}.bias"][None, :, None, None], 0.2) * math.sqrt(2) * gain
    return clamp(y, None if c.conv_clamp is None else c.conv_clamp * gain)


def generate(c, t, w, noise):
    """``noise`` gives the map of a layer's key."""
    row, x, img = 0, t["synthesis.b4.const"][None].repeat(len(w), 1, 1, 1), None
    for level in range(len(c.channels)):
        b = f"synthesis.b{4 << level}"
        residual = c.architecture == "resnet" and level > 0
        if residual:
            skip = up(F.conv2d(x, t[f"{b}.skip.weight"] / math.sqrt(x.shape[1]))) * math.sqrt(0.5)
        if level:
            x = layer(x, w[:, row], t, f"{b}.conv0", c, True, noise(f"{b}.conv0"))
            row += 1
        x = layer(x, w[:, row], t, f"{b}.conv1", c, False, noise(f"{b}.conv1"), math.sqrt(0.5) if residual else 1.0)
        row += 1
        x = x + skip if residual else x
        img = None if img is None else up(img)
        if f"{b}.torgb.weight" in t:
            s = dense(w[:, row], t, f"{b}.torgb.affine") / math.sqrt(x.shape[1])
            rgb = torch.stack([F.conv2d(x[k], t[f"{b}.torgb.weight"] * s[k][None, :, None, None]) for k in range(len(x))])
            rgb = clamp(rgb + t[f"{b}.torgb.bias"][None, :, None, None], c.conv_clamp)
            img = rgb if img is None else img + rgb
    return img


def d_conv(x, t, key, limit, gain=1.0, down2=False):
    weight = t[f"{key}.weight"] / math.sqrt(t[f"{key}.weight"][0].numel())
    if down2:
        y = F.conv2d(fir(x, (2, 2, 2, 2)), weight, stride=2)
    else:
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    y = F.leaky_relu(y + t[f"{key}.bias"][None, :, None, None], 0.2) * math.sqrt(2) * gain
    return clamp(y, None if limit is None else limit * gain)


def stddev(x, group, channels):
    """As published: group size divides the batch."""
    n, c, h, w = x.shape
    g = min(group, n) if group is not None else n
    y = x.reshape(g, -1, channels, c // channels, h, w)
    y = ((y - y.mean(0)) ** 2).mean(0)
    y = (y + 1e-8).sqrt().mean((2, 3, 4)).reshape(-1, channels, 1, 1).repeat(g, 1, h, w)
    return torch.cat([x, y], 1)


def criticise(c, t, img, one_hot):
    x = None
    for level in reversed(range(1, len(c.channels))):
        b = f"b{4 << level}"
        if f"{b}.fromrgb.weight" in t:
            y = d_conv(img, t, f"{b}.fromrgb", c.conv_clamp)
            x = y if x is None else x + y
            img = down(img)
        if c.architecture == "resnet":
            skip = F.conv2d(down(x), t[f"{b}.skip.weight"] / math.sqrt(x.shape[1])) * math.sqrt(0.5)
        gain = math.sqrt(0.5) if c.architecture == "resnet" else 1.0
        x = d_conv(x, t, f"{b}.conv0", c.conv_clamp)
        x = d_conv(x, t, f"{b}.conv1", c.conv_clamp, gain, down2=True)
        x = x + skip if c.architecture == "resnet" else x
    if c.architecture == "skip":
        x = x + d_conv(img, t, "b4.fromrgb", None)
    x = stddev(x, c.mbstd_group_size, c.mbstd_channels) if c.mbstd_channels else x
    x = d_conv(x, t, "b4.conv", c.conv_clamp).flatten(1)
    x = dense(dense(x, t, "b4.fc", act=True), t, "b4.out")
    if one_hot is None:
        return x[:, 0]
    return (x * mapping(None, one_hot, t, "mapping", c.mapping_layers, c.mapping_lr)).sum(1) / math.sqrt(c.cmap_dim)


def network(role, config, seed=3):
    """Fresh weights, and biases and noise strengths that are not zero."""
    made = build_fresh(Description("stylegan2", role, config.model_dump(mode="json")), seed).requires_grad_(False).eval()
    rng = torch.Generator().manual_seed(seed)
    for key, tensor in made.state_dict().items():
        if key.endswith(("bias", "noise_strength", "w_avg")):
            tensor += torch.randn(tensor.shape, generator=rng) * (10 if "fc" in key and "mapping" in key else 0.5)
    return made


GENERATORS = {
    "skip": {},
    "resnet": {"architecture": "resnet", "conv_clamp": 1.5},
    "orig": {"architecture": "orig", "img_channels": 1},
    "clamped": {"conv_clamp": 0.7},
    "silent": {"use_noise": False},
    "classes": {"c_dim": 4, "embed_features": 3, "layer_features": 9, "z_dim": 5},
    "rosinality": {"scaled_demod": True},
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_follows_its_equations(name):
    settings = {"z_dim": 8, "w_dim": 8, "img_resolution": 32, "channels": (10, 7, 6, 5), "mapping_layers": 3}
    c = StyleGAN2GeneratorConfig(**(settings | GENERATORS[name]))
    g = network("generator", c)
    assert isinstance(g, StyleGAN2Generator)
    t = g.state_dict()
    z, y = g.latent.at(0, range(3)), torch.tensor([3, 0, 2]) if c.c_dim else None
    one_hot = F.one_hot(y, c.c_dim).float() if c.c_dim else None
    w = mapping(z, one_hot, t, "mapping", 3)[:, None].repeat(1, c.num_ws, 1)
    assert torch.allclose(g.mapping(z, y), w, atol=1e-5)

    def stored(key):
        return t.get(f"{key}.noise_const")

    assert (g(z, y) - generate(c, t, w, stored)).abs().max() < 2e-5
    assert (g(z, y, noise="none") - generate(c, t, w, lambda key: None)).abs().max() < 2e-5
    truncated = t["mapping.w_avg"] + 0.3 * (w - t["mapping.w_avg"])
    assert (g(z, y, psi=0.3) - generate(c, t, truncated, stored)).abs().max() < 2e-5

    rng = torch.Generator().manual_seed(9)
    drawn = {}

    def random(key):
        return drawn.setdefault(key, torch.randn(3, 1, *[int(key.split(".")[1][1:])] * 2, generator=rng))

    expected = generate(c, t, w, random)
    assert (g(z, y, noise="random", rng=torch.Generator().manual_seed(9)) - expected).abs().max() < 2e-5
    different = (expected - g(z, y)).abs().max() > 0.05
    assert different == c.use_noise


@pytest.mark.parametrize("classes", [0, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"architecture": "skip", "conv_clamp": 0.5},
        {"architecture": "orig", "mbstd_group_size": None},
        {"mbstd_channels": 3, "mbstd_group_size": 2, "conv_clamp": 0.8, "img_channels": 1},
        {"mbstd_channels": 0},
    ],
    ids=["resnet", "skip", "orig", "groups", "plain"],
)
def test_critic_follows_its_equations(settings, classes):
    extra = {"c_dim": classes, "cmap_dim": 5, "mapping_layers": 2, "embed_features": 6} if classes else {}
    c = StyleCriticConfig(**({"img_resolution": 32, "channels": (9, 8, 7, 6)} | settings | extra))
    d = network("critic", c)
    assert isinstance(d, StyleCritic)
    t = d.state_dict()
    x = torch.randn(8, c.img_channels, 32, 32, generator=torch.Generator().manual_seed(0))
    every = torch.eye(classes) if classes else None
    for n in (8, 3, 1) if c.mbstd_group_size != 2 else (8, 2, 1):
        y = torch.arange(n) % classes if classes else None
        expected = criticise(c, t, x[:n], every[y] if classes else None)
        assert (d(x[:n], y) - expected).abs().max() < 2e-5
        if classes:
            means = torch.stack([criticise(c, t, x[:n], every[k].expand(n, -1)) for k in range(classes)]).mean(0)
            assert (d(x[:n]) - means).abs().max() < 2e-5
    assert d.batch_dependent == bool(c.mbstd_channels)


def test_minibatch_stddev_of_uneven_batches():
    """Image i is in group i mod the number of groups, as in even batches; no image is left alone."""
    x = torch.randn(7, 6, 4, 4)
    found = minibatch_stddev(x, 4, 2)
    assert torch.equal(found[:, :6], x)
    for k in range(2):
        assert torch.allclose(found[k::2], stddev(x[k::2], None, 2), atol=1e-6)
    assert torch.allclose(minibatch_stddev(x[:6], 3, 2), stddev(x[:6], 3, 2), atol=1e-6)


def test_resampling_and_modulation_have_exact_second_derivatives():
    x = torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True)
    for function in (lambda x: _resample.smooth(x, 2), _resample.double, _resample.halve):
        assert torch.autograd.gradcheck(function, (x,))
        assert torch.autograd.gradgradcheck(function, (x,))
    assert torch.allclose(_resample.double(x), up(x))
    assert torch.allclose(_resample.halve(x), down(x))
    c = StyleGAN2GeneratorConfig(w_dim=4, img_resolution=8, channels=(3, 2), conv_clamp=50.0)
    for doubles in (False, True):
        modulated = Layer(c, 3, 2, 8 if doubles else 4, doubles=doubles).double()
        modulated.initialise()
        modulated.noise_strength.data.fill_(0.3)
        w = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x, w: modulated(x, w, "const", None), (x, w))  # noqa: B023


def test_constants_made_in_inference_serve_training():
    _resample._kernel.cache_clear()
    with torch.inference_mode():
        _resample.double(torch.randn(1, 1, 4, 4))
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    _resample.double(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "size, width, generator, critic",
    # Configuration F at 1024 px: 30.37 million (mapping included) and 29.01 million.
    [(1024, 32768, 30_370_060, 29_012_513), (256, 32768, None, None), (256, 16384, None, None)],
)
def test_published_sizes_have_the_published_counts(size, width, generator, critic):
    configs = default_configs(size, 3, width=width)
    with torch.device("meta"):
        networks = PLUGIN.generator(configs[0]), PLUGIN.critic(configs[1])
    counts = [sum(p.numel() for p in n.parameters()) for n in networks]
    expected = [g_count(configs[0]), d_count(configs[1])]
    assert counts == expected
    assert generator is None or counts == [generator, critic]


def g_count(c):
    def styled(i, o, k):
        return 513 * i + o * i * k * k + o

    total = 8 * (512 * 512 + 512) + 16 * c.channels[0]
    for level, width in enumerate(c.channels):
        below = c.channels[level - 1]
        total += styled(width, width, 3) + 1 + styled(width, 3, 1) + ((styled(below, width, 3) + 1) if level else 0)
    return total


def d_count(c):
    total = c.channels[-1] * 4
    for level in range(1, len(c.channels)):
        width, below = c.channels[level], c.channels[level - 1]
        total += width * width * 9 + width + width * below * 9 + below + width * below
    first = c.channels[0]
    return total + first * (first + 1) * 9 + first + 16 * first * first + first + first + 1


def test_affine_layers_are_the_norms():
    g = network("generator", default_configs(16, 3, width=64, top_width=6, latent_dim=5)[0])
    assert len(g.norms) == 5 + 3
    assert all(isinstance(layer, Dense) and layer.weight.shape[1] == 5 for layer in g.norms)


def test_mapping_moves_a_hundred_times_slower_than_other_layers():
    """Adam moves stored values alike; the equalised learning rate makes the difference, so one step size serves all."""
    moved = []
    for lr in (0.01, 1.0):
        layer = Dense(64, 64, lr=lr)
        layer.initialise()
        before = layer(torch.eye(64)).detach()
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3, betas=(0.0, 0.99))
        layer(torch.randn(8, 64)).square().sum().backward()
        optimiser.step()
        moved.append((layer(torch.eye(64)).detach() - before).abs().mean())
    assert moved[0] / moved[1] == pytest.approx(0.01, rel=0.1)


def test_mean_style_is_measured_on_latents_of_a_fixed_seed():
    g = network("generator", default_configs(8, 3, width=32, top_width=4, latent_dim=6, mapping_layers=2)[0])
    before = g.mapping.w_avg.clone()
    g.measure_mean_style()
    after = g.mapping.w_avg.clone()
    assert not torch.equal(before, after)
    z = torch.randn(20000, 6, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(after, g.mapping(z)[:, 0].mean(0), atol=0.1)
    g.measure_mean_style()
    assert torch.equal(g.mapping.w_avg, after)


def test_wrong_settings_and_inputs_are_named():
    with pytest.raises(ConfigError, match="power of two"):
        parse(StyleGAN2GeneratorConfig, {"img_resolution": 24, "channels": [4, 4, 4]}, "test")
    with pytest.raises(ConfigError, match="must hold 3 widths"):
        parse(StyleCriticConfig, {"img_resolution": 16, "channels": [4, 4]}, "test")
    with pytest.raises(ConfigError, match="cmap_dim"):
        parse(StyleCriticConfig, {"img_resolution": 8, "channels": [4, 4], "c_dim": 3}, "test")
    with pytest.raises(ConfigError, match="does not divide"):
        parse(StyleCriticConfig, {"img_resolution": 8, "channels": [4, 4], "mbstd_channels": 3}, "test")
    with pytest.raises(ConfigError, match=r"8, 16, 32, ... 4096, not 48"):
        default_configs(48, 3)
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        default_configs(16, 4)
    g = network("generator", default_configs(8, 1, 3, width=32, top_width=4, latent_dim=4)[0])
    with pytest.raises(MissingCapability, match="conditional"):
        g(g.latent.at(0, range(2)))
    with pytest.raises(ConfigError, match="needs rng"):
        g(g.latent.at(0, range(2)), torch.tensor([0, 1]), noise="random")


def test_mapping_without_layers_is_the_normalised_input():
    m = Mapping(4, 0, 4, 2, layers=0)
    z = torch.randn(3, 4)
    assert torch.allclose(m(z), pixel_norm(z)[:, None].expand(-1, 2, -1))


def test_random_noise_of_a_row_does_not_depend_on_its_mates():
    g = network("generator", default_configs(8, 3, width=32, top_width=4, latent_dim=4)[0])
    z = g.latent.at(0, range(3))
    rngs = [torch.Generator().manual_seed(k) for k in range(3)]
    whole = g(z, noise="random", rng=rngs)
    alone = g(z[2:], noise="random", rng=[torch.Generator().manual_seed(2)])
    assert (whole[2:] - alone).abs().max() < 1e-5
    built = build_with(g.describe(), g.state_dict(), "test")
    assert torch.equal(built(z), g(z))


def test_family_recipe_follows_the_size():
    family = find_plugin("backbones", "stylegan2")
    objective, recipe = family.training(256)
    assert (objective, recipe) == (family.objective, family.recipe)
    assert family.training(32)[0].penalty_weight == family.objective.penalty_weight
    large, slow = family.training(1024)
    assert (slow.batch, slow.generator_lr) == (4, 2e-3)
    assert large.penalty_weight == pytest.approx(2e-4 * 1024**2 / 4, rel=1e-3)
    assert (large.penalty_every, large.path_length_weight, large.path_length_every) == (16, 2.0, 4)
    scratch = find_plugin("methods", "scratch")
    smallest = {k: v for k, v in family.smallest.items() if k != "size"}
    given = {"steps": 2, "size": 8, "channels": 1, "backbone": "stylegan2", "backbone_settings": smallest}
    config = parse(scratch.Config, given, "scratch")
    adaptation = scratch.attach([], toy_images(), config, generator_at(0, "init"))
    assert "path_length" in [u.name for u in adaptation.phases[0].updates]
