"""TensorFlow 1 checkpoints of TransferGAN's WGAN-GP ResNet: ``wgan-gp.model.index`` with its data file, or one V1 file.

Variables are known by the part of their name after the last ``/``; what stands before depends on how a graph was rebuilt.
"""

import dataclasses
import re
from collections.abc import Callable

import torch
from torch import Tensor

from regraft.core import norms
from regraft.core.build import build_with
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.core.networks import Generator
from regraft.files.digests import sha256
from regraft.formats._tensor_reader import TensorReader
from regraft.formats._tensorflow import Checkpoint, open_checkpoint, table_of
from regraft.formats.base import Format, Network, Parsed, Probe, optional_critic, reproducible

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
        """Whether it is a TensorFlow checkpoint of any kind: regraft reads no other format of them."""
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
        checkpoint = open_checkpoint(table)
        tensors = _by_last_name(checkpoint)
        critic_tensors = {name: tensors.pop(name) for name in list(tensors) if name.startswith("Discriminator.")}
        reader = VariableReader(tensors, str(table))
        generator = _generator(reader)

        def read_critic() -> Network | None:
            if not critic_tensors:
                return None
            critic = _critic(VariableReader(critic_tensors, str(table)))
            if critic.description.config["size"] != _image_size(generator):
                raise SourceError(f"{table}: generator and critic are of different image sizes")
            return critic

        stored = _with_statistics(generator, str(table))
        notes = [
            f"sampling uses batch statistics measured once over {CALIBRATION} latents; generator(z) uses those of its batch, "
            "as its authors do"
        ]
        critic = optional_critic(read_critic, notes)
        if reader.has_moving_averages:
            notes.append("the moving averages in the file are not used: the authors never do")
        files = {path.name: sha256(path) for path in checkpoint.files}
        name = table.name.removesuffix(".index")
        return Parsed(stored, critic, Provenance(name=name, format=self.name, files=files, assumptions=tuple(notes)))


