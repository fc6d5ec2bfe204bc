"""NVlabs pickles of StyleGAN2-ADA (PyTorch) and of the StyleGAN3 repository, without running the code that they embed.

``G_ema`` is the generator and ``D`` the critic.  A setting is what the layers' own attributes say, else the recorded
constructor arguments, else the default of the code that wrote the file.

Source: Karras et al. 2020, "Training generative adversarial networks with limited data"; Karras et al. 2021, "Alias-free
generative adversarial networks".
"""

import pathlib
from typing import Any

import torch
from torch import Tensor

from regraft.backbones.stylegan3 import StyleGAN3
from regraft.core import discover
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.files.inert import Placeholder, shown
from regraft.files.nvlabs_pickles import Archive, Record, open_archive
from regraft.formats import _nvlabs
from regraft.formats._nvlabs import PickledNetwork
from regraft.formats._styles import DRAWN, MEASURED, drawn_noise, measured_style
from regraft.formats._tensor_reader import checked_network
from regraft.formats.base import Format, Network, Parsed, Probe, optional_critic

MARKER = b"torch_utils.persistence"
GENERATOR = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
CRITIC = ("c_dim", "img_resolution", "img_channels")
MAPPING = ("num_layers", "embed_features", "layer_features", "activation", "lr_multiplier", "w_avg_beta")
# Settings of speed and of training, which change no image.
SPEED = ("num_fp16_res", "fp16_channels_last", "fused_modconv_default", "use_fp16", "w_avg_beta", "magnitude_ema_beta")
SYNTHESIS2 = ("channel_base", "channel_max", "architecture", "resample_filter", "activation", "conv_clamp", "use_noise", *SPEED)
SYNTHESIS3 = {
    "num_layers": 14,
    "num_critical": 2,
    "first_cutoff": 2,
    "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3,
    "margin_size": 10,
    "output_scale": 0.25,
    "conv_kernel": 3,
    "filter_size": 6,
    "lrelu_upsampling": 2,
    "use_radial_filters": False,
    "conv_clamp": 256,
}


class NVlabs(Format):
    """A pickled dictionary with ``G_ema`` and ``D``."""

    name = "NVlabs pickle"
    order = 30

    def matches(self, probe: Probe) -> bool:
        """Whether it is a plain pickle that names NVlabs' device for modules near its start."""
        return _nvlabs.begins_as_pickle(probe, MARKER)

    def read(self, probe: Probe) -> Parsed:
        """Read generator and critic."""
        with open_archive(probe.path) as archive:
            return _read(archive, probe.path)


def _read(archive: Archive, path: pathlib.Path) -> Parsed:
    """Read generator and critic of an open pickle."""
    root = archive.root
    if isinstance(root, Record):
        root = {"G_ema" if "mapping" in (root.state.get("_modules") or {}) else "D": root}
    if not isinstance(root, dict):
        raise SourceError(f"holds a {type(root).__name__}, not a dictionary with G_ema and D")
    for key in ("G_ema", "G"):
        if isinstance(root.get(key), Placeholder):
            raise SourceError(f"{key} is a {shown(root[key])}, and only modules of the published code are read")
    notes = [_nvlabs.LICENCE]
    name = next((k for k in ("G_ema", "G") if isinstance(root.get(k), Record)), None)
    if name is None:
        raise SourceError(f"holds no module G_ema; there are: {', '.join(str(k)[:40] for k in list(root)[:8])}")
    if name == "G":
        notes.append("the raw generator G is taken, because there is no averaged G_ema")
    pickled = PickledNetwork(archive, root[name], name, GENERATOR)
    alias_free = pickled.has("synthesis.input.freqs")
    generator = _stylegan3(pickled) if alias_free else _stylegan2(pickled)
    flat = alias_free or pickled.flat
    kind = root["D"].class_name[:60] if isinstance(root.get("D"), Record) else "D"
    critic = optional_critic(lambda: _read_critic(archive, root, generator, flat, notes), notes, f"critic ({kind})")
    notes += pickled.notes
    if pickled.half:
        notes.append("blocks that ran in float16 are computed in float32")
    provenance = Provenance(
        name=path.stem,
        format=NVlabs.name,
        files={path.name: sha256(path)},
        dataset=_dataset(root),
        assumptions=tuple(notes),
    )
    return Parsed(generator, critic, provenance)


