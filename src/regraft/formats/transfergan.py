"""TensorFlow 1 checkpoints of TransferGAN's WGAN-GP ResNet: ``wgan-gp.model.index`` with its data file, or one V1 file.

Variables are known by the part of their name after the last ``/``; what stands before depends on how a graph was rebuilt.
"""

import math
import re
from typing import Any

import torch
from torch import Tensor

from regraft.backbones.base import Backbone
from regraft.core import norms
from regraft.core.build import build_with
from regraft.core.config import parse
from regraft.core.discover import plugin
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.core.networks import Description, Generator
from regraft.formats._tensorflow import Checkpoint, opened, table_of
from regraft.formats.base import Format, Network, Parsed, Probe, reproducible, sha256

# Optimiser slots and counters of continued runs.
SKIPPED = re.compile(r"Adam(_\d+)?|beta[12]_power(_\d+)?|global_step")
MOST_BLOCKS = 8
LARGEST_MAP = 1 << 22  # numbers per image between two layers: eight times the published 64x64 network's
CALIBRATION = 64  # latents: the authors sample, and so normalise, 64 at a time


class TransferGAN(Format):
    """TransferGAN's checkpoints."""

    name = "transfergan"
    order = 60

    def matches(self, probe: Probe) -> bool:
        """Any TensorFlow table: regraft reads no other kind of TensorFlow checkpoint."""
        try:
            return table_of(probe.path) is not None
        except SourceError:
            return True  # a folder with several; reading says so
        except OSError:
            return False

    def read(self, probe: Probe) -> Parsed:
        """Read generator and critic, and measure the statistics that sampling uses."""
        table = table_of(probe.path)
        if table is None:
            raise SourceError(f"{probe.path}: no TensorFlow checkpoint")
        checkpoint = opened(table)
        variables = _Variables(checkpoint)
        generator = _generator(variables)
        critic = _critic(variables) if any(name.startswith("Discriminator.") for name in variables.left) else None
        variables.finish()
        if critic and critic.description.config["size"] != _image_size(generator):
            raise SourceError(f"{table}: generator and critic are of different image sizes")
        stored = _with_statistics(generator, str(table))
        notes = [
            f"sampling uses batch statistics measured once over {CALIBRATION} latents; generator(z) uses those of its batch, "
            "as its authors do"
        ]
        if critic is None:
            notes.append("no critic found")
        if variables.moved:
            notes.append("the moving averages in the file are not used: the authors never do")
        files = {path.name: sha256(path) for path in checkpoint.files}
        name = table.name.removesuffix(".index")
        return Parsed(stored, critic, Provenance(name=name, format=self.name, files=files, assumptions=tuple(notes)))


