"""BigGAN files of kinds that no fixture covers, against a plain restatement of the maths on the files' own names."""

import pytest
import torch
from torch.nn import functional as F

import regraft
from regraft.core.errors import SourceError
from support.biggan_files import critic_file, deep_files, generator_file, rand, save
from support.left_out import judged


def weight(t, name):
    w = t[f"{name}.weight"]
    if f"{name}.u0" not in t:
        return w
    m = w.reshape(len(w), -1)
    v = F.normalize(t[f"{name}.u0"] @ m)
    u = F.normalize(v @ m.T)
    return w / (v @ m.T @ u.T)


def conv(t, name, x):
    w = weight(t, name)
    return F.conv2d(x, w, t.get(f"{name}.bias"), padding=w.shape[2] // 2)


def attend(t, name, x):
    if f"{name}.gamma" not in t:
        return x
    n, _, h, w = x.shape
    q, k, v = conv(t, f"{name}.theta", x), F.max_pool2d(conv(t, f"{name}.phi", x), 2), F.max_pool2d(conv(t, f"{name}.g", x), 2)
    scores = torch.einsum("ncq,nck->nqk", q.flatten(2), k.flatten(2)).softmax(-1)
    mixed = torch.einsum("nck,nqk->ncq", v.flatten(2), scores).reshape(n, -1, h, w)
    return t[f"{name}.gamma"] * conv(t, f"{name}.o", mixed) + x


def normalise(t, name, x):
    for mean in (f"{name}.stored_mean", f"{name}.bn.stored_mean", f"{name}.bn.running_mean"):
        if mean in t:
            m, v = t[mean][:, None, None], t[mean.replace("mean", "var")][:, None, None]
            return (x - m) / (v + 1e-5).sqrt()
    raise KeyError(name)


def cbn(t, name, x, cond):
    if cond.dtype == torch.long:
        gain, bias = t[f"{name}.gain.weight"][cond], t[f"{name}.bias.weight"][cond]
    else:
        gain, bias = cond @ weight(t, f"{name}.gain").T, cond @ weight(t, f"{name}.bias").T
    return normalise(t, name, x) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


def up2(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def finish(t, h):
    h = normalise(t, "output_layer.0", h)
    h = h * t["output_layer.0.gain"][:, None, None] + t["output_layer.0.bias"][:, None, None]
    return conv(t, "output_layer.2", h.relu()).tanh()


def images_of(t, z, y, hier, shared):
    chunk = t["linear.weight"].shape[1]
    code = t["shared.weight"][y] if shared else y
    h = z[:, :chunk] @ weight(t, "linear").T + t["linear.bias"]
    h = h.view(len(z), -1, 4, 4)
    i = 0
    while f"blocks.{i}.0.conv1.weight" in t:
        name = f"blocks.{i}.0"
        cond = torch.cat([code, z[:, chunk * (i + 1) : chunk * (i + 2)]], 1) if hier else code
        r = conv(t, f"{name}.conv1", up2(cbn(t, f"{name}.bn1", h, cond).relu()))
        r = conv(t, f"{name}.conv2", cbn(t, f"{name}.bn2", r, cond).relu())
        h = attend(t, f"blocks.{i}.1", r + conv(t, f"{name}.conv_sc", up2(h)))
        i += 1
    return finish(t, h)


def head_scores(t, x, y):
    h = x.relu().sum((2, 3))
    score = h @ weight(t, "linear").T + t["linear.bias"]
    return score[:, 0] if y is None else score[:, 0] + (weight(t, "embed")[y] * h).sum(1)


def scores_of(t, x, y, down):
    for i, halve in enumerate(down):
        name = f"blocks.{i}.0"
        h = conv(t, f"{name}.conv1", x.relu() if i else x)
        h = conv(t, f"{name}.conv2", h.relu())
        if i == 0:
            x = conv(t, f"{name}.conv_sc", F.avg_pool2d(x, 2))
        elif f"{name}.conv_sc.weight" in t:
            x = conv(t, f"{name}.conv_sc", x)
        if halve:
            h = F.avg_pool2d(h, 2)
            x = F.avg_pool2d(x, 2) if i else x
        x = attend(t, f"blocks.{i}.1", h + x)
    return head_scores(t, x, y)


KINDS = {
    "128 shared hierarchical with attention": {"widths": (16, 16, 16, 8, 8, 8), "attention": (3,)},
    "tables in every norm": {"widths": (8, 8, 4), "hier": False, "shared": False},
    "shared, not hierarchical": {"widths": (8, 8, 4), "hier": False, "chunk": 7},
    "cross replica": {"widths": (8, 8, 4), "stats": "cross_replica"},
    "mybn": {"widths": (8, 8, 4), "stats": "mybn"},
    "no spectral norm": {"widths": (8, 8, 8), "spectral": False, "attention": (0,)},
    "no spectral norm, tables": {"widths": (8, 8, 8), "spectral": False, "hier": False, "shared": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_generators_equal_the_restatement(tmp_path, kind):
    settings = KINDS[kind]
    tensors = generator_file(**settings)
    gan = regraft.load(save(tmp_path / "big", G_ema=tensors))
    g = gan.generator
    assert g.size == (4 << len(settings["widths"]) - 1,) * 2
    assert gan.critic is None
    z, y = g.latent.at(0, range(3)), torch.tensor([2, 0, 3])
    hier, shared = settings.get("hier", True), settings.get("shared", True)
    with torch.no_grad():
        wanted = images_of(tensors, z, y, hier, shared)
    assert wanted.std() > 0.1
    assert wanted.abs().mean() < 0.8  # not saturated, where everything agrees
    assert (g(z, y) - wanted).abs().max() < 1e-5
    assert (g(z, y, psi=0.5) - images_of(tensors, z * 0.5, y, hier, shared)).abs().max() < 1e-5
    half = torch.nn.functional.one_hot(y, 4) * 1.0
    assert (g(z, g.embed(half)) - wanted).abs().max() < 1e-5


CRITICS = {
    "128": ((3, 4, 8, 8, 8, 16, 16), (1, 1, 1, 1, 1, 0), (1,), True, 128),
    "64, narrow": ((3, 4, 8, 16, 16, 24), (1, 1, 1, 1, 0), (1,), False, 64),
    "256": ((3, 2, 4, 8, 8, 8, 16, 16), (1, 1, 1, 1, 1, 1, 0), (), True, 256),
    "cifar 32": ((3, 8, 8, 8, 8), (1, 1, 0, 0), (0, 1), True, 32),
}


@pytest.mark.parametrize("kind", CRITICS)
def test_critics_equal_the_restatement(tmp_path, kind):
    widths, down, attention, wide, size = CRITICS[kind]
    generator = generator_file((8,) * (size.bit_length() - 2))
    critic = critic_file(widths, down, attention=attention, wide=wide)
    d = regraft.load(save(tmp_path / "big", G=generator, D=critic)).critic
    x, y = rand(2, 3, size, size), torch.tensor([1, 3])
    for labels in (y, None):
        assert torch.allclose(d(x, labels), scores_of(critic, x, labels, down), rtol=1e-4, atol=1e-4)
    assert [b.downsample for b in d.config.blocks] == [bool(k) for k in down]


def deep_images(t, z, y, stages):
    code = torch.cat([t["shared.weight"][y], z], 1)
    h = (code @ weight(t, "linear").T + t["linear.bias"]).view(len(z), -1, 4, 4)
    for i in range(2 * stages):
        name = f"blocks.{i}.0"
        r = conv(t, f"{name}.conv1", cbn(t, f"{name}.bn1", h, code).relu())
        r = cbn(t, f"{name}.bn2", r, code).relu()
        x = h[:, : len(t[f"{name}.conv4.weight"])]
        if i % 2:
            r, x = up2(r), up2(x)
        r = conv(t, f"{name}.conv2", r)
        r = conv(t, f"{name}.conv3", cbn(t, f"{name}.bn3", r, code).relu())
        h = attend(t, f"blocks.{i}.1", x + conv(t, f"{name}.conv4", cbn(t, f"{name}.bn4", r, code).relu()))
    return finish(t, h)


def deep_scores(t, x, y, halve):
    x = conv(t, "input_conv", x)
    for stage, down in enumerate(halve):
        for step in range(2):
            name = f"blocks.{stage}.{step}"
            h = conv(t, f"{name}.conv1", x.relu())
            for k in (2, 3):
                h = conv(t, f"{name}.conv{k}", h.relu())
            h = h.relu()
            if down and step == 0:
                h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
            if f"{name}.conv_sc.weight" in t:
                x = torch.cat([x, conv(t, f"{name}.conv_sc", x)], 1)
            x = conv(t, f"{name}.conv4", h) + x
        x = attend(t, f"blocks.{stage}.2", x)
    return head_scores(t, x, y)


@pytest.mark.parametrize("cifar", [False, True])
def test_deep_pair_equals_the_restatement(tmp_path, cifar):
    widths, critic_widths, halve = ((16,) * 4, (16,) * 4, (1, 1, 0)) if cifar else ((16, 16, 8), (4, 8, 16), (1, 1))
    generator, critic = deep_files(widths, critic_widths)
    gan = regraft.load(save(tmp_path / "deep", G_ema=generator, D=critic))
    assert regraft.inspect(gan)["backbone"] == "biggan_deep"
    z, y = gan.generator.latent.at(0, range(3)), torch.tensor([2, 0, 3])
    images = gan.generator(z, y)
    assert images.shape[2] == (32 if cifar else 16)
    assert (images - deep_images(generator, z, y, len(widths) - 1)).abs().max() < 1e-5
    x = rand(*images.shape)
    for labels in (y, None):
        assert torch.allclose(gan.critic(x, labels), deep_scores(critic, x, labels, halve), rtol=1e-4, atol=1e-4)


class TestFiles:
    def test_the_averaged_generator_and_its_critic_are_found(self, tmp_path):
        first, second = (generator_file((8, 8, 4)) for _ in range(2))
        critic = critic_file((3, 8, 8, 8), (1, 0, 0))
        folder = save(tmp_path / "run", G=first, G_ema=second, D=critic, G_optim={"state": {}}, G_best0=first, D_best0=critic)
        (folder / "state_dict.pth").write_bytes(b"\x80\x04N.")
        loaded = {
            name: regraft.load(folder / name) for name in (".", "G.pth", "G_ema.pth", "D.pth", "G_best0.pth", "D_best0.pth")
        }
        for name, gan in loaded.items():
            wanted = "G.pth" if name == "G.pth" else "G_best0.pth" if "best0" in name else "G_ema.pth"
            assert set(gan.provenance.files) == {wanted, "D_best0.pth" if "best0" in name else "D.pth"}, name
            assert gan.provenance.name == "run"
        z = loaded["."].generator.latent.at(0, range(2))
        y = torch.tensor([0, 1])
        assert not torch.equal(loaded["."].generator(z, y), loaded["G.pth"].generator(z, y))
        assert any("averaged" in note for note in loaded["G.pth"].provenance.assumptions)

    def test_wrapped_half_precision_legacy_files(self, tmp_path):
        tensors = generator_file((8, 8, 4))
        folder = save(tmp_path / "a", G=tensors)
        other = tmp_path / "b"
        other.mkdir()
        halved = {f"module.{k}": v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        torch.save(halved, other / "mine.pth", _use_new_zipfile_serialization=False)
        a, b = regraft.load(folder), regraft.load(other / "mine.pth")
        assert b.provenance.name == "mine"
        assert (a.sample(2) - b.sample(2)).abs().max() < 0.05

    def test_accumulated_statistics_are_averaged(self, tmp_path):
        tensors = generator_file((8, 8, 4), stats="mybn")
        summed = dict(tensors)
        for name in tensors:
            if name.endswith(("stored_mean", "stored_var")):
                summed[name] = tensors[name] * 8
            if name.endswith("accumulation_counter"):
                summed[name] = torch.tensor([8.0])
        a, b = (regraft.load(save(tmp_path / name, G=t)) for name, t in (("a", tensors), ("b", summed)))
        assert torch.allclose(a.sample(2), b.sample(2), atol=1e-6)
        assert sum("sums over 8 batches" in note for note in b.provenance.assumptions) == 1

    @pytest.mark.parametrize("deep", [False, True])
    def test_wrong_tensors_are_refused(self, tmp_path, deep):
        g, d = deep_files() if deep else (generator_file((8, 8, 4)), critic_file((3, 8, 8, 8), (1, 0, 0)))

        def attempt(name, generator, critic):
            judged(save(tmp_path / name, G=generator, D=critic), ".", generator is not g)

        for k, name in enumerate(
            n for n in g if not n.endswith((".sv0", "gamma", "output_layer.0.gain", "blocks.0.0.bn1.gain.weight"))
        ):
            if k % 7 == 0:
                attempt(f"g-missing-{k}", {n: v for n, v in g.items() if n != name}, d)
                attempt(f"g-shape-{k}", g | {name: rand(1, 2, 2)}, d)
        for k, name in enumerate(n for n in d if not n.endswith((".sv0", "gamma", "embed.weight"))):
            if k % 7 == 0:
                attempt(f"d-missing-{k}", g, {n: v for n, v in d.items() if n != name})
                attempt(f"d-shape-{k}", g, d | {name: rand(1, 2, 2)})
        attempt("surplus", g | {"blocks.0.0.conv9.weight": rand(1)}, d)
        attempt("surplus-d", g, d | {"extra": rand(1)})
        attempt("swapped", d, g)

    def test_truncated_files_and_lone_critics_are_refused(self, tmp_path):
        folder = save(tmp_path / "cut", G=generator_file((8, 8, 4)))
        data = (folder / "G.pth").read_bytes()
        (folder / "G.pth").write_bytes(data[: len(data) // 2])
        with pytest.raises(SourceError):
            regraft.load(folder)
        lone = save(tmp_path / "lone", D=critic_file((3, 8, 8, 8), (1, 0, 0)))
        with pytest.raises(SourceError, match="no G_ema.pth or G.pth"):
            regraft.load(lone / "D.pth")