def _read_critic(archive: Archive, root: dict[str, Any], generator: Network, flat: bool, notes: list[str]) -> Network | None:
    """The critic of the generator's images, None if there is none; ``flat`` says that it is of StyleGAN3's code.

    Raises:
        SourceError: if it is another network than that code's, or of other images.
    """
    if root.get("D") is None:
        return None
    if not isinstance(root["D"], Record):
        raise SourceError(f"D is no module of the published code but a {shown(root['D'])}")
    pickled = PickledNetwork(archive, root["D"], "D", CRITIC)
    critic = _critic(pickled, flat)
    for setting in ("img_resolution", "img_channels", "c_dim"):
        makes, takes = (network.description.config[setting] for network in (generator, critic))
        if makes != takes and not (setting == "c_dim" and not takes):
            raise SourceError(f"D: {setting} is {takes}, and that of the generator {makes}")
    notes += pickled.notes
    return critic


def _stylegan2(network: PickledNetwork) -> Network:
    """Settings and tensors of a StyleGAN2 generator, from StyleGAN2-ADA's code or that of StyleGAN3."""
    network.only(GENERATOR, ("mapping_kwargs", "synthesis_kwargs"), SYNTHESIS2)
    synthesis = network.group("synthesis_kwargs", (*SYNTHESIS2, "block_kwargs"))
    options = {**network.kwargs, **synthesis, **_nested(synthesis, "block_kwargs")}
    size = network.integer("img_resolution")
    sides = _nvlabs.resolutions(size, network.where)
    tensors = network.tensors(drop="resample_filter")
    use_noise = network.effective("synthesis.b4.conv1", "use_noise", options, True)
    _add_noise(network, tensors, sides, use_noise is True)
    config = {
        **_mapping(network, tensors, default_layers=8),
        "z_dim": network.integer("z_dim"),
        "w_dim": network.integer("w_dim"),
        "img_resolution": size,
        "img_channels": network.integer("img_channels"),
        "channels": [_nvlabs.output_channels(tensors, f"synthesis.b{r}.conv1.weight", network.where) for r in sides],
        "architecture": network.effective("synthesis.b4", "architecture", options, "skip"),
        "use_noise": use_noise,
        "conv_clamp": network.effective("synthesis.b4.conv1", "conv_clamp", options, 256 if network.flat else None),
        "activation": network.effective("synthesis.b4.conv1", "activation", options, "lrelu"),
    }
    return _with_mean("stylegan2", config, tensors, network)


def _add_noise(network: PickledNetwork, tensors: dict[str, Tensor], sides: list[int], use_noise: bool) -> None:
    """Draw the noise maps of a generator that has noise and stores none of its maps."""
    if not use_noise or any(name.endswith(".noise_const") for name in tensors):
        return
    for number, (side, layer) in enumerate([(4, 1), *((side, layer) for side in sides[1:] for layer in (0, 1))]):
        tensors[f"synthesis.b{side}.conv{layer}.noise_const"] = drawn_noise(side, number)
    network.notes.append(DRAWN)


def _with_mean(kind: str, config: dict[str, Any], tensors: dict[str, Tensor], network: PickledNetwork) -> Network:
    """A generator; a mean style that its code did not track is measured."""
    if "mapping.w_avg" in tensors:
        return checked_network(kind, "generator", config, tensors, network.where)
    zeros = {"mapping.w_avg": torch.zeros(config["w_dim"] if config["w_dim"] < 1 << 16 else 0)}
    generator = checked_network(kind, "generator", config, tensors | zeros, network.where)
    generator.tensors["mapping.w_avg"] = measured_style(generator, network.where)
    network.notes.append(MEASURED)
    return generator


def _stylegan3(network: PickledNetwork) -> Network:
    """Settings and tensors of a StyleGAN3 generator; its filters must be those that the settings give."""
    network.only(GENERATOR, ("mapping_kwargs", "synthesis_kwargs"), (*SYNTHESIS3, "channel_base", "channel_max", *SPEED))
    options = {**network.kwargs, **network.group("synthesis_kwargs", (*SYNTHESIS3, "channel_base", "channel_max", *SPEED))}
    tensors = network.tensors()
    config = {key: network.plain(options.get(key, default)) for key, default in SYNTHESIS3.items()}
    count = config["num_layers"]
    if type(count) is not int or not 1 <= count <= 64:
        raise SourceError(f"{network.where}: num_layers must be from 1 to 64")
    layers = sorted({name.split(".")[1] for name in tensors if name.startswith("synthesis.L")}, key=_layer_number)
    if [_layer_number(layer) for layer in layers] != list(range(count + 1)):
        raise SourceError(f"{network.where}: {len(layers)} synthesis layers, must be {count + 1}")
    config |= {
        **_mapping(network, tensors, default_layers=2),
        "z_dim": network.integer("z_dim"),
        "w_dim": network.integer("w_dim"),
        "img_resolution": network.integer("img_resolution"),
        "img_channels": network.integer("img_channels"),
        "channels": [_nvlabs.output_channels(tensors, f"synthesis.{layer}.weight", network.where) for layer in layers[:-1]],
    }
    generator = _with_mean("stylegan3", config, tensors, network)
    designed: dict[str, Tensor] = discover.plugin("backbones", "stylegan3", StyleGAN3).filters(config)
    for name, expected in designed.items():
        _nvlabs.check_filter(tensors.get(name), expected, f"{network.where}: {name}")
    return generator


