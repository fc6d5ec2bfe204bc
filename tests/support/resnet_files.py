"""Random checkpoints of mimicry, StudioGAN and pytorch_GAN_zoo in their authors' keys, and their maths written out plainly."""

import math

import torch
from torch.nn import functional as F


class Keys(dict):
    """Tensors under construction."""

    def __init__(self, seed=0):
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)

    def draw(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(*shape, generator=self.rng) * scale + shift

    def weight(self, name, *shape, sn=None, bias=True):
        weight = self.draw(*shape, scale=math.prod(shape[1:]) ** -0.5 * 1.2)
        rows = weight.flatten(1)
        u = F.normalize(rows @ F.normalize(self.draw(rows.shape[1]), dim=0), dim=0)
        if sn == "torch":
            self[f"{name}.weight_orig"], self[f"{name}.weight_u"] = weight, u
            # Not converged, and not what u gives: stored sigma and a fresh one differ.
            self[f"{name}.weight_v"] = F.normalize(u @ rows + 0.1 * self.draw(rows.shape[1]), dim=0)
        else:
            self[f"{name}.weight"] = weight
            if sn == "own":
                self[f"{name}.sn_u"], self[f"{name}.sn_sigma"] = u[None], torch.ones(1)
        if bias:
            self[f"{name}.bias"] = self.draw(shape[0], scale=0.2)

    def norm(self, name, channels, affine=True):
        self[f"{name}.running_mean"] = self.draw(channels, scale=0.3)
        self[f"{name}.running_var"] = torch.rand(channels, generator=self.rng) + 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
        if affine:
            self[f"{name}.weight"], self[f"{name}.bias"] = self.draw(channels, scale=0.1, shift=1.0), self.draw(channels)


def w(t, name):
    """A layer's weight over its sigma."""
    if f"{name}.weight_orig" in t:
        weight, u, v = (t[f"{name}.weight_{k}"] for k in ("orig", "u", "v"))
        return weight / (u @ weight.flatten(1) @ v)
    weight = t[f"{name}.weight"]
    if f"{name}.sn_u" in t:
        rows = weight.flatten(1)
        v = F.normalize(t[f"{name}.sn_u"] @ rows)
        u = F.normalize(v @ rows.t())
        return weight / (v @ rows.t() @ u.t())
    return weight


def conv(t, name, x):
    """A convolution."""
    weight = w(t, name)
    return F.conv2d(x, weight, t.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def linear(t, name, x):
    """A linear layer."""
    return F.linear(x, w(t, name), t.get(f"{name}.bias"))


def bn(t, name, x, eps):
    """Batch normalisation by stored statistics."""
    mean, var = t[f"{name}.running_mean"], t[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, t.get(f"{name}.weight"), t.get(f"{name}.bias"), eps=eps)


def attend(t, prefix, out, strength, x):
    """Self-attention."""
    n, _, height, width = x.shape
    theta, phi, g = (conv(t, f"{prefix}{k}", x) for k in ("theta", "phi", "g"))
    phi, g = F.max_pool2d(phi, 2).flatten(2), F.max_pool2d(g, 2).flatten(2)
    beta = F.softmax(torch.einsum("nkq,nkp->nqp", theta.flatten(2), phi), dim=2)
    seen = torch.einsum("ncp,nqp->ncq", g, beta).reshape(n, -1, height, width)
    return x + t[strength] * conv(t, f"{prefix}{out}", seen)


def close(found, wanted, tolerance=1e-5):
    """Assert that two tensors agree."""
    assert found.shape == wanted.shape
    assert wanted.std() > 1e-3
    assert (found - wanted).abs().max() <= tolerance * max(1.0, wanted.abs().max().item())


def latents(n, dim):
    """Latents (n, dim)."""
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(9))


def pictures(n, side, channels=3):
    """Random images."""
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(8)) * 2 - 1


# ------------------------------------------------------------------------------------------------------------ mimicry


