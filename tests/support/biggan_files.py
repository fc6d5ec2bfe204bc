"""Tiny BigGAN checkpoints of random weights: ajbrock's names and HuggingFace's."""

import json

import torch
from torch.nn import functional as F

rng = torch.Generator()


def rand(*shape):
    """Normal draws of the shared generator ``rng``."""
    return torch.randn(*shape, generator=rng)


class File:
    """A checkpoint of random weights under ajbrock's names."""

    def __init__(self, spectral=True, stats="stored"):
        self.spectral, self.stats, self.tensors = spectral, stats, {}

    def layer(self, name, *shape, bias=True, spectral=None):
        weight = rand(*shape)
        self.tensors[f"{name}.weight"] = weight * weight[0].numel() ** -0.5
        if bias:
            self.tensors[f"{name}.bias"] = rand(shape[0]) * 0.1
        if self.spectral if spectral is None else spectral:
            self.tensors[f"{name}.u0"] = F.normalize(rand(1, shape[0]))
            self.tensors[f"{name}.sv0"] = rand(1)

    def statistics(self, name, width):
        prefix = {"stored": name, "mybn": f"{name}.bn", "cross_replica": f"{name}.bn"}[self.stats]
        stem = "running" if self.stats == "cross_replica" else "stored"
        self.tensors[f"{prefix}.{stem}_mean"] = rand(width) * 0.3
        self.tensors[f"{prefix}.{stem}_var"] = rand(width).square() + 0.5
        if self.stats == "mybn":
            self.tensors[f"{prefix}.accumulation_counter"] = torch.zeros(1)
        if self.stats == "cross_replica":
            self.tensors[f"{prefix}.num_batches_tracked"] = torch.tensor(7)

    def norm(self, name, width, shared, cond):
        for part in ("gain", "bias"):
            self.layer(f"{name}.{part}", *((width, cond) if shared else (cond, width)), bias=False, spectral=shared and None)
            if not shared:
                self.tensors[f"{name}.{part}.weight"] *= 0.3
        self.statistics(name, width)

    def attention(self, name, width):
        for part, shape in (("theta", (width // 8, width)), ("phi", (width // 8, width)), ("g", (width // 2, width))):
            self.layer(f"{name}.{part}", *shape, 1, 1, bias=False)
        self.layer(f"{name}.o", width, width // 2, 1, 1, bias=False)
        self.tensors[f"{name}.gamma"] = torch.tensor(0.7)

    def exit(self, width, channels=3):
        self.tensors |= {"output_layer.0.gain": 1 + rand(width) * 0.1, "output_layer.0.bias": rand(width) * 0.1}
        self.statistics("output_layer.0", width)
        self.layer("output_layer.2", channels, width, 3, 3)


def generator_file(widths, n_classes=4, chunk=3, class_dim=5, hier=True, shared=True, attention=(), **kind):
    """``widths`` are the channels from the first map to the last."""
    f = File(**kind)
    cond = (class_dim + chunk * hier) if shared else n_classes
    f.layer("linear", 16 * widths[0], chunk)
    if shared:
        f.tensors["shared.weight"] = rand(n_classes, class_dim)
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        f.norm(f"blocks.{i}.0.bn1", a, shared, cond)
        f.norm(f"blocks.{i}.0.bn2", b, shared, cond)
        for part, shape in (("conv1", (b, a, 3, 3)), ("conv2", (b, b, 3, 3)), ("conv_sc", (b, a, 1, 1))):
            f.layer(f"blocks.{i}.0.{part}", *shape)
        if i in attention:
            f.attention(f"blocks.{i}.1", b)
    f.exit(widths[-1])
    return f.tensors


def critic_file(widths, down, n_classes=4, attention=(), wide=True):
    """A critic's tensors under the authors' names."""
    f = File()
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        hidden = b if wide else a
        f.layer(f"blocks.{i}.0.conv1", hidden, a, 3, 3)
        f.layer(f"blocks.{i}.0.conv2", b, hidden, 3, 3)
        if a != b or down[i]:
            f.layer(f"blocks.{i}.0.conv_sc", b, a, 1, 1)
        if i in attention:
            f.attention(f"blocks.{i}.1", b)
    f.layer("linear", 1, widths[-1])
    f.layer("embed", n_classes, widths[-1], bias=False)
    return f.tensors


def save(folder, **files):
    """Save state dicts as ``NAME.pth`` into a folder; return the folder."""
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        torch.save(tensors, folder / f"{name}.pth")
    return folder


def deep_files(widths=(16, 16, 8), critic_widths=(4, 8, 16), latent=6, class_dim=5, attention=0):
    """Tensors of a BigGAN-deep pair."""
    f = File()
    cond = latent + class_dim
    f.layer("linear", 16 * widths[0], cond)
    f.tensors["shared.weight"] = rand(4, class_dim)
    for stage, (a, b) in enumerate(zip(widths, widths[1:])):
        for step, out in enumerate((a, b)):
            i, h = 2 * stage + step, a // 4
            for k, (inputs, outputs, side) in enumerate(((a, h, 1), (h, h, 3), (h, h, 3), (h, out, 1)), 1):
                f.norm(f"blocks.{i}.0.bn{k}", inputs, True, cond)
                f.layer(f"blocks.{i}.0.conv{k}", outputs, inputs, side, side)
        if stage == attention:
            f.attention(f"blocks.{2 * stage + 1}.1", b)
    f.exit(widths[-1])
    d = File()
    d.layer("input_conv", critic_widths[0], 3, 3, 3)
    for stage, (a, b) in enumerate(zip(critic_widths, critic_widths[1:])):
        for step, inside in enumerate((a, b)):
            h, name = b // 4, f"blocks.{stage}.{step}"
            for k, (inputs, outputs, side) in enumerate(((inside, h, 1), (h, h, 3), (h, h, 3), (h, b, 1)), 1):
                d.layer(f"{name}.conv{k}", outputs, inputs, side, side)
            if inside != b:
                d.layer(f"{name}.conv_sc", b - inside, inside, 1, 1)
        if stage == attention:
            d.attention(f"blocks.{stage}.2", b)
    d.layer("linear", 1, critic_widths[-1])
    d.layer("embed", 4, critic_widths[-1], bias=False)
    return f.tensors, d.tensors


def hugging_face(folder, n_stats=6, drop=(), prefix="", **changed):
    """A tiny BigGAN-deep under HuggingFace's names: (F,4,4)(T,4,2)(T,2,1), attention before the last."""
    width, z, classes = 4, 6, 3
    t = {"embeddings.weight": rand(z, classes)}

    def layer(name, *shape, bias=True):
        t[f"{name}.weight_orig"] = rand(*shape)
        m = t[f"{name}.weight_orig"].flatten(1)
        u, _, v = torch.linalg.svd(m, full_matrices=False)
        t[f"{name}.weight_u"], t[f"{name}.weight_v"] = u[:, 0].clone(), v[0].clone()
        if bias:
            t[f"{name}.bias"] = rand(shape[0]) * 0.1

    def stats(name, channels):
        t[f"{name}.running_means"] = rand(n_stats, channels) * 0.3
        t[f"{name}.running_vars"] = rand(n_stats, channels).square() + 0.5

    layer("generator.gen_z", 16 * 4 * width, 2 * z)
    layers = [[False, 4, 4], [True, 4, 2], [True, 2, 1]]
    names = [0, 1, 3]
    for k, (_, a, b) in zip(names, layers):
        a, b, h = a * width, b * width, a * width // 4
        for i, (x, y, side) in enumerate(((a, h, 1), (h, h, 3), (h, h, 3), (h, b, 1))):
            layer(f"generator.layers.{k}.conv_{i}", y, x, side, side)
            stats(f"generator.layers.{k}.bn_{i}", x)
            for part in ("scale", "offset"):
                layer(f"generator.layers.{k}.bn_{i}.{part}", x, 2 * z, bias=False)
    wide = 2 * width
    for part, shape in (
        ("theta", (wide // 8, wide)),
        ("phi", (wide // 8, wide)),
        ("g", (wide // 2, wide)),
        ("o_conv", (wide, wide // 2)),
    ):
        layer(f"generator.layers.2.snconv1x1_{part}", *shape, 1, 1, bias=False)
    t["generator.layers.2.gamma"] = torch.tensor([0.5])
    t |= {"generator.bn.weight": 1 + rand(width) * 0.1, "generator.bn.bias": rand(width) * 0.1}
    stats("generator.bn", width)
    layer("generator.conv_to_rgb", width, width, 3, 3)
    config = {
        "output_dim": 16,
        "z_dim": z,
        "class_embed_dim": z,
        "channel_width": width,
        "num_classes": classes,
        "layers": layers,
        "attention_layer_position": 2,
        "eps": 1e-4,
        "n_stats": n_stats,
    } | changed
    folder.mkdir(exist_ok=True)
    for ending in drop:
        t = {k: v for k, v in t.items() if not k.endswith(ending)}
    torch.save(t, folder / f"{prefix}pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / f"{prefix}config.json").write_text(json.dumps(config))
    return t
