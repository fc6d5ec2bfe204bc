"""NVlabs pickles of StyleGAN2-ADA (PyTorch) and of the StyleGAN3 repository, without running the code that they embed.

``G_ema`` is the generator and ``D`` the critic.  A setting is what the layers' own attributes say, else the recorded
constructor arguments, else the default of the code that wrote the file.

Source: Karras et al. 2020, "Training generative adversarial networks with limited data"; Karras et al. 2021, "Alias-free
generative adversarial networks".
"""

import pathlib
from typing import Any

from torch import Tensor

from regraft.backbones.stylegan3 import StyleGAN3
from regraft.core import discover
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.nvlabs_pickles import Archive, Record, opened
from regraft.formats import _nvlabs
from regraft.formats._nvlabs import Net
from regraft.formats.base import Format, Network, Parsed, Probe, sha256

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
        with opened(probe.path) as archive:
            return _read(archive, probe.path)


def _read(archive: Archive, path: pathlib.Path) -> Parsed:
    root = archive.root
    if isinstance(root, Record):
        root = {"G_ema" if "mapping" in (root.state.get("_modules") or {}) else "D": root}
    if not isinstance(root, dict):
        raise SourceError(f"holds a {type(root).__name__}, not a dictionary with G_ema and D")
    notes = [_nvlabs.LICENCE]
    name = next((k for k in ("G_ema", "G") if isinstance(root.get(k), Record)), None)
    if name is None:
        raise SourceError(f"holds no module G_ema; there are: {', '.join(str(k)[:40] for k in list(root)[:8])}")
    if name == "G":
        notes.append("the raw generator G is taken, because there is no averaged G_ema")
    made = Net(archive, root[name], name, GENERATOR)
    alias_free = made.has("synthesis.input.freqs")
    generator = _stylegan3(made) if alias_free else _stylegan2(made)
    critic = None
    if isinstance(root.get("D"), Record):
        critic_net = Net(archive, root["D"], "D", CRITIC)
        critic = _critic(critic_net, flat=alias_free or made.flat)
        notes += critic_net.notes
    else:
        notes.append("no critic found")
    notes += made.notes
    if made.half:
        notes.append("blocks that ran in float16 are computed in float32")
    provenance = Provenance(
        name=path.stem,
        format=NVlabs.name,
        files={path.name: sha256(path)},
        dataset=_dataset(root),
        assumptions=tuple(notes),
    )
    return Parsed(generator, critic, provenance)


def _stylegan2(net: Net) -> Network:
    """Settings of a StyleGAN2 generator in either dialect."""
    net.only(GENERATOR, ("mapping_kwargs", "synthesis_kwargs"), SYNTHESIS2)
    synthesis = net.group("synthesis_kwargs", (*SYNTHESIS2, "block_kwargs"))
    options = {**net.kwargs, **synthesis, **_nested(synthesis, "block_kwargs")}
    size = net.integer("img_resolution")
    sides = _nvlabs.resolutions(size, net.where)
    tensors = net.tensors(drop="resample_filter")
    config = {
        **_mapping(net, tensors, default_layers=8),
        "z_dim": net.integer("z_dim"),
        "w_dim": net.integer("w_dim"),
        "img_resolution": size,
        "img_channels": net.integer("img_channels"),
        "channels": [_nvlabs.width(tensors, f"synthesis.b{r}.conv1.weight", net.where) for r in sides],
        "architecture": net.effective("synthesis.b4", "architecture", options, "skip"),
        "use_noise": net.effective("synthesis.b4.conv1", "use_noise", options, True),
        "conv_clamp": net.effective("synthesis.b4.conv1", "conv_clamp", options, 256 if net.flat else None),
        "activation": net.effective("synthesis.b4.conv1", "activation", options, "lrelu"),
    }
    return net.network("stylegan2", "generator", config, tensors)


