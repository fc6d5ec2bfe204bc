"""Names of ajbrock's BigGAN-PyTorch, turned into those of the networks."""

import math
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.networks import Description
from regraft.formats._tensors import Taker
from regraft.formats.base import Network

SN_EPS, BN_EPS = 1e-6, 1e-5


class Renaming:
    """Tensors of one file on their way to a network; layers are moved whole, spectral vectors included."""

    def __init__(self, source: Taker) -> None:
        self.source = source
        self.made: dict[str, Tensor] = {}
        self.notes: list[str] = []
        self.spectral = "linear.u0" in source
        # Further singular vectors (num_SVs above 1) and the logged values do not enter the weights.
        source.drop(r".*\.sv\d+")
        source.drop(r".*\.u[1-9]\d*")
        source.drop(r".*\.num_batches_tracked")

    def layer(self, name: str, target: str, dims: int, bias: bool = True) -> None:
        """Move a convolution (4 dimensions), linear layer or table (2)."""
        weight = self.source.take(f"{name}.weight", dims)
        self.made[f"{target}.weight"] = weight
        if self.spectral:
            self.made[f"{target}.u"] = self.source.take(f"{name}.u0", 2).flatten()
            # This dialect computes v afresh from u; zeros keep the digest the same on every machine.
            self.made[f"{target}.v"] = torch.zeros(weight[0].numel())
        if bias:
            self.made[f"{target}.bias"] = self.source.take(f"{name}.bias", 1)

    def statistics(self, name: str, target: str) -> None:
        """Move a norm's mean and variance, under whichever of three names the training options gave them."""
        source = self.source
        kinds = ("stored_mean", "bn.stored_mean", "bn.running_mean")
        kind = next((k for k in kinds if f"{name}.{k}" in source), kinds[0])
        mean = source.take(f"{name}.{kind}", 1)
        var = source.take(f"{name}.{kind.replace('mean', 'var')}", 1)
        if f"{name}.bn.accumulation_counter" in source:
            counted = source.number(f"{name}.bn.accumulation_counter").item()
            if counted > 0:
                mean, var = mean / counted, var / counted
                self.notes.append(f"batch statistics were saved as sums over {counted:g} batches; their mean is used")
        self.made[f"{target}.running_mean"], self.made[f"{target}.running_var"] = mean, var
        self.made[f"{target}.num_batches_tracked"] = torch.tensor(0)

    def norm(self, name: str, target: str, shared: bool) -> None:
        """Move a conditional norm; a table of gains is stored as 1 + gain beside the shifts."""
        if shared:
            self.layer(f"{name}.gain", f"{target}.gain", 2, bias=False)
            self.layer(f"{name}.bias", f"{target}.bias", 2, bias=False)
        else:
            gain, bias = self.source.take(f"{name}.gain.weight", 2), self.source.take(f"{name}.bias.weight", 2)
            if gain.shape != bias.shape:
                raise SourceError(f"{self.source.where}: {name} has gains {tuple(gain.shape)} and biases {tuple(bias.shape)}")
            self.made[f"{target}.codes"] = torch.cat([1 + gain, bias], dim=1)
        self.statistics(name, f"{target}.norm")

    def attention(self, name: str, target: str) -> bool:
        """Move self-attention if there is any at ``name``."""
        if f"{name}.gamma" not in self.source:
            return False
        for part in ("theta", "phi", "g", "o"):
            self.layer(f"{name}.{part}", f"{target}.{part}", 4, bias=False)
        self.made[f"{target}.gamma"] = self.source.number(f"{name}.gamma")
        return True

    def exit(self) -> None:
        """Move the generator's last norm and convolution."""
        for leaf, target in (("gain", "weight"), ("bias", "bias")):
            self.made[f"exit.norm.{target}"] = self.source.take(f"output_layer.0.{leaf}", 1)
        self.statistics("output_layer.0", "exit.norm")
        self.layer("output_layer.2", "exit.conv", 4)

    def head(self) -> int:
        """Move the critic's end; returns the number of classes."""
        self.layer("linear", "head.linear", 2)
        if "embed.weight" not in self.source:
            return 0
        n_classes = self.source.shape("embed.weight", 2)[0]
        self.layer("embed", "head.classes", 2, bias=False)
        return n_classes

    def network(self, kind: str, role: Any, config: dict[str, Any]) -> Network:
        """What has been moved, as a network of a backbone.

        Raises:
            SourceError: if tensors are left.
        """
        self.source.finish()
        return Network(Description(kind, role, config), self.made)