def _critic(network: PickledNetwork, flat: bool) -> Network:
    """Settings and tensors of the critic that both families share; ``flat`` says that it is of StyleGAN3's code."""
    groups = {
        "block_kwargs": ("activation", "resample_filter", "fp16_channels_last", "freeze_layers"),
        "mapping_kwargs": MAPPING,
        "epilogue_kwargs": ("mbstd_group_size", "mbstd_num_channels", "activation"),
    }
    network.only(
        CRITIC, tuple(groups), ("architecture", "channel_base", "channel_max", "conv_clamp", "cmap_dim", "num_fp16_res")
    )
    options = {name: network.group(name, known) for name, known in groups.items()}
    size = network.integer("img_resolution")
    sides = _nvlabs.resolutions(size, network.where)
    tensors = network.tensors(drop="resample_filter")
    channels = [_nvlabs.output_channels(tensors, f"b{r}.conv1.weight", network.where) for r in sides[1:]]
    channels.append(_nvlabs.output_channels(tensors, f"b{size}.fromrgb.weight", network.where))
    mapping = _mapping(network, tensors, default_layers=8)
    ending = options["epilogue_kwargs"]
    cmap_dim = network.plain(network.kwargs.get("cmap_dim"))
    config = {
        **mapping,
        "img_resolution": size,
        "img_channels": network.integer("img_channels"),
        "channels": channels,
        "architecture": network.effective(f"b{size}", "architecture", network.kwargs, "resnet"),
        "conv_clamp": network.effective(f"b{size}.fromrgb", "conv_clamp", network.kwargs, 256 if flat else None),
        "activation": network.effective(f"b{size}.fromrgb", "activation", options["block_kwargs"], "lrelu"),
        "mbstd_group_size": network.effective("b4.mbstd", "group_size", {"group_size": ending.get("mbstd_group_size", 4)}, 4),
        "mbstd_channels": ending.get("mbstd_num_channels", 1),
        "cmap_dim": (channels[0] if cmap_dim is None else cmap_dim) if mapping["c_dim"] else 0,
    }
    return checked_network("stylegan2", "critic", config, tensors, network.where)


def _mapping(network: PickledNetwork, tensors: dict[str, Tensor], default_layers: int) -> dict[str, Any]:
    """Settings of a generator's or critic's mapping network."""
    options = network.group("mapping_kwargs", MAPPING)
    classes = network.integer("c_dim")
    config = {
        "c_dim": classes,
        "mapping_layers": options.get("num_layers", default_layers),
        "mapping_lr": options.get("lr_multiplier", 0.01),
        "embed_features": options.get("embed_features"),
        "layer_features": options.get("layer_features"),
    }
    if options.get("activation", "lrelu") != "lrelu":
        raise SourceError(f"{network.where}: the mapping's activation is {options['activation']!r}; only lrelu is known")
    layers = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in tensors)
    if (classes or network.name != "D") and config["mapping_layers"] != layers:
        raise SourceError(f"{network.where}: {layers} mapping layers, where its settings say {config['mapping_layers']}")
    return config


def _nested(options: dict[str, Any], key: str) -> dict[str, Any]:
    """A group of options inside a group; empty if there is none."""
    value = options.get(key) or {}
    return value if isinstance(value, dict) else {}


def _layer_number(name: str) -> int:
    """The number in a StyleGAN3 layer's name such as ``L3_52_512``; -1 if there is none."""
    number = name[1:].split("_")[0]
    return int(number) if number.isdecimal() and len(number) < 4 else -1


def _dataset(root: dict[str, Any]) -> str | None:
    """Name of the archive that the networks were trained on, where the file has it."""
    options = root.get("training_set_kwargs")
    path = options.get("path") if isinstance(options, dict) else None
    return pathlib.PurePosixPath(path).stem[:80] if isinstance(path, str) and 0 < len(path) < 4096 else None


PLUGIN = NVlabs()
