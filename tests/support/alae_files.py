"""Tiny StyleALAE checkpoints of random weights under the authors' names."""

import torch


def models(levels=3, start=3, most=8, latent=6, layers=2, channels=3, seed=0):
    """Random state dicts under the authors' names; sides of 128 and more have fused changes of size."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.3):
        return torch.randn(shape, generator=rng) * scale

    line = torch.tensor([1.0, 2, 1]) / 4
    width = [min(most, start << k) for k in range(levels + 1)]  # image side first
    up = width[:levels][::-1]
    g, e = {"const": draw(1, up[0], 4, 4)}, {}
    for k in range(levels):
        p, a, b = f"decode_block.{k}", up[max(k - 1, 0)], up[k]
        if k:
            g[f"{p}.conv_1.weight"] = draw(a, b, 3, 3) if 4 << k >= 128 else draw(b, a, 3, 3)
        g[f"{p}.conv_2.weight"] = draw(b, b, 3, 3)
        g[f"{p}.blur.weight"] = (line[:, None] * line).expand(b, 1, 3, 3).clone()
        for i in (1, 2):
            g |= {f"{p}.noise_weight_{i}": draw(1, b, 1, 1), f"{p}.bias_{i}": draw(1, b, 1, 1)}
            g |= {f"{p}.style_{i}.weight": draw(2 * b, latent), f"{p}.style_{i}.bias": draw(2 * b)}
        g |= {f"to_rgb.{k}.to_rgb.weight": draw(channels, b, 1, 1), f"to_rgb.{k}.to_rgb.bias": draw(channels)}
        q, a, b = f"encode_block.{k}", width[k], width[k + 1]
        e |= {f"{q}.conv_1.weight": draw(a, a, 3, 3), f"{q}.conv_2.weight": draw(b, a, 3, 3)}
        e |= {f"{q}.bias_1": draw(1, a, 1, 1), f"{q}.bias_2": draw(1, b, 1, 1)}
        e[f"{q}.blur.weight"] = (line[:, None] * line).expand(a, 1, 3, 3).clone()
        for i, c in ((1, a), (2, b)):
            e |= {f"{q}.style_{i}.weight": draw(latent, 2 * c), f"{q}.style_{i}.bias": draw(latent)}
        e |= {f"from_rgb.{k}.from_rgb.weight": draw(a, channels, 1, 1), f"from_rgb.{k}.from_rgb.bias": draw(a)}
    f = {
        f"map_blocks.{k}.fc.{leaf}": draw(*s)
        for k in range(layers)
        for leaf, s in (("weight", (latent,) * 2), ("bias", (latent,)))
    }
    outputs = [latent, latent, 2 * latent]
    d = {
        f"map_blocks.{k}.{leaf}": draw(*s)
        for k, n in enumerate(outputs)
        for leaf, s in (("weight", (n, latent)), ("bias", (n,)))
    }
    mean = {"buff": draw(1, latent).expand(2 * levels, latent).clone()}
    return {"generator_s": g, "discriminator_s": e, "mapping_fl_s": f, "mapping_tl_s": d, "dlatent_avg": mean}


def written(path, made, **more):
    """Write a checkpoint; return its path."""
    torch.save({"models": made, "auxiliary": {"scheduler": {"last_epoch": 3}}, **more}, path)
    return path
