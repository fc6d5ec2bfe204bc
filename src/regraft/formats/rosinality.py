"""StyleGAN2 as rosinality's stylegan2-pytorch saves it: its training files (``g``, ``d``, ``g_ema``), converted official
weights (``g_ema``, ``latent_avg``), and what few-shot-gan-adaptation and MineGAN's StyleGAN2 code write.

Renaming the tensors gives the networks of :mod:`regraft.backbones.stylegan2`; only the constant in the demodulation differs.
"""

import argparse
import copy
import re
from typing import Any

import torch
from torch import Tensor

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import build_with
from regraft.core.config import Config, Objective, Recipe, parse
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS, Description
from regraft.core.randomness import generator_at
from regraft.formats._state_dicts import refuse_complex
from regraft.formats.base import Format, Network, Parsed, Probe, reproducible, sha256

MARKS = ("input.input", "to_rgb1.bias", "conv1.conv.modulation.weight")
GENERATORS = ("g_ema", "g")
TRAINING = frozenset({"g", "d", "g_ema", "latent_avg", "g_optim", "d_optim", "args", "ada_aug_p", "iter"})
LARGEST_LEVEL = 10  # 4096 px
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8

Tensors = dict[str, Tensor]


class Rosinality(Format):
    """StyleGAN2 in rosinality's names."""

    name = "rosinality"
    order = 30

    def matches(self, probe: Probe) -> bool:
        """A torch file whose generator has this family's constant input and first image layer."""
        if not probe.is_torch_file:
            return False
        try:
            return _generator(probe.torch_object) is not None
        except SourceError:
            return False

    def read(self, probe: Probe) -> Parsed:
        """Rename, check the filters, and take or measure the mean style."""
        where, content = str(probe.path), probe.torch_object
        found = _generator(content)
        if found is None:
            raise SourceError(f"{where}: holds no generator with {', '.join(MARKS)}")
        key = found[0]
        theirs = _plain(found[1], f"{where}: {key}" if key else where)
        notes = []
        generator = _read_generator(theirs, where)
        notes += _centre(generator, content.get("latent_avg"), where)
        critic = None
        if content.get("d") is not None:
            critic = _read_critic(_plain(content["d"], f"{where}: d"), where)
            sides = [n.description.config["img_resolution"] for n in (generator, critic)]
            if sides[0] != sides[1]:
                raise SourceError(f"{where}: the generator makes images of {sides[0]} px, the critic takes {sides[1]} px")
            notes.append("minibatch standard deviation over groups of 4, as this code always has it; the file does not say")
        else:
            notes.append("no critic found")
        if key == "g":
            notes.append("the file holds no averaged generator (g_ema); the generator g is used")
        surplus = [str(k) for k in content if k not in TRAINING] if key else []
        if surplus:
            notes.append(f"not used: {', '.join(sorted(surplus)[:8])}")
        objective, recipe = _training(content.get("args") if key else None, generator)
        provenance = Provenance(probe.path.stem, self.name, {probe.path.name: sha256(probe.path)}, assumptions=tuple(notes))
        return Parsed(generator, critic, provenance, objective=objective, recipe=recipe)


def _generator(content: Any) -> tuple[str, Any] | None:
    """The generator's key ('' for a bare state dict) and what lies there."""
    if not isinstance(content, dict):
        return None
    for key in (*GENERATORS, ""):
        tensors = content.get(key) if key else content
        if isinstance(tensors, dict) and tensors:
            names = {str(k).removeprefix("module.") for k in tensors}
            if names.issuperset(MARKS) and "style.1.weight" in names:
                return key, tensors
    return None


def _plain(value: Any, where: str) -> Tensors:
    """A state dict without the prefix of a wrapper.

    Raises:
        SourceError: if it holds anything but tensors.
    """
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        raise SourceError(f"{where}: must map names to tensors")
    refuse_complex(value, where)
    wrapped = all(name.startswith("module.") for name in value)
    return {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in value.items()}