def _stylegan3(net: Net) -> Network:
    """Settings of a StyleGAN3 generator."""
    net.only(GENERATOR, ("mapping_kwargs", "synthesis_kwargs"), (*SYNTHESIS3, "channel_base", "channel_max", *SPEED))
    options = {**net.kwargs, **net.group("synthesis_kwargs", (*SYNTHESIS3, "channel_base", "channel_max", *SPEED))}
    tensors = net.tensors()
    config = {key: net.plain(options.get(key, default)) for key, default in SYNTHESIS3.items()}
    count = config["num_layers"]
    if type(count) is not int or not 1 <= count <= 64:
        raise SourceError(f"{net.where}: num_layers must be from 1 to 64")
    layers = sorted({name.split(".")[1] for name in tensors if name.startswith("synthesis.L")}, key=_layer_number)
    if [_layer_number(layer) for layer in layers] != list(range(count + 1)):
        raise SourceError(f"{net.where}: {len(layers)} synthesis layers, must be {count + 1}")
    config |= {
        **_mapping(net, tensors, default_layers=2),
        "z_dim": net.integer("z_dim"),
        "w_dim": net.integer("w_dim"),
        "img_resolution": net.integer("img_resolution"),
        "img_channels": net.integer("img_channels"),
        "channels": [_nvlabs.width(tensors, f"synthesis.{layer}.weight", net.where) for layer in layers[:-1]],
    }
    network = net.network("stylegan3", "generator", config, tensors)
    designed: dict[str, Tensor] = discover.plugin("backbones", "stylegan3", StyleGAN3).filters(network.description.config)
    for name, expected in designed.items():
        _nvlabs.same(tensors.get(name), expected, f"{net.where}: {name}")
    return network


def _critic(net: Net, flat: bool) -> Network:
    """Settings of the critic that both families share."""
    groups = {
        "block_kwargs": ("activation", "resample_filter", "fp16_channels_last", "freeze_layers"),
        "mapping_kwargs": MAPPING,
        "epilogue_kwargs": ("mbstd_group_size", "mbstd_num_channels", "activation"),
    }
    net.only(CRITIC, tuple(groups), ("architecture", "channel_base", "channel_max", "conv_clamp", "cmap_dim", "num_fp16_res"))
    options = {name: net.group(name, known) for name, known in groups.items()}
    size = net.integer("img_resolution")
    sides = _nvlabs.resolutions(size, net.where)
    tensors = net.tensors(drop="resample_filter")
    channels = [_nvlabs.width(tensors, f"b{r}.conv1.weight", net.where) for r in sides[1:]]
    channels.append(_nvlabs.width(tensors, f"b{size}.fromrgb.weight", net.where))
    mapping = _mapping(net, tensors, default_layers=8)
    ending = options["epilogue_kwargs"]
    cmap_dim = net.plain(net.kwargs.get("cmap_dim"))
    config = {
        **mapping,
        "img_resolution": size,
        "img_channels": net.integer("img_channels"),
        "channels": channels,
        "architecture": net.effective(f"b{size}", "architecture", net.kwargs, "resnet"),
        "conv_clamp": net.effective(f"b{size}.fromrgb", "conv_clamp", net.kwargs, 256 if flat else None),
        "activation": net.effective(f"b{size}.fromrgb", "activation", options["block_kwargs"], "lrelu"),
        "mbstd_group_size": net.effective("b4.mbstd", "group_size", {"group_size": ending.get("mbstd_group_size", 4)}, 4),
        "mbstd_channels": ending.get("mbstd_num_channels", 1),
        "cmap_dim": (channels[0] if cmap_dim is None else cmap_dim) if mapping["c_dim"] else 0,
    }
    return net.network("stylegan2", "critic", config, tensors)


def _mapping(net: Net, tensors: dict[str, Tensor], default_layers: int) -> dict[str, Any]:
    """Settings of a mapping network."""
    options = net.group("mapping_kwargs", MAPPING)
    classes = net.integer("c_dim")
    config = {
        "c_dim": classes,
        "mapping_layers": options.get("num_layers", default_layers),
        "mapping_lr": options.get("lr_multiplier", 0.01),
        "embed_features": options.get("embed_features"),
        "layer_features": options.get("layer_features"),
    }
    if options.get("activation", "lrelu") != "lrelu":
        raise SourceError(f"{net.where}: the mapping's activation is {options['activation']!r}; only lrelu is known")
    found = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in tensors)
    if (classes or net.name != "D") and config["mapping_layers"] != found:
        raise SourceError(f"{net.where}: {found} mapping layers, where its settings say {config['mapping_layers']}")
    return config


def _nested(options: dict[str, Any], key: str) -> dict[str, Any]:
    value = options.get(key) or {}
    return value if isinstance(value, dict) else {}


def _layer_number(name: str) -> int:
    number = name[1:].split("_")[0]
    return int(number) if number.isdecimal() and len(number) < 4 else -1


def _dataset(root: dict[str, Any]) -> str | None:
    options = root.get("training_set_kwargs")
    path = options.get("path") if isinstance(options, dict) else None
    return pathlib.PurePosixPath(path).stem[:80] if isinstance(path, str) and 0 < len(path) < 4096 else None


PLUGIN = NVlabs()
