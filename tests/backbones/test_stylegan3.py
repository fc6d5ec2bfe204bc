"""StyleGAN3 against a plain restatement of its maths."""

import math

import pytest
import torch
from torch.nn import functional as F

from regraft.core.build import build
from regraft.core.errors import ConfigError
from regraft.core.networks import Description
from support.plugins import find_plugin
from support.signals import convolve, sparse
from support.toys import toy_gan


def restated(g, z, y=None, psi=1.0):
    """Images of a generator, from its tensors and settings by the paper's formulas, a kernel per image."""
    c, t = g.config, g.state_dict()

    def dense(x, name, lr=1.0):
        weight = t[f"{name}.weight"]
        return x @ (weight * (lr / math.sqrt(weight.shape[1]))).t() + t[f"{name}.bias"] * lr

    def unit(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    w = unit(z)
    if c.c_dim:
        w = torch.cat([w, unit(dense(F.one_hot(y, c.c_dim).float(), "mapping.embed"))], 1)
    for i in range(c.mapping_layers):
        w = F.leaky_relu(dense(w, f"mapping.fc{i}", c.mapping_lr), 0.2) * math.sqrt(2)
    w = t["mapping.w_avg"] + psi * (w - t["mapping.w_avg"])
    half = c.img_resolution / 2
    geometry = []
    for i in range(c.num_layers + 1):
        e = min(i / (c.num_layers - c.num_critical), 1)
        f_c = 2 * (half / 2) ** e
        f_t = 2**2.1 * (half * 2**0.3 / 2**2.1) ** e
        s = 2 ** math.ceil(math.log2(min(2 * f_t, c.img_resolution)))
        geometry.append((f_c, s, c.img_resolution if i >= c.num_layers - 1 else s + 20))
    f_c, s, size = geometry[0]
    u = dense(w, "synthesis.input.affine")
    u = u / u[:, :2].norm(dim=1, keepdim=True)
    images = []
    for row in range(len(z)):
        a, b, dx, dy = u[row].tolist()
        turn = torch.tensor([[a, -b, 0], [b, a, 0], [0, 0, 1.0]])
        move = torch.tensor([[1, 0, -dx], [0, 1, -dy], [0, 0, 1.0]])
        m = turn @ move @ t["synthesis.input.transform"]
        freqs = t["synthesis.input.freqs"] @ m[:2, :2]
        phases = t["synthesis.input.phases"] + t["synthesis.input.freqs"] @ m[:2, 2]
        fade = (1 - (freqs.norm(dim=1) - f_c) / (s / 2 - f_c)).clamp(0, 1)
        grid = F.affine_grid(
            torch.tensor([[[0.5 * size / s, 0, 0], [0, 0.5 * size / s, 0]]]), [1, 1, size, size], align_corners=False
        )
        x = torch.sin(2 * math.pi * (grid[0] @ freqs.t() + phases)) * fade
        x = (x @ t["synthesis.input.weight"].t() / math.sqrt(len(freqs))).permute(2, 0, 1)[None]
        for i in range(c.num_layers + 1):
            _, s_in, size_in = geometry[max(i - 1, 0)]
            _, s_out, size_out = geometry[i]
            last = i == c.num_layers
            name = f"synthesis.L{i}_{size_out}_{c.img_channels if last else c.channels[i]}"
            weight, style = t[f"{name}.weight"], dense(w[row : row + 1], f"{name}.affine")[0]
            k = weight.shape[-1]
            kernel = weight * style[:, None, None] / (math.sqrt(weight.shape[1]) if last else 1)
            if not last:
                kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            x = F.conv2d(x, kernel / t[f"{name}.magnitude_ema"].sqrt(), t[f"{name}.bias"], padding=k - 1)
            fine = max(s_in, s_out) * (1 if last else 2)
            up, down = fine // s_in, fine // s_out
            fu, fd = t.get(f"{name}.up_filter"), t.get(f"{name}.down_filter")
            assert (fu is None, fd is None) == (up == 1 or last, down == 1 or last)
            total = (size_out - 1) * down + 1 - (size_in + k - 1) * up + (1 if fu is None else len(fu))
            total += (1 if fd is None else len(fd)) - 2
            low = (total + up) // 2
            x = F.pad(sparse(x, up), (low, total - low, low, total - low))
            x = x if fu is None else convolve(x, fu) * up**2
            x = x if last else F.leaky_relu(x, 0.2) * math.sqrt(2)
            x = x.clamp(-256, 256)
            x = x if fd is None else convolve(x, fd, stride=down)
        images.append(x * 0.25)
    return torch.cat(images)


@pytest.mark.parametrize("kind", ["t", "r"])
@pytest.mark.parametrize("classes", [0, 3])
def test_generator_equals_the_formulas(kind, classes):
    settings = {"kind": kind, "width": 128, "top_width": 8, "latent_dim": 6, "layers": 5}
    g = toy_gan("stylegan3", size=32, channels=3, n_classes=classes, **settings).generator
    torch.manual_seed(0)
    for name, value in g.state_dict().items():
        if name.endswith((".bias", "w_avg", "affine.weight")):
            value.add_(torch.randn_like(value) * 0.3)
        if name.endswith("magnitude_ema"):
            value.fill_(1.7)
        if name.endswith("transform"):
            value.copy_(torch.tensor([[0.8, -0.6, 0.1], [0.6, 0.8, -0.2], [0, 0, 1.0]]))
    radial = [n for n, v in g.state_dict().items() if n.endswith("down_filter") and v.dim() == 2]
    assert len(radial) == (3 if kind == "r" else 0)
    z, y = torch.randn(3, 6), torch.tensor([0, 2, 1]) if classes else None
    for psi in (1.0, 0.6):
        assert (g(z, y, psi=psi) - restated(g, z, y, psi)).abs().max() < 2e-5


@pytest.mark.parametrize(
    ("kind", "size", "first", "last", "num"),
    [("t", 1024, "L0_36_512", "L14_1024_3", 22.3e6), ("r", 1024, "L0_36_1024", "L14_1024_3", 15.8e6)],
)
def test_published_sizes(kind, size, first, last, num):
    """Layer names of the published networks; parameters in millions as in the paper's table."""
    generator, _ = find_plugin("backbones", "stylegan3").default_configs(size, 3, kind=kind)
    with torch.device("meta"):
        network = build(Description("stylegan3", "generator", generator.model_dump(mode="json")))
    assert network.synthesis.names[0] == first
    assert network.synthesis.names[-1] == last
    count = sum(p.numel() for p in network.parameters())
    assert count == pytest.approx(num, rel=0.05)


def test_moving_the_waves_moves_the_image():
    """What the network is for: a shift of the input by whole pixels is a shift of the image, up to the margin's effects."""
    g = toy_gan("stylegan3", size=32, channels=3, width=512, top_width=16, latent_dim=8, layers=5).generator
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    still = g(z)
    g.synthesis.input.transform[0, 2] = 4 / 32
    moved = g(z)
    error = (moved[..., :-4] - still[..., 4:]).square().mean() / still.square().mean()
    assert error < 0.01


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [(24, {}, "24"), (32, {"kind": "x"}, "kind t or r"), (32, {"layers": 2}, "num_layers"), (8192, {}, "8192")],
)
def test_impossible_settings(size, settings, message):
    with pytest.raises(ConfigError, match=message):
        find_plugin("backbones", "stylegan3").default_configs(size, 3, **settings)
