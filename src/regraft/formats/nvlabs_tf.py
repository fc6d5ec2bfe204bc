"""NVlabs pickles of TensorFlow: StyleGAN2 and StyleGAN2-ADA, a tuple (G, D, Gs) of networks.

``Gs``, the averaged generator, is the generator.  The layout of these files is known from the published converter's rules only,
which every such source says.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN".
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.files.nvlabs_pickles import Archive, TFNetwork, open_archive
from regraft.formats import _nvlabs
from regraft.formats._tensor_reader import TensorReader, checked_network
from regraft.formats.base import Format, Network, Parsed, Probe, optional_critic

MARKERS = (b"dnnlib.tflib.network", b"tfutil\nNetwork", b"tfutil\x94\x8c\x07Network")
READ = "read by the rules of NVlabs' converter from TensorFlow, not verified against TensorFlow's own outputs"
MAX_NETWORKS = 16
MAX_VARIABLES = 2000

Rule = Callable[[Tensor], Tensor]
"""Brings a variable of TensorFlow into PyTorch's layout."""


def _same(x: Tensor) -> Tensor:
    return x


def _kernel(x: Tensor) -> Tensor:
    return x.permute(3, 2, 0, 1)


def _flipped(x: Tensor) -> Tensor:
    # Doubling convolutions: TensorFlow's transposed convolution turns the kernel round.
    return x.flip(0, 1).permute(3, 2, 0, 1)


def _matrix(x: Tensor) -> Tensor:
    return x.t()


def _first(x: Tensor) -> Tensor:
    return x.reshape(x.shape[1:]) if x.dim() == 4 and x.shape[0] == 1 else x


def _noise(x: Tensor) -> Tensor:
    return x.reshape(x.shape[2:]) if x.dim() == 4 else x


def _around_one(x: Tensor) -> Tensor:
    return x + 1


RANKS: dict[Rule, tuple[int, ...]] = {_kernel: (4,), _flipped: (4,), _matrix: (2,)}
"""Dimensions that a variable must have for a rule."""
STYLED = {
    "weight": ("weight", _kernel),
    "bias": ("bias", _same),
    "mod_weight": ("affine.weight", _matrix),
    "mod_bias": ("affine.bias", _around_one),
    "noise_strength": ("noise_strength", _same),
}
LAYERS = {"Conv0_up": "conv0", "Conv1": "conv1", "Conv": "conv1", "ToRGB": "torgb", "Skip": "skip"}
CRITIC_LAYERS = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip", "Conv": "conv"}
# Arguments that change how networks are trained or computed, but no image.
HARMLESS = (
    "func_name",
    "name",
    "is_training",
    "is_validation",
    "is_template_graph",
    "return_dlatents",
    "components",
    "dtype",
    "truncation_psi",
    "truncation_cutoff",
    "truncation_psi_val",
    "truncation_cutoff_val",
    "dlatent_avg_beta",
    "w_avg_beta",
    "style_mixing_prob",
    "randomize_noise",
    "fused_modconv",
    "num_fp16_res",
    "fp16_channels_last",
    "mapping_func",
    "synthesis_func",
    "fmap_base",
    "fmap_max",
    "fmap_decay",
    "fmap_min",
    "normalize_latents",
    "structure",
    "force_clean_graph",
    "epilogue_args",
    "impl",
    "mixed_precision_resolution_threshold",
)
COMMON = ("resolution", "num_channels", "label_size", "architecture", "nonlinearity", "resample_kernel", "conv_clamp")
GENERATOR = (
    "latent_size",
    "dlatent_size",
    "mapping_layers",
    "mapping_fmaps",
    "mapping_lrmul",
    "mapping_nonlinearity",
    "label_fmaps",
    "use_noise",
)
CRITIC = ("mapping_layers", "mapping_fmaps", "mapping_lrmul", "mbstd_group_size", "mbstd_num_features")


class NVlabsTF(Format):
    """A pickled tuple of TensorFlow networks."""

    name = "NVlabs TensorFlow pickle"
    order = 31

    def matches(self, probe: Probe) -> bool:
        """Whether it is a plain pickle that names NVlabs' TensorFlow network near its start."""
        return _nvlabs.begins_as_pickle(probe, *MARKERS)

    def read(self, probe: Probe) -> Parsed:
        """Read averaged generator and critic."""
        path = probe.path
        with open_archive(path) as archive:
            networks = archive.root
            if not isinstance(networks, tuple) or len(networks) != 3 or not isinstance(networks[2], TFNetwork):
                raise SourceError("must hold a tuple (G, D, Gs) of TensorFlow networks, and does not")
            generator = _generator(TensorFlowNetwork(archive, networks[2], "Gs", (*COMMON, *GENERATOR)))
            notes = [READ, _nvlabs.LICENCE]
            network = networks[1]
            critic = optional_critic(
                lambda: _critic(TensorFlowNetwork(archive, network, "D", (*COMMON, *CRITIC))) if network is not None else None,
                notes,
            )
        provenance = Provenance(name=path.stem, format=self.name, files={path.name: sha256(path)}, assumptions=tuple(notes))
        return Parsed(generator, critic, provenance)