def _shape(tensors: Tensors, name: str, dims: int, where: str) -> tuple[int, ...]:
    """Shape of a tensor that must be there."""
    if name not in tensors:
        raise SourceError(f"{where}: {name} is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) != dims:
        raise SourceError(f"{where}: {name} is {shape}, must have {dims} axes")
    return shape


def _levels(tensors: Tensors, pattern: str, where: str) -> int:
    """How many consecutive numbers from 0 (or 1) on fit a pattern of names."""
    numbers = {int(m[1]) for name in tensors if (m := re.fullmatch(pattern, name))}
    if not numbers or max(numbers) > 64 or numbers != set(range(min(numbers), max(numbers) + 1)):
        raise SourceError(f"{where}: layers {pattern} are numbered {sorted(numbers)[:12]}")
    return len(numbers)


def _read_generator(theirs: Tensors, where: str) -> Network:
    """Settings from shapes, tensors under their new names."""
    above = _levels(theirs, r"to_rgbs\.(\d{1,3})\.bias", where)
    if above > LARGEST_LEVEL:
        raise SourceError(f"{where}: {above} image layers, at most {LARGEST_LEVEL} are possible")
    layers = _levels(theirs, r"style\.(\d{1,3})\.weight", where)
    width = _shape(theirs, "style.1.weight", 2, where)[0]
    widths = [_shape(theirs, "input.input", 4, where)[1]]
    widths += [_shape(theirs, f"convs.{2 * i + 1}.conv.weight", 5, where)[1] for i in range(above)]
    settings = {
        "z_dim": _shape(theirs, "style.1.weight", 2, where)[1],
        "w_dim": width,
        "img_resolution": 4 << above,
        "img_channels": _shape(theirs, "to_rgb1.conv.weight", 5, where)[1],
        "channels": widths,
        "mapping_layers": layers,
        "scaled_demod": True,
    }
    names = {f"style.{i + 1}.{leaf}": f"mapping.fc{i}.{leaf}" for i in range(layers) for leaf in ("weight", "bias")}
    names |= {"input.input": "synthesis.b4.const", "noises.noise_0": "synthesis.b4.conv1.noise_const"}
    names |= _layer("conv1", "synthesis.b4.conv1") | _layer("to_rgb1", "synthesis.b4.torgb")
    filters: dict[str, float] = {}
    for i in range(above):
        block = f"synthesis.b{8 << i}"
        for j in (0, 1):
            names |= _layer(f"convs.{2 * i + j}", f"{block}.conv{j}")
            names[f"noises.noise_{2 * i + j + 1}"] = f"{block}.conv{j}.noise_const"
        names |= _layer(f"to_rgbs.{i}", f"{block}.torgb")
        filters |= {f"convs.{2 * i}.conv.blur.kernel": 4.0, f"to_rgbs.{i}.upsample.kernel": 4.0}
    return _network("generator", settings, _renamed(theirs, names, filters, where), where)


def _layer(theirs: str, ours: str) -> dict[str, str]:
    """New names of a modulated convolution's tensors."""
    names = {f"{theirs}.conv.weight": f"{ours}.weight"}
    names |= {f"{theirs}.conv.modulation.{leaf}": f"{ours}.affine.{leaf}" for leaf in ("weight", "bias")}
    if ours.endswith("torgb"):
        return names | {f"{theirs}.bias": f"{ours}.bias"}
    return names | {f"{theirs}.activate.bias": f"{ours}.bias", f"{theirs}.noise.weight": f"{ours}.noise_strength"}


def _read_critic(theirs: Tensors, where: str) -> Network:
    """As :func:`_read_generator`, for the critic."""
    above = _levels(theirs, r"convs\.(\d{1,3})\.conv1\.0\.weight", where)
    if above > LARGEST_LEVEL:
        raise SourceError(f"{where}: {above} critic blocks, at most {LARGEST_LEVEL} are possible")
    bottom = _shape(theirs, "final_conv.0.weight", 4, where)
    widths = [_shape(theirs, f"convs.{j}.conv1.0.weight", 4, where)[0] for j in range(above, 0, -1)]
    settings = {
        "img_resolution": 4 << above,
        "img_channels": _shape(theirs, "convs.0.0.weight", 4, where)[1],
        "channels": [bottom[0], *widths],
        "mbstd_channels": bottom[1] - bottom[0],
        "mbstd_group_size": 4,
    }
    top = f"b{4 << above}.fromrgb"
    names = {"convs.0.0.weight": f"{top}.weight", "convs.0.1.bias": f"{top}.bias"}
    names |= {"final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias"}
    for number, layer in enumerate(("fc", "out")):
        names |= {f"final_linear.{number}.{leaf}": f"b4.{layer}.{leaf}" for leaf in ("weight", "bias")}
    filters: dict[str, float] = {}
    for j in range(1, above + 1):
        block, old = f"b{(8 << above) >> j}", f"convs.{j}"
        names |= {f"{old}.conv1.0.weight": f"{block}.conv0.weight", f"{old}.conv1.1.bias": f"{block}.conv0.bias"}
        names |= {f"{old}.conv2.1.weight": f"{block}.conv1.weight", f"{old}.conv2.2.bias": f"{block}.conv1.bias"}
        names[f"{old}.skip.1.weight"] = f"{block}.skip.weight"
        filters |= {f"{old}.conv2.0.kernel": 1.0, f"{old}.skip.0.kernel": 1.0}
    return _network("critic", settings, _renamed(theirs, names, filters, where), where)


def _renamed(theirs: Tensors, names: dict[str, str], filters: dict[str, float], where: str) -> Tensors:
    """Tensors under new names, axes of length one that only this code has dropped.

    Raises:
        SourceError: if a tensor is not known, or a filter is not (1, 3, 3, 1) with the right gain.
    """
    ours: Tensors = {}
    for name, tensor in theirs.items():
        if name in filters:
            wanted = torch.outer(TAPS, TAPS) * filters[name]
            if tensor.shape != wanted.shape or not torch.allclose(tensor.float(), wanted, atol=1e-5):
                raise SourceError(f"{where}: {name} is not the filter (1, 3, 3, 1), the only one that is supported")
        elif name in names:
            new = names[name]
            # A copy, because the file's tensors may share memory with others or with the file.
            ours[new] = _squeezed(new, tensor).to(torch.float32, copy=True)
        else:
            raise SourceError(f"{where}: {name} is not a tensor of this network")
    return ours


def _squeezed(name: str, tensor: Tensor) -> Tensor:
    """Drop the leading and trailing axes that the new name's tensor does not have."""
    if not name.startswith("synthesis."):
        return tensor
    leaf = name.rpartition(".")[2]
    axes = {"const": 3, "noise_const": 2, "noise_strength": 0}.get(leaf)
    if axes is None:
        axes = 1 if leaf == "bias" else 2 if ".affine." in name else 4
    while tensor.dim() > axes and tensor.shape[0] == 1:
        tensor = tensor[0]
    while tensor.dim() > axes and tensor.shape[-1] == 1:
        tensor = tensor[..., 0]
    return tensor


def _network(role: Any, settings: dict[str, Any], tensors: Tensors, where: str) -> Network:
    family = discover.plugin("backbones", "stylegan2", Backbone)
    model: type[Config] = family.GeneratorConfig if role == "generator" else family.CriticConfig
    try:
        config = parse(model, settings, role)
    except ConfigError as error:
        raise SourceError(f"{where}: these shapes make no StyleGAN2: {error}") from None
    return Network(Description("stylegan2", role, config.model_dump(mode="json")), tensors)


def _centre(generator: Network, given: Any, where: str) -> list[str]:
    """Put the mean style in: the file's, or one measured on latents of a fixed seed."""
    width = generator.description.config["w_dim"]
    if given is not None:
        if not isinstance(given, Tensor) or given.numel() != width:
            raise SourceError(f"{where}: latent_avg must hold {width} numbers")
        generator.tensors["mapping.w_avg"] = given.detach().flatten().float().clone()
        return []
    generator.tensors["mapping.w_avg"] = torch.zeros(width)
    network = build_with(generator.description, generator.tensors, where)
    mapping = copy.deepcopy(network.get_submodule("mapping")).double()
    with torch.no_grad():
        z = Latent(generator.description.config["z_dim"]).sample(CENTRE_LATENTS, generator_at(0, "mean style"))
        generator.tensors["mapping.w_avg"] = reproducible(mapping(z.double())[:, 0].mean(0))
    return [f"no mean style in the file: measured on {CENTRE_LATENTS} latents of a fixed seed"]


def _training(arguments: Any, generator: Network) -> tuple[Objective | None, Recipe | None]:
    """How the file says that it was trained, where it says all of it."""
    if not isinstance(arguments, argparse.Namespace):
        return None, None
    given = {k: v for k, v in vars(arguments).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if not {"r1", "d_reg_every", "path_regularize", "g_reg_every", "mixing", "lr", "batch"} <= given.keys():
        return None, None
    side = generator.description.config["img_resolution"]
    objective, recipe = discover.plugin("backbones", "stylegan2", Backbone).training(side)
    game = {
        "penalty_weight": given["r1"],
        "penalty_every": given["d_reg_every"],
        "path_length_weight": given["path_regularize"],
        "path_length_every": given["g_reg_every"],
    }
    play = {"generator_lr": given["lr"], "critic_lr": given["lr"], "style_mixing": given["mixing"], "batch": given["batch"]}
    try:
        return (
            parse(Objective, objective.model_dump() | game, "args"),
            parse(Recipe, recipe.model_dump() | play, "args"),
        )
    except ConfigError:
        return None, None


PLUGIN = Rosinality()
