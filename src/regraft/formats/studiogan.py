"""Checkpoint folders of PyTorch-StudioGAN: ``model=G_ema-best-weights-step=100000.pth`` and its kin, ResNet backbones.

The averaged generator is preferred, ``best`` before ``current``, then the highest step.  The architecture follows from the
shapes; a YAML file of the run, where one lies beside the weights, is asked for what shapes cannot say.
"""

import contextlib
import dataclasses
import pathlib
import re
from typing import Any

from torch import Tensor

from regraft.core.config import HINGE, NONSATURATING_R1, WGAN_GP, Objective, Recipe, read_yaml
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._choice import any_passes, critic_of, passing
from regraft.formats._layers import LayerReader
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch, optional_critic

NAME = re.compile(r"model=(G_ema|G|D)-(best|current)-weights-step=(\d{1,12})\.pth")
ATTENTION = {"theta": "query", "phi": "key", "g": "value", "attn": "out"}


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a run."""

    path: pathlib.Path
    network: str
    best: bool
    step: int


class StudioGAN(Format):
    """StudioGAN's resnet and big_resnet."""

    name = "StudioGAN"
    order = 50

    def matches(self, probe: Probe) -> bool:
        """Whether it is, or holds, a generator with StudioGAN's keys."""
        path = probe.path
        if path.is_dir():
            generators = _generators(path)
            if not generators:
                return False
            probe = Probe(generators[0].path)
        if not probe.is_torch_file:
            return False
        with contextlib.suppress(SourceError):
            return any_passes(probe.torch_object, _is_generator)
        return False

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        g_path, d_path, notes = _files(probe.path)
        run = Run.beside(g_path)
        chosen = passing(load_torch(g_path), _is_generator, str(g_path))
        if chosen is None:
            raise SourceError(f"{g_path}: holds no StudioGAN ResNet generator")
        generator, side, g_notes = _generator(chosen.tensors, str(g_path), run)
        notes += chosen.notes
        files = {g_path.name: sha256(g_path)}
        objective, recipe = run.objective(), None

        def read_critic() -> Network | None:
            if d_path is None:
                return None
            d_chosen = critic_of(load_torch(d_path), str(d_path))
            if d_chosen is None:
                raise SourceError(f"{d_path}: holds no state dict")
            n_classes = int(generator.description.config["n_classes"])
            critic, d_notes = _critic(d_chosen.tensors, str(d_path), side, n_classes)
            notes.extend(d_notes if critic is None else [f"critic taken from {d_path.name}"])
            if critic is not None:
                files[d_path.name] = sha256(d_path)
                g_notes.extend(d_notes)
            return critic

        critic = optional_critic(read_critic, notes)
        if critic is not None and critic.description.config["norm_eps"] is not None:
            recipe = Recipe(betas=(0.0, 0.9), generator_norm="batch", critic_norm="batch")
        if objective is None:
            notes.append("The loss is assumed to be hinge: no settings of the run say it.")
        if run.path is not None:
            files[run.path.name] = sha256(run.path)
        provenance = Provenance(name=g_path.stem, format=self.name, files=files, assumptions=(*notes, *run.notes(), *g_notes))
        return Parsed(generator, critic, provenance, objective=objective, recipe=recipe)


