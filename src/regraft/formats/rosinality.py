"""StyleGAN2 as rosinality's stylegan2-pytorch saves it: its training files (``g``, ``d``, ``g_ema``), converted official
weights (``g_ema``, ``latent_avg``), and what few-shot-gan-adaptation and MineGAN's StyleGAN2 code write.

Renaming the tensors gives the networks of :mod:`regraft.backbones.stylegan2`; only the constant in the demodulation differs.
"""

import argparse

import torch
from torch import Tensor

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._choice import any_passes, passing
from regraft.formats._state_dicts import the_state_dict
from regraft.formats._styles import DRAWN, MEASURED, drawn_noise, measured_style
from regraft.formats._tensor_reader import TensorReader
from regraft.formats.base import Format, Network, Parsed, Probe, optional_critic

MARKS = ("input.input", "to_rgb1.bias", "conv1.conv.modulation.weight")
TRAINING = frozenset({"g", "d", "g_ema", "latent_avg", "g_optim", "d_optim", "args", "ada_aug_p", "iter"})
LARGEST_LEVEL = 10  # 4096 px
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


class Rosinality(Format):
    """StyleGAN2 in rosinality's names."""

    name = "rosinality"
    order = 30

    def matches(self, probe: Probe) -> bool:
        """Whether it is a torch file whose generator has this family's constant input and first image layer."""
        if not probe.is_torch_file:
            return False
        try:
            return any_passes(probe.torch_object, _is_generator)
        except SourceError:
            return False

    def read(self, probe: Probe) -> Parsed:
        """Rename, check the filters, and take or measure the mean style."""
        where, content = str(probe.path), probe.torch_object
        chosen = passing(content, _is_generator, where)
        if chosen is None:
            raise SourceError(f"{where}: holds no generator with {', '.join(MARKS)}")
        keys = chosen.found.keys
        notes = list(chosen.notes) if keys != ("g_ema",) else []
        place = f": {chosen.found.place}" if keys or chosen.found.prefix else ""
        reader = TensorReader(chosen.tensors, f"{where}{place}")
        latent_avg = _one_style(content.get("latent_avg"), reader, notes)
        if not any(name.startswith("noises.") for name in reader.unused):
            notes.append(DRAWN)
        generator = _read_generator(reader, latent_avg)
        if latent_avg is None:
            generator.tensors["mapping.w_avg"] = measured_style(generator, where)
            notes.append(MEASURED)
        critic = optional_critic(lambda: _find_critic(content, where, generator), notes)
        if critic is not None:
            notes.append("minibatch standard deviation over groups of 4, as this code always has it; the file does not say")
        if keys == ("g",):
            notes.append("the file holds no averaged generator (g_ema); the generator g is used")
        surplus = [str(k) for k in content if str(k) not in TRAINING | {*keys}] if keys else []
        if surplus:
            notes.append(f"not used: {', '.join(sorted(surplus)[:8])}")
        objective, recipe = _training(content.get("args") if keys else None, generator.description.config["img_resolution"])
        provenance = Provenance(probe.path.stem, self.name, {probe.path.name: sha256(probe.path)}, assumptions=tuple(notes))
        return Parsed(generator, critic, provenance, objective=objective, recipe=recipe)