class _Variables:
    """Tensors of a checkpoint by the last part of their names, taken one by one."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.where = str(checkpoint.path)
        full: dict[str, str] = {}
        for name in checkpoint.headers:
            tail = name.rpartition("/")[2]
            if SKIPPED.fullmatch(tail):
                continue
            if tail in full:
                raise SourceError(f"{self.where}: {full[tail]} and {name} are the same variable")
            full[tail] = name
        if "Generator.Input.W" not in full:
            have = ", ".join(sorted(full)[:4]) or "no variables"
            raise SourceError(f"{self.where}: a TensorFlow checkpoint without TransferGAN's Generator.Input.W; it has {have}")
        found = checkpoint.tensors(list(full.values()))
        self.left = {tail: found[name] for tail, name in full.items()}
        self.moved = False

    def take(self, name: str, *dims: int) -> Tensor:
        """Take a tensor of as many dimensions as one of ``dims``."""
        if name not in self.left:
            raise SourceError(f"{self.where}: {name} is missing")
        value = self.left.pop(name)
        if value.dim() not in dims or not value.numel():
            raise SourceError(
                f"{self.where}: {name} is {tuple(value.shape)}, must have {' or '.join(map(str, dims))} dimensions"
            )
        return value

    def conv(self, name: str, bias: bool = True) -> dict[str, Tensor]:
        """A convolution; kernels are stored (height, width, in, out)."""
        kernel = self.take(f"{name}.Filters", 4).permute(3, 2, 0, 1).contiguous()
        return {"weight": kernel} | ({"bias": self.take(f"{name}.Biases", 1)} if bias else {})

    def linear(self, name: str) -> dict[str, Tensor]:
        """A linear layer; weights are stored (in, out)."""
        return {"weight": self.take(f"{name}.W", 2).t().contiguous(), "bias": self.take(f"{name}.b", 1)}

    def layer_norm(self, name: str) -> dict[str, Tensor]:
        """Gain and shift per channel."""
        return {"weight": self.take(f"{name}.scale", 1), "bias": self.take(f"{name}.offset", 1)}

    def batch_norm(self, name: str) -> dict[str, Tensor]:
        """Gain and shift per channel, or per class and channel; the authors never use the moving averages beside them."""
        gain, shift = self.take(f"{name}.scale", 1, 2), self.take(f"{name}.offset", 1, 2)
        if gain.shape != shift.shape:
            raise SourceError(f"{self.where}: {name} has gains {tuple(gain.shape)} and shifts {tuple(shift.shape)}")
        for kind, start in (("moving_mean", 0.0), ("moving_variance", 1.0)):
            if f"{name}.{kind}" in self.left:
                self.moved |= bool((self.take(f"{name}.{kind}", 1) != start).any())
        if gain.dim() == 2:
            return {"codes": torch.cat([gain, shift], dim=1)} | _statistics("norm.", gain.shape[1])
        return {"weight": gain, "bias": shift} | _statistics("", gain.shape[0])

    def blocks(self, network: str) -> list[str]:
        """Names of a network's residual blocks, in order."""
        found = [f"{network}.Res{k}" for k in range(1, MOST_BLOCKS + 1) if f"{network}.Res{k}.Conv1.Filters" in self.left]
        if not found:
            raise SourceError(f"{self.where}: {network} has no residual blocks")
        return found

    def base(self, numbers: int, channels: int, network: str) -> int:
        """Side of the square map that a linear layer makes or takes."""
        side = math.isqrt(numbers // channels)
        if side * side * channels != numbers:
            raise SourceError(
                f"{self.where}: {network}'s linear layer has {numbers} numbers, no square map of {channels} channels"
            )
        return side

    def finish(self) -> None:
        """Refuse variables that nothing took."""
        if self.left:
            names = ", ".join(sorted(self.left)[:3])
            raise SourceError(f"{self.where}: {len(self.left)} variables belong to no layer of TransferGAN's networks: {names}")


def _statistics(prefix: str, channels: int) -> dict[str, Tensor]:
    made = {"running_mean": torch.zeros(channels), "running_var": torch.ones(channels)}
    return {prefix + k: v for k, v in made.items()} | {f"{prefix}num_batches_tracked": torch.tensor(0)}


def _generator(variables: _Variables) -> Network:
    tensors = _under("input", variables.linear("Generator.Input"))
    for k, block in enumerate(variables.blocks("Generator")):
        tensors |= _block(variables, block, f"blocks.{k}", variables.batch_norm)
    last = variables.batch_norm("Generator.OutputN")
    tensors |= _under("output.norm", last) | _under("output.conv", variables.conv("Generator.Output"))
    widths = _widths(tensors, input_side=tensors["blocks.0.conv1.weight"].shape[1])
    first = tensors.get("blocks.0.norm1.codes")
    base = variables.base(tensors["input.weight"].shape[0], widths[0], "the generator")
    largest = max(width * base * base << 2 * k for k, width in enumerate(widths))
    if largest > LARGEST_MAP:
        raise SourceError(f"{variables.where}: maps of {largest} numbers per image; at most {LARGEST_MAP} are read")
    config = {
        "latent_dim": tensors["input.weight"].shape[1],
        "base": [base, base],
        "widths": widths,
        "channels": tensors["output.conv.weight"].shape[0],
        "n_classes": 0 if first is None else len(first),
        "last_norm_by_class": "codes" in last,
    }
    return _network(variables.where, "generator", config, tensors)


def _critic(variables: _Variables) -> Network:
    tensors = _under("input", variables.conv("Discriminator.Input"))
    blocks = variables.blocks("Discriminator")
    for k, block in enumerate(blocks):
        tensors |= _block(variables, block, f"blocks.{k}", variables.layer_norm)
    tensors |= _under("output", variables.linear("Discriminator.Output"))
    if "Discriminator.ACGANOutput.W" in variables.left:
        tensors |= _under("classifier", variables.linear("Discriminator.ACGANOutput"))
    widths = _widths(tensors, input_side=tensors["input.weight"].shape[0])
    side = variables.base(tensors["output.weight"].shape[1], widths[-1], "the critic") << len(blocks)
    config = {
        "size": [side, side],
        "widths": widths,
        "channels": tensors["input.weight"].shape[1],
        "n_classes": len(tensors["classifier.bias"]) if "classifier.bias" in tensors else 0,
    }
    return _network(variables.where, "critic", config, tensors)


def _block(variables: _Variables, theirs: str, ours: str, norm: Any) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for k in (1, 2):
        tensors |= _under(f"{ours}.norm{k}", norm(f"{theirs}.BN{k}"))
    tensors |= _under(f"{ours}.conv1", variables.conv(f"{theirs}.Conv1", bias=False))
    tensors |= _under(f"{ours}.conv2", variables.conv(f"{theirs}.Conv2"))
    return tensors | _under(f"{ours}.shortcut", variables.conv(f"{theirs}.Shortcut"))


def _widths(tensors: dict[str, Tensor], input_side: int) -> list[int]:
    ends = [value.shape[0] for name, value in tensors.items() if name.endswith("conv2.weight")]
    return [input_side, *ends]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _network(where: str, role: Any, config: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    backbone = plugin("backbones", "wgangp_resnet", Backbone)
    model = {"generator": backbone.GeneratorConfig, "critic": backbone.CriticConfig}[role]
    try:
        checked = parse(model, config, where)
    except ConfigError as error:
        raise SourceError(str(error)) from None
    return Network(Description("wgangp_resnet", role, checked.model_dump(mode="json")), tensors)


def _image_size(generator: Network) -> list[int]:
    config = generator.description.config
    return [side << (len(config["widths"]) - 1) for side in config["base"]]


def _with_statistics(network: Network, where: str) -> Network:
    """The network with measured batch statistics; in double precision, so that they are the same on every machine."""
    generator = build_with(network.description, network.tensors, where).double()
    if isinstance(generator, Generator):
        norms.calibrate(generator, n=CALIBRATION)
    measured = {k: reproducible(v) for k, v in generator.state_dict().items() if k.endswith(("running_mean", "running_var"))}
    return Network(network.description, network.tensors | measured)


PLUGIN = TransferGAN()