@dataclasses.dataclass(frozen=True)
class Run:
    """The settings of a run; empty if nobody kept them.

    Attributes:
        path: the YAML file, or None.
        data: its content.
    """

    path: pathlib.Path | None
    data: dict[str, Any]

    @staticmethod
    def beside(weights: pathlib.Path) -> "Run":
        """The settings in the only YAML beside the weights that speaks of a model; empty if there is none, or several."""
        runs = []
        for path in sorted([*weights.parent.glob("*.yaml"), *weights.parent.glob("*.yml")]):
            with contextlib.suppress(ConfigError, OSError):
                if path.stat().st_size < 1 << 20:
                    data = read_yaml(path, "a StudioGAN run")
                    if isinstance(data.get("MODEL"), dict) or isinstance(data.get("LOSS"), dict):
                        runs.append(Run(path, data))
        return runs[0] if len(runs) == 1 else Run(None, {})

    def get(self, section: str, key: str, default: Any = None) -> Any:
        """A setting, or ``default`` if it is not there."""
        values = self.data.get(section)
        return values.get(key, default) if isinstance(values, dict) else default

    def notes(self) -> list[str]:
        """What the file said, or what is assumed without one."""
        if self.path is not None:
            return [f"latent, activation and loss as in {self.path.name}"]
        return [
            "The latent is assumed to be normal: no settings of the run lie beside the file.",
            "The activations are assumed to be relu: no settings of the run lie beside the file.",
        ]

    def check(self) -> None:
        """Refuse activations that regraft's ResNets do not have.

        Raises:
            SourceError: for other activations than relu.
        """
        for key in ("g_act_fn", "d_act_fn"):
            if self.get("MODEL", key, "ReLU") != "ReLU":
                raise SourceError(f"{self.path}: {key} is {str(self.get('MODEL', key))[:40]}; regraft reads networks with ReLU")

    def objective(self) -> Objective | None:
        """The run's loss, or None where nothing says it."""
        names = {"hinge": HINGE, "wasserstein": WGAN_GP, "vanilla": NONSATURATING_R1, "logistic": NONSATURATING_R1}
        known = names.get(str(self.get("LOSS", "adv_loss")))
        if known is None:
            return None
        steps = self.get("OPTIMIZATION", "d_updates_per_step", 5)
        return known.model_copy(update={"critic_steps": steps}) if isinstance(steps, int) and 0 < steps < 100 else known