def _by_last_name(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the last part of their names, optimiser slots and counters aside.

    Raises:
        SourceError: if two have the same, or none is the input of TransferGAN's generator.
    """
    full: dict[str, str] = {}
    for name in checkpoint.headers:
        tail = name.rpartition("/")[2]
        if SKIPPED.fullmatch(tail):
            continue
        if tail in full:
            raise SourceError(f"{checkpoint.path}: {full[tail]} and {name} are the same variable")
        full[tail] = name
    if "Generator.Input.W" not in full:
        names = ", ".join(sorted(full)[:4]) or "no variables"
        raise SourceError(f"{checkpoint.path}: a TensorFlow checkpoint without TransferGAN's Generator.Input.W; it has {names}")
    tensors = checkpoint.tensors(list(full.values()))
    return {tail: tensors[name] for tail, name in full.items()}


class VariableReader(TensorReader):
    """Moves whole layers out of TensorFlow's layouts.

    Attributes:
        has_moving_averages: whether a batch norm has moving averages that are not those of a fresh network.
    """

    has_moving_averages = False

    def convolution(self, name: str, target: str, bias: bool = True) -> None:
        """Move a convolution; kernels are stored (height, width, in, out)."""
        self.move(f"{name}.Filters", f"{target}.weight", 4, layout=lambda kernel: kernel.permute(3, 2, 0, 1))
        if bias:
            self.move(f"{name}.Biases", f"{target}.bias", 1)

    def linear(self, name: str, target: str) -> None:
        """Move a linear layer; weights are stored (in, out)."""
        self.move(f"{name}.W", f"{target}.weight", 2, layout=torch.t)
        self.move(f"{name}.b", f"{target}.bias", 1)

    def layer_norm(self, name: str, target: str) -> None:
        """Move gain and shift per channel."""
        self.move(f"{name}.scale", f"{target}.weight", 1)
        self.move(f"{name}.offset", f"{target}.bias", 1)

    def batch_norm(self, name: str, target: str) -> None:
        """Move gain and shift per channel, or per class and channel; the authors never use the moving averages beside them."""
        gain, shift = self.take(f"{name}.scale", 1, 2), self.take(f"{name}.offset", 1, 2)
        if gain.shape != shift.shape:
            raise SourceError(f"{self.where}: {name} has gains {tuple(gain.shape)} and shifts {tuple(shift.shape)}")
        for kind, start in (("moving_mean", 0.0), ("moving_variance", 1.0)):
            if f"{name}.{kind}" in self:
                self.has_moving_averages |= bool((self.take(f"{name}.{kind}", 1) != start).any())
        norm, channels = target, gain.shape[-1]
        if gain.dim() == 2:
            self.put(f"{target}.codes", torch.cat([gain, shift], dim=1))
            norm = f"{target}.norm"
        else:
            self.put(f"{target}.weight", gain)
            self.put(f"{target}.bias", shift)
        self.put(f"{norm}.running_mean", torch.zeros(channels))
        self.put(f"{norm}.running_var", torch.ones(channels))
        self.put(f"{norm}.num_batches_tracked", torch.tensor(0))

    def blocks(self, network: str, norm: Callable[[str, str], None]) -> list[int]:
        """Move a network's residual blocks; returns the channels that each makes.

        Raises:
            SourceError: if there are none.
        """
        widths = []
        for k in self.numbered(f"{network}.Res{{}}.Conv1.Filters", first=1, most=MOST_BLOCKS):
            name, target = f"{network}.Res{k}", f"blocks.{k - 1}"
            widths.append(self.shape(f"{name}.Conv2.Filters", 4)[3])
            for number in (1, 2):
                norm(f"{name}.BN{number}", f"{target}.norm{number}")
            self.convolution(f"{name}.Conv1", f"{target}.conv1", bias=False)
            self.convolution(f"{name}.Conv2", f"{target}.conv2")
            self.convolution(f"{name}.Shortcut", f"{target}.shortcut")
        return widths


def _generator(reader: VariableReader) -> Network:
    """Move the generator's variables; settings follow from their shapes."""
    first_width = reader.shape("Generator.Res1.Conv1.Filters", 4)[2]
    reader.linear("Generator.Input", "input")
    widths = [first_width, *reader.blocks("Generator", reader.batch_norm)]
    reader.batch_norm("Generator.OutputN", "output.norm")
    reader.convolution("Generator.Output", "output.conv")
    numbers, latent_dim = reader.tensors["input.weight"].shape
    base = reader.square_side(numbers, widths[0], "Generator.Input")
    largest = max(width * base * base << 2 * k for k, width in enumerate(widths))
    if largest > LARGEST_MAP:
        raise SourceError(f"{reader.where}: maps of {largest} numbers per image; at most {LARGEST_MAP} are read")
    codes = reader.tensors.get("blocks.0.norm1.codes")
    config = {
        "latent_dim": latent_dim,
        "base": [base, base],
        "widths": widths,
        "channels": reader.tensors["output.conv.weight"].shape[0],
        "n_classes": 0 if codes is None else len(codes),
        "last_norm_by_class": "output.norm.codes" in reader.tensors,
    }
    return reader.network("wgangp_resnet", "generator", config)


def _critic(reader: VariableReader) -> Network:
    """Move the critic's variables; settings follow from their shapes."""
    reader.convolution("Discriminator.Input", "input")
    width, channels = reader.tensors["input.weight"].shape[:2]
    widths = [width, *reader.blocks("Discriminator", reader.layer_norm)]
    reader.linear("Discriminator.Output", "output")
    n_classes = 0
    if "Discriminator.ACGANOutput.W" in reader:
        reader.linear("Discriminator.ACGANOutput", "classifier")
        n_classes = len(reader.tensors["classifier.bias"])
    side = reader.square_side(reader.tensors["output.weight"].shape[1], widths[-1], "Discriminator.Output")
    side <<= len(widths) - 1
    config = {"size": [side, side], "widths": widths, "channels": channels, "n_classes": n_classes}
    return reader.network("wgangp_resnet", "critic", config)


def _image_size(generator: Network) -> list[int]:
    """Height and width of a generator's images."""
    config = generator.description.config
    return [side << (len(config["widths"]) - 1) for side in config["base"]]


def _with_statistics(network: Network, where: str) -> Network:
    """The network with batch statistics measured in double precision, so that they are the same on every machine."""
    generator = build_with(network.description, network.tensors, where).double()
    if isinstance(generator, Generator):
        norms.calibrate(generator, n=CALIBRATION)
    measured = {k: reproducible(v) for k, v in generator.state_dict().items() if k.endswith(("running_mean", "running_var"))}
    return dataclasses.replace(network, tensors=network.tensors | measured)


PLUGIN = TransferGAN()