def _is_generator(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of this code's generator."""
    return tensors.keys() >= {*MARKS, "style.1.weight"}


def _is_critic(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of this code's critic."""
    return tensors.keys() >= {"convs.0.0.weight", "final_conv.0.weight"}


def _find_critic(content: dict[str, object], where: str, generator: Network) -> Network | None:
    """The critic of the generator's images, under ``d`` or wherever its names are; None if there is none.

    Raises:
        SourceError: if it is another network than this code's, or of other images.
    """
    if content.get("d") is not None:
        reader = TensorReader(the_state_dict(content["d"], f"{where}: d"), f"{where}: d")
    else:
        chosen = passing(content, _is_critic, where, "critic")
        if chosen is None:
            return None
        reader = TensorReader(chosen.tensors, f"{where}: {chosen.found.place}")
    critic = _read_critic(reader)
    for setting, unit in (("img_resolution", "px"), ("img_channels", "channels")):
        makes, takes = (network.description.config[setting] for network in (generator, critic))
        if makes != takes:
            raise SourceError(f"{where}: the generator makes images of {makes} {unit}, the critic takes {takes} {unit}")
    return critic


def _one_style(latent_avg: object, reader: TensorReader, notes: list[str]) -> Tensor | None:
    """The mean style of a file; None where it has none that can be used, and a note that says why.

    Files of pSp repeat it for every layer.
    """
    if latent_avg is None:
        return None
    width = reader.shape("style.1.weight", 2)[0]
    if isinstance(latent_avg, Tensor) and latent_avg.dim() == 2 and len(latent_avg) > 1 and latent_avg.shape[1] == width:
        if bool((latent_avg == latent_avg[0]).all()):
            return latent_avg[0]
        notes.append(
            "the mean styles in the file (latent_avg) differ from layer to layer, and regraft's generator has one for all"
        )
    elif isinstance(latent_avg, Tensor) and latent_avg.numel() == width and not latent_avg.is_complex():
        return latent_avg
    else:
        notes.append(f"the mean style in the file (latent_avg) is left out, because it must hold {width} numbers, and does not")
    return None


def _read_generator(reader: TensorReader, latent_avg: Tensor | None) -> Network:
    """Infer settings from shapes and move all tensors; a missing mean style (``latent_avg``) becomes zero."""
    levels = reader.numbered("to_rgbs.{}.bias", most=LARGEST_LEVEL)
    layers = reader.numbered("style.{}.weight", first=1)
    top = len(levels)
    w_dim, z_dim = reader.shape("style.1.weight", 2)
    settings = {
        "z_dim": z_dim,
        "w_dim": w_dim,
        "img_resolution": 4 << top,
        "img_channels": reader.shape("to_rgb1.conv.weight", 5)[1],
        "channels": [
            reader.shape("input.input", 4)[1],
            *(reader.shape(f"convs.{2 * i + 1}.conv.weight", 5)[1] for i in levels),
        ],
        "mapping_layers": len(layers),
        "scaled_demod": True,
    }
    for i in layers:
        for leaf in ("weight", "bias"):
            _move(reader, f"style.{i}.{leaf}", f"mapping.fc{i - 1}.{leaf}")
    _move(reader, "input.input", "synthesis.b4.const", axes=3)
    stored = any(name.startswith("noises.") for name in reader.unused)  # older files have none

    def noise(number: int, side: int, target: str) -> None:
        if stored:
            _move(reader, f"noises.noise_{number}", target, axes=2)
        else:
            reader.put(target, drawn_noise(side, number))

    noise(0, 4, "synthesis.b4.conv1.noise_const")
    _move_styled(reader, "conv1", "synthesis.b4.conv1")
    _move_styled(reader, "to_rgb1", "synthesis.b4.torgb")
    for i in levels:
        block = f"synthesis.b{8 << i}"
        for j in (0, 1):
            _move_styled(reader, f"convs.{2 * i + j}", f"{block}.conv{j}")
            noise(2 * i + j + 1, 8 << i, f"{block}.conv{j}.noise_const")
        _move_styled(reader, f"to_rgbs.{i}", f"{block}.torgb")
        _check_filter(reader, f"convs.{2 * i}.conv.blur.kernel", 4.0)
        _check_filter(reader, f"to_rgbs.{i}.upsample.kernel", 4.0)
    mean = torch.zeros(w_dim) if latent_avg is None else latent_avg
    reader.put("mapping.w_avg", mean.detach().flatten().float().clone())
    return reader.network("stylegan2", "generator", settings)


def _read_critic(reader: TensorReader) -> Network:
    """Infer settings from shapes and move all tensors."""
    blocks = reader.numbered("convs.{}.conv1.0.weight", first=1, most=LARGEST_LEVEL)
    top = len(blocks)
    bottom = reader.shape("final_conv.0.weight", 4)
    settings = {
        "img_resolution": 4 << top,
        "img_channels": reader.shape("convs.0.0.weight", 4)[1],
        "channels": [bottom[0], *(reader.shape(f"convs.{j}.conv1.0.weight", 4)[0] for j in reversed(blocks))],
        "mbstd_channels": bottom[1] - bottom[0],
        "mbstd_group_size": 4,
    }
    _move(reader, "convs.0.0.weight", f"b{4 << top}.fromrgb.weight")
    _move(reader, "convs.0.1.bias", f"b{4 << top}.fromrgb.bias")
    for j in blocks:
        name, block = f"convs.{j}", f"b{(8 << top) >> j}"
        _move(reader, f"{name}.conv1.0.weight", f"{block}.conv0.weight")
        _move(reader, f"{name}.conv1.1.bias", f"{block}.conv0.bias")
        _move(reader, f"{name}.conv2.1.weight", f"{block}.conv1.weight")
        _move(reader, f"{name}.conv2.2.bias", f"{block}.conv1.bias")
        _move(reader, f"{name}.skip.1.weight", f"{block}.skip.weight")
        _check_filter(reader, f"{name}.conv2.0.kernel", 1.0)
        _check_filter(reader, f"{name}.skip.0.kernel", 1.0)
    _move(reader, "final_conv.0.weight", "b4.conv.weight")
    _move(reader, "final_conv.1.bias", "b4.conv.bias")
    for number, layer in enumerate(("fc", "out")):
        for leaf in ("weight", "bias"):
            _move(reader, f"final_linear.{number}.{leaf}", f"b4.{layer}.{leaf}")
    return reader.network("stylegan2", "critic", settings)


def _move_styled(reader: TensorReader, name: str, target: str) -> None:
    """Move a modulated convolution with its bias and, but for image layers, the strength of its noise."""
    _move(reader, f"{name}.conv.weight", f"{target}.weight", axes=4)
    _move(reader, f"{name}.conv.modulation.weight", f"{target}.affine.weight", axes=2)
    _move(reader, f"{name}.conv.modulation.bias", f"{target}.affine.bias", axes=1)
    if target.endswith("torgb"):
        _move(reader, f"{name}.bias", f"{target}.bias", axes=1)
    else:
        _move(reader, f"{name}.activate.bias", f"{target}.bias", axes=1)
        _move(reader, f"{name}.noise.weight", f"{target}.noise_strength", axes=0)


def _move(reader: TensorReader, name: str, target: str, axes: int | None = None) -> None:
    """Move a tensor; leading and trailing axes of length one are dropped until ``axes`` are left."""

    def layout(value: Tensor) -> Tensor:
        while axes is not None and value.dim() > axes and value.shape[0] == 1:
            value = value[0]
        while axes is not None and value.dim() > axes and value.shape[-1] == 1:
            value = value[..., 0]
        # A copy, because the file's tensors may share memory with others or with the file.
        return value.to(torch.float32, copy=True)

    reader.move(name, target, layout=layout)


def _check_filter(reader: TensorReader, name: str, gain: float) -> None:
    """Use a resampling filter up, where the file has it.

    Raises:
        SourceError: if it is not (1, 3, 3, 1) with the right gain.
    """
    if name in reader:
        expected = torch.outer(TAPS, TAPS) * gain
        kernel = reader.take(name)
        if kernel.shape != expected.shape or not torch.allclose(kernel.float(), expected, atol=1e-5):
            raise SourceError(f"{reader.where}: {name} is not the filter (1, 3, 3, 1), the only one that is supported")


def _training(arguments: object, side: int) -> tuple[Objective | None, Recipe | None]:
    """How the file's arguments say that it was trained; None where they do not say all of it, or are no settings."""
    if not isinstance(arguments, argparse.Namespace):
        return None, None
    numbers = {k: v for k, v in vars(arguments).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if not {"r1", "d_reg_every", "path_regularize", "g_reg_every", "mixing", "lr", "batch"} <= numbers.keys():
        return None, None
    objective, recipe = discover.plugin("backbones", "stylegan2", Backbone).training(side)
    losses = {
        "penalty_weight": numbers["r1"],
        "penalty_every": numbers["d_reg_every"],
        "path_length_weight": numbers["path_regularize"],
        "path_length_every": numbers["g_reg_every"],
    }
    rates = {"generator_lr": numbers["lr"], "critic_lr": numbers["lr"]}
    try:
        return (
            parse(Objective, objective.model_dump() | losses, "args"),
            parse(Recipe, recipe.model_dump() | rates | {"style_mixing": numbers["mixing"], "batch": numbers["batch"]}, "args"),
        )
    except ConfigError:
        return None, None


PLUGIN = Rosinality()
