"""Networks of ajbrock's BigGAN-PyTorch: its names and layouts turned into those of regraft's backbones."""

from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats._tensor_reader import TensorReader
from regraft.formats.base import Network

SN_EPS, BN_EPS = 1e-6, 1e-5


class BigGANReader(TensorReader):
    """Moves whole layers, spectral vectors included.

    Attributes:
        spectral: whether layers are spectrally normalised.
        notes: what had to be assumed.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        super().__init__(tensors, where)
        self.notes: list[str] = []
        self.spectral = "linear.u0" in self
        # Further singular vectors (num_SVs above 1) and the logged values do not enter the weights.
        self.ignore(r".*\.sv\d+", r".*\.u[1-9]\d*", r".*\.num_batches_tracked")

    def layer(self, name: str, target: str, dims: int, bias: bool = True) -> None:
        """Move a convolution (4 dimensions), linear layer or table (2)."""
        weight = self.take(f"{name}.weight", dims)
        self.put(f"{target}.weight", weight, f"{name}.weight")
        if self.spectral:
            self.move(f"{name}.u0", f"{target}.u", 2, layout=torch.flatten)
            # This dialect computes v afresh from u; zeros keep the digest the same on every machine.
            self.put(f"{target}.v", torch.zeros(weight[0].numel()))
        if bias:
            self.move(f"{name}.bias", f"{target}.bias", 1)

    def statistics(self, name: str, target: str) -> None:
        """Move a norm's mean and variance, under whichever of three names the training options gave them."""
        kinds = ("stored_mean", "bn.stored_mean", "bn.running_mean")
        kind = next((k for k in kinds if f"{name}.{k}" in self), kinds[0])
        mean = self.take(f"{name}.{kind}", 1)
        var = self.take(f"{name}.{kind.replace('mean', 'var')}", 1)
        if f"{name}.bn.accumulation_counter" in self:
            batches = self.number(f"{name}.bn.accumulation_counter").item()
            if batches > 0:
                mean, var = mean / batches, var / batches
                self.notes.append(f"batch statistics were saved as sums over {batches:g} batches; their mean is used")
        self.put(f"{target}.running_mean", mean)
        self.put(f"{target}.running_var", var)
        self.put(f"{target}.num_batches_tracked", torch.tensor(0))

    def norm(self, name: str, target: str, shared: bool) -> None:
        """Move a conditional norm; a table of gains is stored as 1 + gain beside the shifts."""
        if shared:
            self.layer(f"{name}.gain", f"{target}.gain", 2, bias=False)
            self.layer(f"{name}.bias", f"{target}.bias", 2, bias=False)
        else:
            gain, bias = self.take(f"{name}.gain.weight", 2), self.take(f"{name}.bias.weight", 2)
            if gain.shape != bias.shape:
                raise SourceError(f"{self.where}: {name} has gains {tuple(gain.shape)} and biases {tuple(bias.shape)}")
            self.put(f"{target}.codes", torch.cat([1 + gain, bias], dim=1))
        self.statistics(name, f"{target}.norm")

    def attention(self, name: str, target: str) -> bool:
        """Move self-attention if there is any at ``name``; returns whether there is."""
        if f"{name}.gamma" not in self:
            return False
        for layer in ("theta", "phi", "g", "o"):
            self.layer(f"{name}.{layer}", f"{target}.{layer}", 4, bias=False)
        self.put(f"{target}.gamma", self.number(f"{name}.gamma"))
        return True

    def output_layer(self) -> None:
        """Move the generator's last norm and convolution."""
        for leaf, target in (("gain", "weight"), ("bias", "bias")):
            self.move(f"output_layer.0.{leaf}", f"exit.norm.{target}", 1)
        self.statistics("output_layer.0", "exit.norm")
        self.layer("output_layer.2", "exit.conv", 4)

    def head(self) -> int:
        """Move the critic's last layers; returns the number of classes, 0 for none."""
        self.layer("linear", "head.linear", 2)
        if "embed.weight" not in self:
            return 0
        n_classes = self.shape("embed.weight", 2)[0]
        self.layer("embed", "head.classes", 2, bias=False)
        return n_classes


def check_chain(blocks: list[dict[str, Any]], where: str) -> None:
    """Check that each block takes what the one before gives.

    Raises:
        SourceError: naming the first that does not.
    """
    if not blocks:
        raise SourceError(f"{where}: holds no blocks")
    for index, (a, b) in enumerate(zip(blocks, blocks[1:], strict=False)):
        if a["outputs"] != b["inputs"]:
            raise SourceError(f"{where}: block {index} gives {a['outputs']} channels, and the next one takes {b['inputs']}")