class TensorFlowNetwork:
    """A pickled network with its components.

    Attributes:
        kwargs: arguments of the network and its components.
        variables: arrays and numbers by name, components' names before theirs.
        function: name of the function that built it.
    """

    def __init__(self, archive: Archive, network: TFNetwork, where: str, known: tuple[str, ...]) -> None:
        self.archive, self.where = archive, where
        self.kwargs: dict[str, Any] = {}
        self.variables: dict[str, Any] = {}
        self.collected = 0
        self._collect(network, "")
        names = self.variables
        if "4x4/Dense/weight" in names or "lod" in names or any(name.startswith("Grow") for name in names):
            raise SourceError(f"{where}: a ProGAN of TensorFlow, which is not read; StyleGAN2 and StyleGAN2-ADA are")
        if any(name.endswith("/StyleMod/weight") or name.startswith("synthesis/ToRGB_lod") for name in names):
            raise SourceError(f"{where}: a StyleGAN (1) of TensorFlow, which is not read; StyleGAN2 and StyleGAN2-ADA are")
        for key in self.kwargs:
            if key not in known and key not in HARMLESS:
                raise SourceError(
                    f"{where}: {key[:60]} is no setting of the published code; networks of forks with changed code are not read"
                )
        function = network.state.get("build_func_name")
        self.function = function if isinstance(function, str) else ""

    def _collect(self, network: object, prefix: str) -> None:
        """Gather arguments and variables of a network and, under ``prefix``, of its components."""
        self.collected += 1
        if not isinstance(network, TFNetwork) or self.collected > MAX_NETWORKS:
            raise SourceError(f"{self.where}: its components are no networks, or more than {MAX_NETWORKS}")
        state = network.state
        version = state.get("version")
        if type(version) is not int or (version < 4 and state.get("components")):
            shown = version if type(version) is int else "?"
            raise SourceError(f"{self.where}: a network of version {shown} of NVlabs' files; from version 4 on they are read")
        options = state.get("static_kwargs") or {}
        variables, components = state.get("variables"), state.get("components") or {}
        if not isinstance(options, dict) or not isinstance(variables, list) or not isinstance(components, dict):
            raise SourceError(f"{self.where}: static_kwargs, variables and components are not all there")
        if max(len(options), len(variables), len(components)) > MAX_VARIABLES:
            raise SourceError(f"{self.where}: more than {MAX_VARIABLES} variables or settings")
        # A component's own arguments repeat those of the whole.
        self.kwargs = {**{str(k): v for k, v in options.items()}, **self.kwargs}
        for item in variables:
            if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[0], str):
                raise SourceError(f"{self.where}: variables must be pairs of name and array")
            self.variables[prefix + item[0]] = item[1]
        for name, component in components.items():
            self._collect(component, f"{prefix}{name}/")

    def option(self, name: str, default: Any, kinds: tuple[type, ...]) -> Any:
        """An argument, or its default.

        Raises:
            SourceError: if it is not of one of these kinds.
        """
        value = self.archive.numbers(self.kwargs.get(name))
        if value is None:
            return default
        if not isinstance(value, kinds) or (isinstance(value, str) and len(value) > 40):
            raise SourceError(
                f"{self.where}: {name} is a {type(value).__name__}, must be {' or '.join(kind.__name__ for kind in kinds)}"
            )
        return value

    def integer(self, name: str, default: int) -> int:
        """An argument that is a whole number."""
        return int(self.option(name, default, (int,)))

    def check_activations(self) -> None:
        """Refuse activations and filters that regraft's StyleGAN2 does not have."""
        for name in ("nonlinearity", "mapping_nonlinearity"):
            activation = self.option(name, "lrelu", (str,))
            if activation != "lrelu":
                raise SourceError(f"{self.where}: {name} is {activation}; only lrelu is known")
        if list(self.option("resample_kernel", [1, 3, 3, 1], (list, tuple))) != [1, 3, 3, 1]:
            raise SourceError(f"{self.where}: resample_kernel must be [1, 3, 3, 1]")

    def tensors(self, rename: Callable[[str], tuple[str, Rule] | None]) -> dict[str, Tensor]:
        """All variables under the names and in the layouts that regraft has.

        Raises:
            SourceError: if one cannot be read, or has no known place.
        """
        reader = TensorReader({name: self._variable(name) for name in self.variables}, self.where)
        for name in self.variables:
            place = rename(name)
            if place is None:
                raise SourceError(f"{self.where}: the variable {name[:80]} has no place in a StyleGAN2")
            target, rule = place
            reader.move(name, target, *RANKS.get(rule, ()), layout=rule)
        return reader.finish()

    def _variable(self, name: str) -> Tensor:
        """A variable's value; numbers may stand for scalars."""
        value = self.variables[name]
        if isinstance(value, int | float):
            return torch.tensor(float(value))
        return self.archive.tensor(value, f"{self.where}: {name[:80]}")