def _is_generator(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of a StudioGAN ResNet's first and last layer."""
    return all(any(name.startswith(start) for name in tensors) for start in ("linear0.weight", "conv2d5.weight"))


def _weight_files(folder: pathlib.Path) -> list[File]:
    """Files of a folder that have StudioGAN's names."""
    files = []
    for path in sorted(folder.glob("model=*.pth")):
        if (match := NAME.fullmatch(path.name)) and path.is_file():
            files.append(File(path, match[1], match[2] == "best", int(match[3])))
    return files


def _generators(folder: pathlib.Path) -> list[File]:
    """Generators of a folder, the preferred one first."""
    files = [f for f in _weight_files(folder) if f.network != "D"]
    return sorted(files, key=lambda f: (f.network == "G_ema", f.best, f.step), reverse=True)


def _files(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None, list[str]]:
    """Files of generator and critic that a path means, and what to say of them."""
    folder = path if path.is_dir() else path.parent
    chosen = next((f for f in _generators(folder) if path.is_dir() or f.path == path), None)
    if chosen is None:
        return path, None, []
    notes = [] if chosen.network == "G_ema" else ["the generator is not the averaged one"]
    critics = [f for f in _weight_files(folder) if f.network == "D"]
    critics.sort(key=lambda f: (f.step == chosen.step, f.best == chosen.best, f.step), reverse=True)
    if not critics:
        return chosen.path, None, notes
    if critics[0].step != chosen.step:
        notes.append(f"the generator is of step {chosen.step}, the critic of step {critics[0].step}")
    return chosen.path, critics[0].path, notes


def _entries(reader: LayerReader) -> list[str]:
    """Prefixes of the entries of ``blocks``, in order.

    Raises:
        SourceError: if they are not numbered without gaps, or are of StudioGAN's deep backbone.
    """
    if any(re.match(r"blocks\.\d+\.\d+\.conv2d[34]", name) for name in reader.unused):
        raise SourceError(f"{reader.where}: StudioGAN's deep_big_resnet is not read; its resnet and big_resnet are")
    return [f"blocks.{number}.0" for number in reader.numbered("blocks.{}.0.")]


def _blocks(reader: LayerReader, entries: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Move convolutions and attention; returns settings without resampling, and each block's name in the file."""
    blocks: list[dict[str, Any]] = []
    sources = []
    for source in entries:
        if f"{source}.sigma" in reader:
            if not blocks:
                raise SourceError(f"{reader.where}: attention before the first block")
            target = f"blocks.{len(blocks) - 1}.attention"
            keys, width = reader.weight_shape(f"{source}.conv1x1_theta")[:2]
            if width != blocks[-1]["outputs"]:
                raise SourceError(f"{reader.where}: {source} takes {width} channels, the block before gives another number")
            blocks[-1]["attention"] = (keys, reader.weight_shape(f"{source}.conv1x1_g")[0])
            reader.attention(f"{source}.conv1x1_", target, ATTENTION, f"{source}.sigma")
            continue
        target = f"blocks.{len(blocks)}"
        hidden, inputs = reader.weight_shape(f"{source}.conv2d1")[:2]
        outputs = reader.weight_shape(f"{source}.conv2d2")[0]
        shortcut = reader.has_layer(f"{source}.conv2d0")
        for theirs, ours in (("conv2d1", "conv1"), ("conv2d2", "conv2"), ("conv2d0", "shortcut")):
            if theirs != "conv2d0" or shortcut:
                reader.layer(f"{source}.{theirs}", f"{target}.{ours}")
        blocks.append({"inputs": inputs, "hidden": hidden, "outputs": outputs, "shortcut": shortcut})
        sources.append(source)
    return blocks, sources


def _generator(tensors: dict[str, Tensor], where: str, run: Run) -> tuple[Network, int, list[str]]:
    """Read the generator; returns it, the side of its images and what had to be assumed."""
    run.check()
    if any(name.startswith("info_") for name in tensors):
        raise SourceError(f"{where}: a generator with InfoGAN codes is not read")
    reader = LayerReader(tensors, where)
    rows, inputs = reader.weight_shape("linear0")[:2]
    reader.layer("linear0", "first.linear")
    blocks, sources = _blocks(reader, _entries(reader))
    for block in blocks:
        block["resample"] = True
    conditioning, notes = _conditioning(reader, sources, inputs, run)
    if rows != 16 * blocks[0]["inputs"]:
        raise SourceError(f"{where}: the {rows} outputs of linear0 are no 4x4 map of {blocks[0]['inputs']} channels")
    linear = conditioning["conditioning"] == "one_hot" or conditioning["chunk"]
    for index, source in enumerate(sources):
        for k in (1, 2):
            target = f"blocks.{index}.norm{k}"
            if linear:
                reader.batch_norm(f"{source}.bn{k}.bn", f"{target}.norm", affine=False)
                reader.layer(f"{source}.bn{k}.gain", f"{target}.gain")
                reader.layer(f"{source}.bn{k}.bias", f"{target}.bias")
            else:
                reader.batch_norm(f"{source}.bn{k}", target)
    reader.batch_norm("bn4", "last.norm")
    channels = reader.weight_shape("conv2d5")[0]
    reader.layer("conv2d5", "last.conv")
    prior = run.get("MODEL", "z_prior", "gaussian")
    config = {
        "latent": {
            "dim": conditioning["chunk"] * (len(blocks) + 1) or inputs,
            "distribution": "uniform" if prior == "uniform" else "normal",
        },
        "channels": channels,
        "bottom": 4,
        "blocks": blocks,
        "upsampling": "nearest",
        "spectral": reader.dialect(),
        "norm_eps": 1e-4,
        "sn_eps": 1e-6,
        **conditioning,
    }
    return reader.network("sngan", "generator", config), 4 << len(blocks), notes


def _conditioning(reader: LayerReader, sources: list[str], inputs: int, run: Run) -> tuple[dict[str, Any], list[str]]:
    """Settings for how the class gets into the norms, and what had to be assumed.

    ``chunk`` is the width of the latent's chunks (big_resnet), or 0 (resnet).
    """
    gain = f"{sources[0]}.bn1.gain"
    unconditional = {"n_classes": 0, "conditioning": "none", "class_dim": 0, "chunk": 0}
    if not reader.has_layer(gain):
        return unconditional, []
    code = reader.weight_shape(gain)[1]
    if "shared.weight" in reader:
        n_classes, class_dim = reader.weight_shape("shared")[:2]
        if class_dim + inputs != code:
            raise SourceError(
                f"{reader.where}: norms take {code} numbers, not the class vector's {class_dim} and the latent chunk's {inputs}"
            )
        reader.move("shared.weight", "classes.weight")
        return {"n_classes": n_classes, "conditioning": "shared", "class_dim": class_dim, "chunk": inputs}, []
    backbone = run.get("MODEL", "backbone")
    if code == inputs and backbone != "resnet":
        assumed = f"norms of {code} inputs assumed to take chunks of the latent, not classes"
        return unconditional | {"chunk": inputs}, [] if backbone == "big_resnet" else [assumed]
    return {"n_classes": code, "conditioning": "one_hot", "class_dim": 0, "chunk": 0}, []


def _critic(tensors: dict[str, Tensor], where: str, side: int, n_classes: int) -> tuple[Network | None, list[str]]:
    """Read the critic, if regraft has one like it, and what had to be left out or assumed."""
    reader = LayerReader(tensors, where)
    scores = reader.weight_shape("linear1")[0]
    if scores != 1:
        return None, [f"critic left out: it scores each image {scores} times (multi-hinge or one per class)"]
    blocks, sources = _blocks(reader, _entries(reader))
    for index, block in enumerate(blocks):
        # The last block of every StudioGAN critic keeps the side, even where it changes the width.
        block["resample"] = bool(block["shortcut"]) and index < len(blocks) - 1
    normed = f"{sources[0]}.bn1.running_mean" in reader
    for index, source in enumerate(sources):
        if normed and blocks[index]["shortcut"]:
            reader.batch_norm(f"{source}.bn0", f"blocks.{index}.norm0")
        if normed and index == 0:
            reader.batch_norm(f"{source}.bn1", "blocks.0.norm2")
        elif normed:
            reader.batch_norm(f"{source}.bn1", f"blocks.{index}.norm1")
            reader.batch_norm(f"{source}.bn2", f"blocks.{index}.norm2")
    reader.layer("linear1", "head.score", "head")
    head, notes = _head(reader, n_classes)
    config = {
        "channels": blocks[0]["inputs"],
        "size": (side, side),
        "blocks": blocks,
        "spectral": reader.dialect(),
        "head_spectral": reader.dialect("head"),
        "sn_eps": 1e-6,
        "norm_eps": 1e-4 if normed else None,
        # In-place rectifiers reach the shortcut unless a norm has made a copy.
        "rectified": not normed,
        "pooling": "sum",
        **head,
    }
    return reader.network("sngan", "critic", config), notes


def _head(reader: LayerReader, n_classes: int) -> tuple[dict[str, Any], list[str]]:
    """Move the class head, if regraft has one like it; returns its settings and what was left out or assumed."""
    settings: dict[str, Any] = {"n_classes": 0, "head": "none"}
    has_linear, has_table = reader.has_layer("linear2"), reader.has_layer("embedding")
    notes = []
    if has_linear and has_table:
        reader.ignore(r"(linear2|embedding)\..*")
        notes.append("contrastive class head left out")
    elif has_table:
        rows = reader.weight_shape("embedding")[0]
        if rows != n_classes:
            raise SourceError(f"{reader.where}: the critic knows {rows} classes, the generator {n_classes}")
        reader.layer("embedding", "head.classes", "head")
        settings = {"n_classes": rows, "head": "projection"}
    elif has_linear:
        rows = reader.weight_shape("linear2")[0]
        if rows == n_classes or not n_classes:
            settings = {"n_classes": rows, "head": "auxiliary", "classifier_bias": "linear2.bias" in reader}
            reader.layer("linear2", "head.classifier", "head")
            notes.append("class logits taken from features that are not normalised")
        else:
            reader.ignore(r"linear2\..*")
            notes.append(f"class head of {rows} outputs left out")
    if reader.ignore(r"(linear_mi|embedding_mi)\..*", r"info_.*"):
        notes.append("second class head or InfoGAN heads left out")
    return settings, notes


PLUGIN = StudioGAN()
