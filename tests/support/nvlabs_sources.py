"""Tiny StyleGAN2 networks of random weights, written as NVlabs' code does."""

import numpy as np
import torch

from regraft.core.build import build_fresh
from regraft.core.networks import Description
from support.nvlabs_files import dumped, tf_network, tree


def noisy(kind, role, config):
    """A network whose every tensor is random, filters aside."""
    network = build_fresh(Description(kind, role, config), 0).requires_grad_(False).eval()
    rng = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if not name.endswith("_filter"):
            value.add_(torch.randn(value.shape, generator=rng) * 0.1)
    return network


def generator2(**changes):
    """A small StyleGAN2 generator."""
    config = {
        "z_dim": 5,
        "w_dim": 6,
        "c_dim": 0,
        "img_resolution": 16,
        "img_channels": 3,
        "mapping_layers": 2,
        "channels": [7, 5, 4],
    }
    return noisy("stylegan2", "generator", config | changes)


def critic2(**changes):
    """A small StyleGAN2 critic."""
    config = {"c_dim": 0, "img_resolution": 16, "img_channels": 3, "channels": [7, 5, 4]}
    return noisy("stylegan2", "critic", config | changes)


def options_of(g, **extra):
    """Settings of a generator, as the authors' code stores them."""
    c = g.config
    return {"z_dim": c.z_dim, "c_dim": c.c_dim, "w_dim": c.w_dim, "img_resolution": 16, "img_channels": c.img_channels} | extra


def critic_options(d, **extra):
    """Settings of a critic, as the authors' code stores them."""
    groups = {"block_kwargs": {}, "mapping_kwargs": {}, "epilogue_kwargs": {"mbstd_group_size": 4}}
    return {"c_dim": d.config.c_dim, "img_resolution": 16, "img_channels": d.config.img_channels} | groups | extra


def written(folder, g, d=None, g_options=None, d_options=None, protocol=3, **tree_options):
    """Write a pickle of PyTorch networks; return its path."""
    content = {"training_set_kwargs": {"path": "/data/cats.zip"}, "G": None, "augment_pipe": None}
    if d is not None:
        content["D"] = tree(d.state_dict(), "Discriminator", d_options or critic_options(d), **tree_options)
    mapping = {"num_layers": g.config.mapping_layers}
    options = g_options or options_of(g, mapping_kwargs=mapping, synthesis_kwargs={})
    content["G_ema"] = tree(g.state_dict(), "Generator", options, filters=g.describe().kind == "stylegan2")
    path = folder / "net.pkl"
    path.write_bytes(dumped(content, protocol))
    return path


def tensorflow_variables(network, critic=False):
    """Layouts of TensorFlow, made by turning the converter's rules round."""
    found = {}
    names = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip", "fromrgb": "FromRGB", "conv": "Conv"}
    if critic:
        names |= {"conv0": "Conv0", "conv1": "Conv1_down"}
    for name, value in network.state_dict().items():
        parts = name.removeprefix("synthesis.").split(".")
        prefix = "synthesis/" if name.startswith("synthesis") else ""
        if name == "mapping.w_avg":
            found["dlatent_avg"] = value
        elif parts[0] == "mapping":
            layer = parts[1].replace("fc", "Mapping" if critic else "mapping/Dense")
            layer = layer.replace("embed", "LabelEmbed" if critic else "mapping/LabelEmbed")
            found[f"{layer}/{parts[2]}"] = value.t() if parts[2] == "weight" else value
        elif parts[-1] == "const":
            found["synthesis/4x4/Const/const"] = value[None]
        elif parts[-1] == "noise_const":
            r = int(parts[0][1:])
            index = 2 * int(np.log2(r)) - (5 if parts[1] == "conv0" else 4)
            found[f"synthesis/noise{index}"] = value[None, None]
        elif parts[1] in ("fc", "out"):
            layer = "4x4/Dense0" if parts[1] == "fc" else "Output"
            found[f"{layer}/{parts[2]}"] = value.t() if parts[2] == "weight" else value
        else:
            r = parts[0][1:]
            layer = "Conv" if (r == "4" and parts[1] == "conv1" and not critic) else names[parts[1]]
            leaf = ".".join(parts[2:]).replace("affine.weight", "mod_weight").replace("affine.bias", "mod_bias")
            if leaf == "mod_weight":
                value = value.t()
            elif leaf == "mod_bias":
                value = value - 1
            elif value.dim() == 4:
                value = value.permute(2, 3, 1, 0)
                value = value.flip(0, 1) if layer == "Conv0_up" else value
            found[f"{prefix}{r}x{r}/{layer}/{leaf}"] = value
    return found


def written_tensorflow(folder, g, d, function="D_main", protocol=4, critic=None, **changes):
    """Write a pickle of TensorFlow networks; return its path."""
    c = g.config
    common = {"resolution": 16, "num_channels": 3, "label_size": c.c_dim, "fmap_base": 8192, "func_name": "x"}
    variables = tensorflow_variables(g) | changes
    inner = {
        part: {k.removeprefix(f"{part}/"): v for k, v in variables.items() if k.startswith(f"{part}/")}
        for part in ("mapping", "synthesis")
    }
    options = common | {
        "latent_size": 5,
        "dlatent_size": 6,
        "mapping_layers": 2,
        "architecture": c.architecture,
        "truncation_psi": 0.5,
    }
    own = {k: v for k, v in variables.items() if "/" not in k}
    components = {part: tf_network(part, inner[part], {"dlatent_size": 6}, function="G_part") for part in inner}
    generator = tf_network("Gs", own, options, components)
    critic_settings = {"architecture": d.config.architecture, "mbstd_group_size": 2}
    if c.c_dim:
        critic_settings |= {"mapping_layers": 2}
    made = tf_network("D", tensorflow_variables(d, critic=True), common | critic_settings, function=function)
    path = folder / "tf.pkl"
    path.write_bytes(dumped((generator, made if critic is None else critic(), generator), protocol))
    return path