def _generator(network: TensorFlowNetwork) -> Network:
    """Settings and tensors of a generator."""
    network.check_activations()
    tensors = network.tensors(_generator_name)
    size = network.integer("resolution", 1024)
    config = {
        "z_dim": network.integer("latent_size", 512),
        "w_dim": network.integer("dlatent_size", 512),
        "c_dim": network.integer("label_size", 0),
        "img_resolution": size,
        "img_channels": network.integer("num_channels", 3),
        "mapping_layers": network.integer("mapping_layers", 8),
        "mapping_lr": network.option("mapping_lrmul", 0.01, (int, float)),
        "embed_features": network.option("label_fmaps", None, (int,)),
        "layer_features": network.option("mapping_fmaps", None, (int,)),
        "architecture": network.option("architecture", "skip", (str,)),
        "use_noise": network.option("use_noise", True, (bool,)),
        "conv_clamp": network.option("conv_clamp", None, (int, float)),
        "channels": [
            _nvlabs.output_channels(tensors, f"synthesis.b{r}.conv1.weight", network.where)
            for r in _nvlabs.resolutions(size, network.where)
        ],
    }
    return checked_network("stylegan2", "generator", config, tensors, network.where)


def _critic(network: TensorFlowNetwork) -> Network:
    """Settings and tensors of a critic."""
    network.check_activations()
    tensors = network.tensors(_critic_name)
    size, classes = network.integer("resolution", 1024), network.integer("label_size", 0)
    sides = _nvlabs.resolutions(size, network.where)
    channels = [_nvlabs.output_channels(tensors, f"b{r}.conv1.weight", network.where) for r in sides[1:]]
    channels.append(_nvlabs.output_channels(tensors, f"b{size}.fromrgb.weight", network.where))
    features = network.option("mapping_fmaps", None, (int,))
    # The first release's critic had groups of four; ADA's takes the whole batch unless it is told.
    group = network.option("mbstd_group_size", 4 if network.function == "D_stylegan2" else None, (int,))
    if classes and network.function == "D_stylegan2":
        raise SourceError(f"{network.where}: the first StyleGAN2's critics with classes are not read")
    config = {
        "c_dim": classes,
        "img_resolution": size,
        "img_channels": network.integer("num_channels", 3),
        "channels": channels,
        "architecture": network.option("architecture", "resnet", (str,)),
        "conv_clamp": network.option("conv_clamp", None, (int, float)),
        "mapping_layers": network.integer("mapping_layers", 0),
        "mapping_lr": network.option("mapping_lrmul", 0.1, (int, float)),
        "embed_features": features,
        "layer_features": features,
        "mbstd_group_size": group,
        "mbstd_channels": network.integer("mbstd_num_features", 1),
        "cmap_dim": (features or channels[0]) if classes else 0,
    }
    return checked_network("stylegan2", "critic", config, tensors, network.where)


def _generator_name(name: str) -> tuple[str, Rule] | None:
    """New name of a generator's variable and the rule for its layout; None if it is unknown."""
    if name == "dlatent_avg":
        return "mapping.w_avg", _same
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", _first
    if match := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
        index = int(match[1])
        return f"synthesis.b{4 << (index + 1) // 2}.conv{(index + 1) % 2}.noise_const", _noise
    if match := re.fullmatch(r"mapping/(Dense(\d{1,2})|LabelEmbed)/(weight|bias)", name):
        return _dense(f"mapping.{'embed' if match[2] is None else f'fc{int(match[2])}'}", match[3])
    match = re.fullmatch(r"synthesis/(\d+)x\1/(\w+)/(\w+)", name)
    if not match or match[2] not in LAYERS or match[3] not in STYLED:
        return None
    if match[2] not in (("Conv", "ToRGB") if match[1] == "4" else ("Conv0_up", "Conv1", "ToRGB", "Skip")):
        return None
    leaf, rule = STYLED[match[3]]
    if rule is _kernel and match[2] in ("Conv0_up", "Skip"):
        rule = _flipped
    return f"synthesis.b{match[1]}.{LAYERS[match[2]]}.{leaf}", rule


def _critic_name(name: str) -> tuple[str, Rule] | None:
    """New name of a critic's variable and the rule for its layout; None if it is unknown."""
    if match := re.fullmatch(r"(LabelEmbed|Mapping(\d{1,2}))/(weight|bias)", name):
        return _dense(f"mapping.{'embed' if match[2] is None else f'fc{int(match[2])}'}", match[3])
    if match := re.fullmatch(r"(4x4/Dense0|Output)/(weight|bias)", name):
        return _dense("b4.out" if match[1] == "Output" else "b4.fc", match[2])
    match = re.fullmatch(r"(\d+)x\1/(\w+)/(weight|bias)", name)
    if not match or match[2] not in CRITIC_LAYERS or (match[2] == "Conv" and match[1] != "4"):
        return None
    return f"b{match[1]}.{CRITIC_LAYERS[match[2]]}.{match[3]}", _kernel if match[3] == "weight" else _same


def _dense(layer: str, leaf: str) -> tuple[str, Rule]:
    return f"{layer}.{leaf}", _matrix if leaf == "weight" else _same


PLUGIN = NVlabsTF()