def read_generator(reader: BigGANReader) -> tuple[Network, int, list[str]]:
    """Read the generator of ``BigGAN.py``; returns it, the side of its images and what had to be assumed."""
    where = reader.where
    numbers = reader.numbered("blocks.{}.0.conv1.weight", most=10)
    linear = reader.shape("linear.weight", 2)
    cond = reader.shape("blocks.0.0.bn1.gain.weight", 2)
    shared = "shared.weight" in reader
    n_classes, class_dim = reader.shape("shared.weight", 2) if shared else (cond[0], 0)
    hierarchical = shared and cond[1] != class_dim
    if hierarchical and cond[1] != class_dim + linear[1]:
        raise SourceError(
            f"{where}: norms take {cond[1]} numbers, neither the class's {class_dim} nor those and a chunk of {linear[1]}"
        )
    blocks = []
    for index in numbers:
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        outputs, inputs = reader.shape(f"{name}.conv1.weight", 4)[:2]
        for number in (1, 2):
            reader.layer(f"{name}.conv{number}", f"{target}.conv{number}", 4)
            reader.norm(f"{name}.bn{number}", f"{target}.norm{number}", shared)
        reader.layer(f"{name}.conv_sc", f"{target}.shortcut", 4)
        attention = reader.attention(f"blocks.{index}.1", f"{target}.attention")
        blocks.append({"inputs": inputs, "outputs": outputs, "attention": attention})
    check_chain(blocks, where)
    side = reader.square_side(linear[0], blocks[0]["inputs"], "linear.weight")
    channels = reader.shape("output_layer.2.weight", 4)[0]
    reader.layer("linear", "entry.linear", 2)
    if shared:
        reader.move("shared.weight", "entry.shared.weight", 2)
    reader.output_layer()
    config = {
        "chunk": linear[1],
        "hierarchical": hierarchical,
        "n_classes": n_classes,
        "class_dim": class_dim,
        "side": side,
        "blocks": blocks,
        "channels": channels,
        "spectral": reader.spectral,
        "bn_eps": BN_EPS,
        "sn_eps": SN_EPS,
    }
    return reader.network("biggan", "generator", config), side << len(numbers), _assumptions(reader)


def read_critic(reader: BigGANReader, size: int) -> Network:
    """Read the critic of ``BigGAN.py`` for images of side ``size``."""
    where = reader.where
    blocks: list[dict[str, Any]] = []
    side = size
    for index in reader.numbered("blocks.{}.0.conv1.weight"):
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        hidden, inputs = reader.shape(f"{name}.conv1.weight", 4)[:2]
        outputs = reader.shape(f"{name}.conv2.weight", 4)[0]
        learned = f"{name}.conv_sc.weight" in reader
        # A learned shortcut means another width, or half the side; every published network stops at 4 px or before.
        halve = learned and (inputs == outputs or side > 4)
        side = side // 2 if halve else side
        for part, renamed in (("conv1", "conv1"), ("conv2", "conv2"), ("conv_sc", "shortcut")):
            if part != "conv_sc" or learned:
                reader.layer(f"{name}.{part}", f"{target}.{renamed}", 4)
        attention = reader.attention(f"blocks.{index}.1", f"{target}.attention")
        blocks.append({"inputs": inputs, "hidden": hidden, "outputs": outputs, "downsample": halve, "attention": attention})
    check_chain(blocks, where)
    if side < 1:
        raise SourceError(f"{where}: its blocks leave nothing of images of {size} px")
    config = {
        "size": size,
        "channels": blocks[0]["inputs"],
        "blocks": blocks,
        "n_classes": reader.head(),
        "spectral": reader.spectral,
        "sn_eps": SN_EPS,
    }
    return reader.network("biggan", "critic", config)