def mimicry_generator(widths, bottom=4, latent=5, n_classes=0, sn=None, attention=None, channels=3, seed=0):
    """Tensors of mimicry's generators."""
    t = Keys(seed)
    t.weight("l1", widths[0] * bottom * bottom, latent, sn=sn)
    for k, (a, b) in enumerate(zip(widths[:-1], widths[1:]), start=2):
        for c, i, o in (("c1", a, b), ("c2", b, b)):
            t.weight(f"block{k}.{c}", o, i, 3, 3, sn=sn)
        t.weight(f"block{k}.c_sc", b, a, 1, 1, sn=sn)
        for j, width in ((1, a), (2, b)):
            if n_classes:
                t.norm(f"block{k}.b{j}.bn", width, affine=False)
                t[f"block{k}.b{j}.embed.weight"] = t.draw(n_classes, 2 * width)
            else:
                t.norm(f"block{k}.b{j}", width)
    if attention:
        mimicry_attention(t, attention)
    t.norm(f"b{len(widths) + 1}", widths[-1])
    t.weight(f"c{len(widths) + 1}", channels, widths[-1], 3, 3, sn=sn)
    return t


def mimicry_attention(t, width):
    """Self-attention of mimicry."""
    for name, o, i in (("theta", width // 8, width), ("phi", width // 8, width), ("g", width // 2, width)):
        t.weight(f"attn_block.{name}", o, i, 1, 1, sn="torch", bias=False)
    t.weight("attn_block.o", width, width // 2, 1, 1, sn="torch", bias=False)
    t["attn_block.gamma"] = torch.tensor(0.7)


def mimicry_images(t, z, y=None, attention_after=None):
    """Images of a generator, written out."""
    blocks = sorted(int(n[5:-10]) for n in t if n.startswith("block") and n.endswith(".c_sc.bias"))
    h = linear(t, "l1", z)
    width = w(t, "block2.c1").shape[1]
    side = int((h.shape[1] / width) ** 0.5)
    h = h.reshape(len(z), width, side, side)

    def normed(name, x):
        if f"{name}.embed.weight" not in t:
            return bn(t, name, x, 1e-5)
        gamma, beta = t[f"{name}.embed.weight"][y].chunk(2, dim=1)
        return gamma[:, :, None, None] * bn(t, f"{name}.bn", x, 1e-5) + beta[:, :, None, None]

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    for k in blocks:
        r = conv(t, f"block{k}.c1", up(F.relu(normed(f"block{k}.b1", h))))
        r = conv(t, f"block{k}.c2", F.relu(normed(f"block{k}.b2", r)))
        h = r + conv(t, f"block{k}.c_sc", up(h))
        if k == attention_after:
            h = attend(t, "attn_block.", "o", "attn_block.gamma", h)
    end = blocks[-1] + 1
    return torch.tanh(conv(t, f"c{end}", F.relu(bn(t, f"b{end}", h, 1e-5))))


def mimicry_critic(widths, shortcuts, score, sn="torch", head_sn="torch", n_classes=0, attention=None, names=None, seed=1):
    """``shortcuts``: whether each block has a convolution there."""
    t = Keys(seed)
    inputs = 3
    for k, (width, shortcut) in enumerate(zip(widths, shortcuts)):
        name = names[k] if names else f"block{k + 1}"
        hidden = inputs if k else width
        t.weight(f"{name}.c1", hidden, inputs, 3, 3, sn=sn)
        t.weight(f"{name}.c2", width, hidden, 3, 3, sn=sn)
        if shortcut:
            t.weight(f"{name}.c_sc", width, inputs, 1, 1, sn=sn)
        inputs = width
    t.weight(score, 1, widths[-1], sn=head_sn)
    if n_classes:
        t.weight("l_y", n_classes, widths[-1], sn=head_sn, bias=False)
    if attention:
        mimicry_attention(t, attention)
    return t


def mimicry_scores(t, x, downs, score, y=None, mean=False, attention_after=None, names=None):
    """Scores of a critic, written out."""
    h = x
    for k, down in enumerate(downs, start=1):
        name = names[k - 1] if names else f"block{k}"
        if k == 1:
            r = F.avg_pool2d(conv(t, f"{name}.c2", F.relu(conv(t, f"{name}.c1", h))), 2)
            h = r + conv(t, f"{name}.c_sc", F.avg_pool2d(h, 2))
        else:
            h = F.relu(h)
            r = conv(t, f"{name}.c2", F.relu(conv(t, f"{name}.c1", h)))
            s = conv(t, f"{name}.c_sc", h) if f"{name}.c_sc.bias" in t else h
            h = F.avg_pool2d(r, 2) + F.avg_pool2d(s, 2) if down else r + s
        if k == attention_after:
            h = attend(t, "attn_block.", "o", "attn_block.gamma", h)
    h = F.relu(h)
    h = h.mean((2, 3)) if mean else h.sum((2, 3))
    scores = linear(t, score, h)[:, 0]
    return scores if y is None else scores + (w(t, "l_y")[y] * h).sum(1)


def mimicry_file(path, tensors, step=100):
    """A checkpoint in the form of mimicry."""
    torch.save({"model_state_dict": dict(tensors), "optimizer_state_dict": {}, "global_step": step}, path)


def pair(folder, generator, critic=None, step=100):
    """Write generator and critic of a run; return the path."""
    mimicry_file(folder / f"netG_{step}_steps.pth", generator, step)
    if critic is not None:
        mimicry_file(folder / f"netD_{step}_steps.pth", critic, step)
    return folder / f"netG_{step}_steps.pth"


# ---------------------------------------------------------------------------------------------------------- StudioGAN


def studio_attention(t, name, width, sn):
    """Tensors of self-attention."""
    for leaf, o, i in (("theta", width // 8, width), ("phi", width // 8, width), ("g", width // 2, width)):
        t.weight(f"{name}.conv1x1_{leaf}", o, i, 1, 1, sn=sn, bias=False)
    t.weight(f"{name}.conv1x1_attn", width, width // 2, 1, 1, sn=sn, bias=False)
    t[f"{name}.sigma"] = torch.tensor([0.6])


def studio_generator(widths, inputs, sn=None, code=0, shared=None, attention_after=None, seed=0):
    """``code``: what conditional norms take; ``shared``: (classes, width) of the class embedding."""
    t = Keys(seed)
    t.weight("linear0", widths[0] * 16, inputs, sn=sn)
    if shared:
        t["shared.weight"] = t.draw(*shared)
    entry = 0
    for k, (a, b) in enumerate(zip(widths[:-1], widths[1:])):
        name = f"blocks.{entry}.0"
        for c, o, i, s in (("conv2d0", b, a, 1), ("conv2d1", b, a, 3), ("conv2d2", b, b, 3)):
            t.weight(f"{name}.{c}", o, i, s, s, sn=sn)
        for j, width in ((1, a), (2, b)):
            if code:
                t.norm(f"{name}.bn{j}.bn", width, affine=False)
                t.weight(f"{name}.bn{j}.gain", width, code, sn=sn, bias=False)
                t.weight(f"{name}.bn{j}.bias", width, code, sn=sn, bias=False)
            else:
                t.norm(f"{name}.bn{j}", width)
        entry += 1
        if k == attention_after:
            studio_attention(t, f"blocks.{entry}.0", b, sn)
            entry += 1
    t.norm("bn4", widths[-1])
    t.weight("conv2d5", 3, widths[-1], 3, 3, sn=sn)
    return t


def studio_entries(t):
    """Numbers of the blocks."""
    return range(1 + max(int(n.split(".")[1]) for n in t if n.startswith("blocks.")))


def studio_images(t, z, codes):
    """``codes``: what the norms of each residual block get, or None."""
    width = w(t, "blocks.0.0.conv2d1").shape[1]
    h = linear(t, "linear0", z).reshape(len(z), width, 4, 4)
    codes = list(codes)

    def normed(name, x, code):
        if code is None:
            return bn(t, name, x, 1e-4)
        gain, bias = linear(t, f"{name}.gain", code), linear(t, f"{name}.bias", code)
        return bn(t, f"{name}.bn", x, 1e-4) * (1 + gain)[:, :, None, None] + bias[:, :, None, None]

    for k in studio_entries(t):
        name = f"blocks.{k}.0"
        if f"{name}.sigma" in t:
            h = attend(t, f"{name}.conv1x1_", "attn", f"{name}.sigma", h)
            continue
        code = codes.pop(0)
        r = F.interpolate(F.relu(normed(f"{name}.bn1", h, code)), scale_factor=2)
        r = F.relu(normed(f"{name}.bn2", conv(t, f"{name}.conv2d1", r), code))
        h = conv(t, f"{name}.conv2d2", r) + conv(t, f"{name}.conv2d0", F.interpolate(h, scale_factor=2))
    return torch.tanh(conv(t, "conv2d5", F.relu(bn(t, "bn4", h, 1e-4))))


def studio_critic(widths, shortcuts, sn="torch", n_classes=0, head="embedding", attention_after=None, seed=1):
    """Tensors of StudioGAN's critics."""
    t = Keys(seed)
    inputs, entry = 3, 0
    for k, (width, shortcut) in enumerate(zip(widths, shortcuts)):
        name = f"blocks.{entry}.0"
        t.weight(f"{name}.conv2d1", width, inputs, 3, 3, sn=sn)
        t.weight(f"{name}.conv2d2", width, width, 3, 3, sn=sn)
        if shortcut:
            t.weight(f"{name}.conv2d0", width, inputs, 1, 1, sn=sn)
        if sn is None:
            if shortcut:
                t.norm(f"{name}.bn0", inputs)
            t.norm(f"{name}.bn1", inputs if k else width)
            if k:
                t.norm(f"{name}.bn2", width)
        inputs = width
        entry += 1
        if k == attention_after:
            studio_attention(t, f"blocks.{entry}.0", width, sn)
            entry += 1
    t.weight("linear1", 1, widths[-1], sn=sn)
    if n_classes:
        t.weight(head, n_classes, widths[-1], sn=sn, bias=False)
    return t


def studio_features(t, x, downs):
    """Features of a critic, written out."""
    h, downs = x, list(downs)
    normed = "blocks.0.0.bn1.running_mean" in t
    for k in studio_entries(t):
        name = f"blocks.{k}.0"
        if f"{name}.sigma" in t:
            h = attend(t, f"{name}.conv1x1_", "attn", f"{name}.sigma", h)
            continue
        down = downs.pop(0)
        pool = (lambda a: F.avg_pool2d(a, 2)) if down else (lambda a: a)

        def n(leaf, a, name=name):
            return bn(t, f"{name}.{leaf}", a, 1e-4) if normed else a

        if k == 0:
            r = conv(t, f"{name}.conv2d2", F.relu(n("bn1", conv(t, f"{name}.conv2d1", h))))
            h = pool(r) + conv(t, f"{name}.conv2d0", n("bn0", pool(h)))
            continue
        s = h if normed else F.relu(h)
        r = conv(t, f"{name}.conv2d1", F.relu(n("bn1", h)))
        r = conv(t, f"{name}.conv2d2", F.relu(n("bn2", r)))
        if f"{name}.conv2d0.bias" in t:
            s = conv(t, f"{name}.conv2d0", n("bn0", s))
        h = pool(r) + pool(s)
    return F.relu(h).sum((2, 3))


def studio_run(folder, generator, critic, step=200, kind="best"):
    """Write the folder of a run."""
    torch.save({"state_dict": dict(generator)}, folder / f"model=G_ema-{kind}-weights-step={step}.pth")
    extra = {"seed": 0, "step": step, "best_fid": 9.0, "aa_p": None}
    torch.save({"state_dict": dict(critic), "optimizer": {}} | extra, folder / f"model=D-{kind}-weights-step={step}.pth")


# ------------------------------------------------------------------------------------------------------------ GAN zoo


def zoo_progan(widths, inputs, decisions=1, channels=3, seed=0):
    """Generator and critic; every layer's keys carry ``.module``."""
    g, d = Keys(seed), Keys(seed + 1)
    g.weight("formatLayer.module", 16 * widths[0], inputs)
    g.weight("groupScale0.0.module", widths[0], widths[0], 3, 3)
    d.weight("groupScaleZero.0.module", widths[0], widths[0] + 1, 3, 3)
    d.weight("groupScaleZero.1.module", widths[0], 16 * widths[0])
    d.weight("decisionLayer.module", decisions, widths[0])
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:])):
        g.weight(f"scaleLayers.{i}.0.module", b, a, 3, 3)
        g.weight(f"scaleLayers.{i}.1.module", b, b, 3, 3)
        d.weight(f"scaleLayers.{i}.0.module", b, b, 3, 3)
        d.weight(f"scaleLayers.{i}.1.module", a, b, 3, 3)
    for i, width in enumerate(widths):
        g.weight(f"toRGBLayers.{i}.module", channels, width, 1, 1)
        d.weight(f"fromRGBLayers.{i}.module", width, channels, 1, 1)
    for t in (g, d):
        for name in t:
            t[name] = t[name] * 3  # equalised layers hold weights of order one
    return g, d


def equalised(t, name, x):
    """A layer with an equalised learning rate."""
    weight, bias = t[f"{name}.module.weight"], t[f"{name}.module.bias"]
    scale = math.sqrt(2 / weight[0].numel())
    if weight.dim() == 2:
        return (x @ weight.t() + bias) * scale
    return (F.conv2d(x, weight, padding=weight.shape[-1] // 2) + bias[:, None, None]) * scale


def progan_images(t, z, alpha):
    """Images of a progressive generator, written out."""

    def pn(x):
        return x / torch.sqrt((x**2).mean(dim=1, keepdim=True) + 1e-8)

    def step(name, x):
        return pn(F.leaky_relu(equalised(t, name, x), 0.2))

    x = F.leaky_relu(equalised(t, "formatLayer", pn(z)), 0.2).reshape(len(z), -1, 4, 4)
    x = step("groupScale0.0", pn(x))
    last = max(int(n.split(".")[1]) for n in t if n.startswith("toRGB"))
    older = x
    for i in range(last):
        older = x
        x = step(f"scaleLayers.{i}.1", step(f"scaleLayers.{i}.0", F.interpolate(x, scale_factor=2)))
    new = equalised(t, f"toRGBLayers.{last}", x)
    if not alpha:
        return new
    return alpha * F.interpolate(equalised(t, f"toRGBLayers.{last - 1}", older), scale_factor=2) + (1 - alpha) * new


def progan_outputs(t, x, alpha):
    """Outputs of a progressive critic, written out."""
    last = max(int(n.split(".")[1]) for n in t if n.startswith("fromRGB"))
    h = F.leaky_relu(equalised(t, f"fromRGBLayers.{last}", x), 0.2)
    for i in reversed(range(last)):
        for k in (0, 1):
            h = F.leaky_relu(equalised(t, f"scaleLayers.{i}.{k}", h), 0.2)
        h = F.avg_pool2d(h, 2)
        if i == last - 1 and alpha:
            older = F.leaky_relu(equalised(t, f"fromRGBLayers.{last - 1}", F.avg_pool2d(x, 2)), 0.2)
            h = alpha * older + (1 - alpha) * h
    groups = h.split(4) if len(h) % 4 == 0 else [h]
    spread = [torch.sqrt(g.var(0) + 1e-8).mean().expand(len(g)) if len(g) > 1 else torch.zeros(1) for g in groups]
    h = torch.cat([h, torch.cat(spread)[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
    h = F.leaky_relu(equalised(t, "groupScaleZero.0", h), 0.2).flatten(1)
    return equalised(t, "decisionLayer", F.leaky_relu(equalised(t, "groupScaleZero.1", h), 0.2))