def side_of(linear: torch.Size, channels: int, where: str) -> int:
    """Side of the map that a generator's first layer makes.

    Raises:
        SourceError: if its outputs are no square map.
    """
    side = math.isqrt(linear[0] // channels)
    if side * side * channels != linear[0]:
        raise SourceError(f"{where}: linear.weight has {linear[0]} outputs, no square map of {channels} channels")
    return side


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


def read_generator(source: Taker) -> tuple[Network, int, list[str]]:
    """Read the generator of ``BigGAN.py``; returns it, its side and what had to be assumed."""
    move, where = Renaming(source), source.where
    count = source.count("blocks.{}.0.conv1.weight")
    if not 1 <= count <= 10:
        raise SourceError(f"{where}: has {count} generator blocks, must have 1 to 10")
    linear = source.shape("linear.weight", 2)
    cond = source.shape("blocks.0.0.bn1.gain.weight", 2)
    shared = "shared.weight" in source
    n_classes, class_dim = source.shape("shared.weight", 2) if shared else (cond[0], 0)
    hierarchical = shared and cond[1] != class_dim
    if hierarchical and cond[1] != class_dim + linear[1]:
        raise SourceError(
            f"{where}: norms take {cond[1]} numbers, neither the class's {class_dim} nor those and a chunk of {linear[1]}"
        )
    blocks = []
    for index in range(count):
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        outputs, inputs = source.shape(f"{name}.conv1.weight", 4)[:2]
        for number in (1, 2):
            move.layer(f"{name}.conv{number}", f"{target}.conv{number}", 4)
            move.norm(f"{name}.bn{number}", f"{target}.norm{number}", shared)
        move.layer(f"{name}.conv_sc", f"{target}.shortcut", 4)
        attention = move.attention(f"blocks.{index}.1", f"{target}.attention")
        blocks.append({"inputs": inputs, "outputs": outputs, "attention": attention})
    check_chain(blocks, where)
    side = side_of(linear, blocks[0]["inputs"], where)
    channels = source.shape("output_layer.2.weight", 4)[0]
    move.layer("linear", "entry.linear", 2)
    if shared:
        move.made["entry.shared.weight"] = source.take("shared.weight", 2)
    move.exit()
    config = {
        "chunk": linear[1],
        "hierarchical": hierarchical,
        "n_classes": n_classes,
        "class_dim": class_dim,
        "side": side,
        "blocks": blocks,
        "channels": channels,
        "spectral": move.spectral,
        "bn_eps": BN_EPS,
        "sn_eps": SN_EPS,
    }
    return move.network("biggan", "generator", config), side << count, _assumed(move)


def read_critic(source: Taker, size: int) -> Network:
    """Read the critic of ``BigGAN.py`` for images of side ``size``."""
    move, where = Renaming(source), source.where
    blocks: list[dict[str, Any]] = []
    side = size
    for index in range(source.count("blocks.{}.0.conv1.weight")):
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        hidden, inputs = source.shape(f"{name}.conv1.weight", 4)[:2]
        outputs = source.shape(f"{name}.conv2.weight", 4)[0]
        learned = f"{name}.conv_sc.weight" in source
        # A learned shortcut means another width, or half the side; every published network stops at 4 px or before.
        halve = learned and (inputs == outputs or side > 4)
        side = side // 2 if halve else side
        for part, renamed in (("conv1", "conv1"), ("conv2", "conv2"), ("conv_sc", "shortcut")):
            if part != "conv_sc" or learned:
                move.layer(f"{name}.{part}", f"{target}.{renamed}", 4)
        attention = move.attention(f"blocks.{index}.1", f"{target}.attention")
        blocks.append({"inputs": inputs, "hidden": hidden, "outputs": outputs, "downsample": halve, "attention": attention})
    check_chain(blocks, where)
    if side < 1:
        raise SourceError(f"{where}: its blocks leave nothing of images of {size} px")
    config = {
        "size": size,
        "channels": blocks[0]["inputs"],
        "blocks": blocks,
        "n_classes": move.head(),
        "spectral": move.spectral,
        "sn_eps": SN_EPS,
    }
    return move.network("biggan", "critic", config)


def read_deep_generator(source: Taker) -> tuple[Network, int, list[str]]:
    """Read the generator of ``BigGANdeep.py``; as :func:`read_generator`."""
    move, where = Renaming(source), source.where
    count = source.count("blocks.{}.0.conv1.weight")
    if not 1 <= count <= 64:
        raise SourceError(f"{where}: has {count} generator blocks, must have 1 to 64")
    depth = 1 if count % 2 else 2
    n_classes, class_dim = source.shape("shared.weight", 2)
    linear = source.shape("linear.weight", 2)
    latent_dim = linear[1] - class_dim
    if latent_dim < 1:
        raise SourceError(f"{where}: linear.weight takes {linear[1]} numbers, which leaves none beside a class of {class_dim}")
    blocks = []
    for index in range(count):
        name, target = f"blocks.{index}.0", f"blocks.{index}"
        hidden, inputs = source.shape(f"{name}.conv1.weight", 4)[:2]
        outputs = source.shape(f"{name}.conv4.weight", 4)[0]
        for number in range(4):
            move.layer(f"{name}.conv{number + 1}", f"{target}.convs.{number}", 4)
            move.norm(f"{name}.bn{number + 1}", f"{target}.norms.{number}", shared=True)
        attention = move.attention(f"blocks.{index}.1", f"{target}.attention")
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
    side = side_of(linear, blocks[0]["inputs"], where)
    channels = source.shape("output_layer.2.weight", 4)[0]
    move.layer("linear", "entry.linear", 2)
    move.made["entry.shared.weight"] = source.take("shared.weight", 2)
    move.exit()
    _class_last(move.made, class_dim, linear[1], where)
    config = {
        "latent_dim": latent_dim,
        "n_classes": n_classes,
        "class_dim": class_dim,
        "side": side,
        "blocks": blocks,
        "channels": channels,
        "rows": channels,
        "spectral": "fresh" if move.spectral else "none",
        "bn_eps": BN_EPS,
        "sn_eps": SN_EPS,
    }
    notes = [f"{depth} blocks per doubling of the side assumed", *_assumed(move)]
    return move.network("biggan_deep", "generator", config), side << (count // depth), notes


def _class_last(tensors: dict[str, Tensor], class_dim: int, width: int, where: str) -> None:
    """The file's layers take the class, then the latent; the network's the latent, then the class."""
    for name, value in tensors.items():
        if name == "entry.linear.weight" or (".norms." in name and name.endswith((".gain.weight", ".bias.weight"))):
            if value.shape[1] != width:
                raise SourceError(f"{where}: a norm takes {value.shape[1]} numbers, and the first layer {width}")
            tensors[name] = torch.cat([value[:, class_dim:], value[:, :class_dim]], dim=1)


def read_deep_critic(source: Taker, size: int) -> Network:
    """Read the critic of ``BigGANdeep.py`` for images of side ``size``."""
    move, where = Renaming(source), source.where
    stem, channels = source.shape("input_conv.weight", 4)[:2]
    stages = source.count("blocks.{}.0.conv1.weight")
    # The 32 px network keeps its width and halves the side in two of three stages; the others in all.
    plain = not any(name.endswith(".conv_sc.weight") for name in source.left)
    halvings = 2 if plain and stages == 3 and size == 32 else stages
    blocks: list[dict[str, Any]] = []
    move.layer("input_conv", "stem", 4)
    for stage in range(stages):
        depth = source.count(f"blocks.{stage}.{{}}.conv1.weight")
        for step in range(depth):
            name, target = f"blocks.{stage}.{step}", f"blocks.{len(blocks)}"
            hidden, inputs = source.shape(f"{name}.conv1.weight", 4)[:2]
            outputs = source.shape(f"{name}.conv4.weight", 4)[0]
            for number in range(4):
                move.layer(f"{name}.conv{number + 1}", f"{target}.convs.{number}", 4)
            if f"{name}.conv_sc.weight" in source:
                move.layer(f"{name}.conv_sc", f"{target}.shortcut", 4)
            attention = step == depth - 1 and move.attention(f"blocks.{stage}.{depth}", f"{target}.attention")
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
        "n_classes": move.head(),
        "spectral": "fresh" if move.spectral else "none",
        "sn_eps": SN_EPS,
    }
    return move.network("biggan_deep", "critic", config)


def _assumed(move: Renaming) -> list[str]:
    return [
        "activations assumed to be relu",
        f"epsilons assumed: {BN_EPS:g} of batch norms, {SN_EPS:g} of spectral norms",
        *dict.fromkeys(move.notes),
    ]