def read_deep_generator(reader: BigGANReader) -> tuple[Network, int, list[str]]:
    """Read the generator of ``BigGANdeep.py``; returns the same as :func:`read_generator`."""
    where = reader.where
    numbers = reader.numbered("blocks.{}.0.conv1.weight")
    depth = 1 if len(numbers) % 2 else 2
    n_classes, class_dim = reader.shape("shared.weight", 2)
    linear = reader.shape("linear.weight", 2)
    latent_dim = linear[1] - class_dim
    if latent_dim < 1:
        raise SourceError(f"{where}: linear.weight takes {linear[1]} numbers, which leaves none beside a class of {class_dim}")
    blocks = []
    for index in numbers:
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        hidden, inputs = reader.shape(f"{name}.conv1.weight", 4)[:2]
        outputs = reader.shape(f"{name}.conv4.weight", 4)[0]
        for number in range(4):
            reader.layer(f"{name}.conv{number + 1}", f"{target}.convs.{number}", 4)
            reader.norm(f"{name}.bn{number + 1}", f"{target}.norms.{number}", shared=True)
        attention = reader.attention(f"blocks.{index}.1", f"{target}.attention")
        blocks.append(
            {
                "inputs": inputs,
                "hidden": hidden,
                "outputs": outputs,
                "resample": index % depth == depth - 1,
                "attention": attention,
            }
        )
    check_chain(blocks, where)
    side = reader.square_side(linear[0], blocks[0]["inputs"], "linear.weight")
    channels = reader.shape("output_layer.2.weight", 4)[0]
    reader.layer("linear", "entry.linear", 2)
    reader.move("shared.weight", "entry.shared.weight", 2)
    reader.output_layer()
    _put_class_last(reader.tensors, class_dim, linear[1], where)
    config = {
        "latent_dim": latent_dim,
        "n_classes": n_classes,
        "class_dim": class_dim,
        "side": side,
        "blocks": blocks,
        "channels": channels,
        "rows": channels,
        "spectral": "fresh" if reader.spectral else "none",
        "bn_eps": BN_EPS,
        "sn_eps": SN_EPS,
    }
    notes = [f"{depth} blocks per doubling of the side assumed", *_assumptions(reader)]
    return reader.network("biggan_deep", "generator", config), side << (len(numbers) // depth), notes


def _put_class_last(tensors: dict[str, Tensor], class_dim: int, width: int, where: str) -> None:
    """Reorder the inputs of layers that take both: from class, latent (the file) to latent, class (the network)."""
    for name, value in tensors.items():
        if name == "entry.linear.weight" or (".norms." in name and name.endswith((".gain.weight", ".bias.weight"))):
            if value.shape[1] != width:
                raise SourceError(f"{where}: a norm takes {value.shape[1]} numbers, and the first layer {width}")
            tensors[name] = torch.cat([value[:, class_dim:], value[:, :class_dim]], dim=1)


def read_deep_critic(reader: BigGANReader, size: int) -> Network:
    """Read the critic of ``BigGANdeep.py`` for images of side ``size``."""
    where = reader.where
    stem, channels = reader.shape("input_conv.weight", 4)[:2]
    stages = len(reader.numbered("blocks.{}.0.conv1.weight"))
    # The 32 px network keeps its width and halves the side in two of three stages; the others in all.
    plain = not any(name.endswith(".conv_sc.weight") for name in reader.unused)
    halvings = 2 if plain and stages == 3 and size == 32 else stages
    blocks: list[dict[str, Any]] = []
    reader.layer("input_conv", "stem", 4)
    for stage in range(stages):
        depth = len(reader.numbered(f"blocks.{stage}.{{}}.conv1.weight"))
        for step in range(depth):
            name, target = f"blocks.{stage}.{step}", f"blocks.{len(blocks)}"
            hidden, inputs = reader.shape(f"{name}.conv1.weight", 4)[:2]
            outputs = reader.shape(f"{name}.conv4.weight", 4)[0]
            for number in range(4):
                reader.layer(f"{name}.conv{number + 1}", f"{target}.convs.{number}", 4)
            if f"{name}.conv_sc.weight" in reader:
                reader.layer(f"{name}.conv_sc", f"{target}.shortcut", 4)
            attention = step == depth - 1 and reader.attention(f"blocks.{stage}.{depth}", f"{target}.attention")
            halve = step == 0 and stage < halvings
            blocks.append({"inputs": inputs, "hidden": hidden, "outputs": outputs, "resample": halve, "attention": attention})
    check_chain(blocks, where)
    if blocks[0]["inputs"] != stem:
        raise SourceError(f"{where}: input_conv gives {stem} channels, and the first block takes {blocks[0]['inputs']}")
    if size >> halvings < 1:
        raise SourceError(f"{where}: its {halvings} halvings leave nothing of images of {size} px")
    config = {
        "size": size,
        "channels": channels,
        "stem": stem,
        "blocks": blocks,
        "n_classes": reader.head(),
        "spectral": "fresh" if reader.spectral else "none",
        "sn_eps": SN_EPS,
    }
    return reader.network("biggan_deep", "critic", config)


def _assumptions(reader: BigGANReader) -> list[str]:
    return [
        "The activations are assumed to be relu: the file does not say it.",
        f"epsilons assumed: {BN_EPS:g} of batch norms, {SN_EPS:g} of spectral norms",
        *dict.fromkeys(reader.notes),
    ]
