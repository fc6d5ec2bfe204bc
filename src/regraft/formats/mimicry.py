"""Checkpoints of mimicry (torch_mimicry): SNGAN, cGAN-PD, SAGAN, WGAN-GP, SSGAN and InfoMax-GAN ResNets.

``netG_100000_steps.pth`` holds the generator; the critic is the ``netD`` file of the same step beside it (or in ``netD/``
beside ``netG/``).  A folder with such files is read at its highest step.  Which of the networks it is follows from the keys.
"""

import contextlib
import pathlib
import re
from typing import Any

from torch import Tensor

from regraft.core.config import WGAN_GP, Objective
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._choice import any_passes, passing
from regraft.formats._layers import LayerReader
from regraft.formats._pairs import critics_of
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch, optional_critic

ATTENTION = {"theta": "query", "phi": "key", "g": "value", "o": "out"}


class Mimicry(Format):
    """mimicry's ResNets."""

    name = "mimicry"
    order = 50

    def matches(self, probe: Probe) -> bool:
        """Whether the file's keys, or those of a folder's netG file, are a mimicry ResNet's."""
        path = probe.path
        if path.is_dir():
            path = _newest(path) or path
            probe = Probe(path)
        if not probe.is_torch_file:
            return False
        with contextlib.suppress(SourceError):
            return any_passes(probe.torch_object, lambda tensors: _is_generator(tensors) or _is_critic(tensors))
        return False

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        g_path, d_path, notes = _files(probe)
        g_content: object = load_torch(g_path)
        chosen = passing(g_content, _is_generator, str(g_path))
        if chosen is None:
            raise SourceError(f"{g_path}: holds no generator of a mimicry ResNet")
        generator, side, g_notes = _generator(chosen.tensors, str(g_path))
        notes += chosen.notes
        files = {g_path.name: sha256(g_path)}

        def read_critic() -> Network | None:
            d_content = g_content if d_path is None else load_torch(d_path)
            d_chosen = passing(d_content, _is_critic, str(d_path or g_path), "critic")
            if d_chosen is None:
                if d_path is None:
                    return None
                raise SourceError(f"{d_path}: holds no critic of a mimicry ResNet")
            file = d_path or g_path
            network, game, d_notes = _critic(d_chosen.tensors, str(file), side)
            classes = [n.description.config["n_classes"] for n in (generator, network)]
            if classes[1] and classes[0] != classes[1]:
                raise SourceError(f"{file}: the critic knows {classes[1]} classes, the generator {classes[0]}")
            files[file.name] = sha256(file)
            notes.append(f"critic taken from {file.name}")
            steps = [_stored_step(c) for c in (g_content, d_content)]
            if steps[0] != steps[1]:
                notes.append(f"the generator is of step {steps[0]}, the critic of step {steps[1]}")
            g_notes.extend(d_notes)
            games.append(game)
            return network

        games: list[Objective | None] = []
        critic = optional_critic(read_critic, notes)
        if critic is None:
            notes.append("the loss is assumed to be hinge, unless it is a WGAN-GP network")
        objective = games[0] if games else None
        provenance = Provenance(name=g_path.stem, format=self.name, files=files, assumptions=(*notes, *g_notes))
        return Parsed(generator, critic, provenance, objective=objective)


def _is_generator(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of a mimicry ResNet's first layers."""
    first = "l1.weight" in tensors or "l1.weight_orig" in tensors
    return first and any(name.startswith("block2.c1.weight") for name in tensors)


def _is_critic(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of a mimicry critic's first block."""
    starts = ("block1.c1.weight", "local_feat_blocks.0.c1.weight")
    return any(name.startswith(starts) for name in tensors)


def _step(path: pathlib.Path) -> int:
    """The last number in a file's name; -1 if there is none."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else -1


def _stored_step(content: object) -> int | None:
    """The step at which a file was written, where it says so."""
    step = content.get("global_step") if isinstance(content, dict) else None
    return step if isinstance(step, int) and 0 <= step < 1 << 63 else None


def _listed(folder: pathlib.Path, kind: str) -> list[pathlib.Path]:
    """Files of one network (``netG`` or ``netD``) in a folder and its usual sub-folders, newest step first."""
    patterns = (f"{kind}*.pth", f"{kind}/{kind}*.pth", f"checkpoints/{kind}/{kind}*.pth")
    files = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return sorted(files, key=lambda path: (-_step(path), str(path)))


def _newest(folder: pathlib.Path) -> pathlib.Path | None:
    """The generator of the highest step in a folder."""
    return next(iter(_listed(folder, "netG")), None)


def _files(probe: Probe) -> tuple[pathlib.Path, pathlib.Path | None, list[str]]:
    """Files of generator and critic that a path means, and what to say of them."""
    path = probe.path
    if path.is_dir():
        generators, critics = _listed(path, "netG"), _listed(path, "netD")
        if not generators:
            raise SourceError(f"{path}: holds no netG*.pth")
        for generator in generators:
            same = next((c for c in critics if _step(c) == _step(generator)), None)
            if same is not None:
                return generator, same, []
        if len(generators) == len(critics) == 1:
            return generators[0], critics[0], ["generator and critic are of different steps"]
        return generators[0], None, []
    generator = path
    if not any_passes(probe.torch_object, _is_generator):
        generator = _beside(path, "netD", "netG") or path
        if generator == path:
            raise SourceError(f"{path}: is a critic; its generator (netG of the same step) is not beside it")
        return generator, path, []
    return generator, _beside(path, "netG", "netD") or critics_of(path).file, []


def _beside(path: pathlib.Path, kind: str, other: str) -> pathlib.Path | None:
    """The file of the other network of the same step, beside a file or in the folder beside its folder."""
    if kind not in path.name:
        return None
    name = path.name.replace(kind, other)
    candidates = [path.with_name(name), path.parent.parent / other / name]
    return next((c for c in candidates if c.is_file()), None)


def _generator(tensors: dict[str, Tensor], where: str) -> tuple[Network, int, list[str]]:
    """Read the generator; returns it, the side of its images and what had to be assumed."""
    reader = LayerReader(tensors, where)
    numbers = reader.numbered("block{}.", first=2)
    rows, latent_dim = reader.weight_shape("l1")[:2]
    bottom = reader.square_side(rows, reader.weight_shape("block2.c1")[1], "l1")
    n_classes = reader.weight_shape("block2.b1.embed")[0] if "block2.b1.embed.weight" in reader else 0
    notes = ["The latent is assumed to be normal: the file does not say it."]
    reader.layer("l1", "first.linear")
    blocks = []
    for index, number in enumerate(numbers):
        source, target = f"block{number}", f"blocks.{index}"
        blocks.append(_block(reader, source, target) | {"resample": True})
        for k in (1, 2):
            if n_classes:
                reader.move(f"{source}.b{k}.embed.weight", f"{target}.norm{k}.codes")
                reader.batch_norm(f"{source}.b{k}.bn", f"{target}.norm{k}.norm", affine=False)
            else:
                reader.batch_norm(f"{source}.b{k}", f"{target}.norm{k}")
    # At 16x16 for 32-pixel images, at 32x32 for 128-pixel ones.
    place = len(numbers) - 2 if len(numbers) < 5 else len(numbers) - 3
    notes += _attention(reader, blocks, place, "generator")
    end = numbers[-1] + 1
    reader.batch_norm(f"b{end}", "last.norm")
    channels = reader.weight_shape(f"c{end}")[0]
    reader.layer(f"c{end}", "last.conv")
    config = {
        "latent": {"dim": latent_dim},
        "channels": channels,
        "bottom": bottom,
        "blocks": blocks,
        "upsampling": "bilinear",
        "spectral": reader.dialect(),
        "n_classes": n_classes,
        "conditioning": "table" if n_classes else "none",
    }
    return reader.network("sngan", "generator", config), bottom << len(numbers), notes


def _block(reader: LayerReader, source: str, target: str) -> dict[str, Any]:
    """Move a block's convolutions; returns its settings without resampling."""
    hidden, inputs = reader.weight_shape(f"{source}.c1")[:2]
    outputs = reader.weight_shape(f"{source}.c2")[0]
    shortcut = reader.has_layer(f"{source}.c_sc")
    reader.layer(f"{source}.c1", f"{target}.conv1")
    reader.layer(f"{source}.c2", f"{target}.conv2")
    if shortcut:
        reader.layer(f"{source}.c_sc", f"{target}.shortcut")
    return {"inputs": inputs, "hidden": hidden, "outputs": outputs, "shortcut": shortcut}


def _attention(reader: LayerReader, blocks: list[dict[str, Any]], place: int, role: str) -> list[str]:
    """Move the attention layer, if there is one; files do not say after which block it comes, so ``place`` does."""
    if "attn_block.gamma" not in reader:
        return []
    keys, width = reader.weight_shape("attn_block.theta")[:2]
    place = max(0, place)
    if blocks[place]["outputs"] != width:
        raise SourceError(
            f"{reader.where}: its attention takes {width} channels, and block {place + 1} of the {role}, after which "
            f"mimicry has it, gives {blocks[place]['outputs']}"
        )
    blocks[place]["attention"] = (keys, reader.weight_shape("attn_block.g")[0])
    reader.attention("attn_block.", f"blocks.{place}.attention", ATTENTION, "attn_block.gamma")
    return [f"attention of the {role} assumed to follow its block {place + 1}, as in mimicry's SAGAN"]


def _critic(tensors: dict[str, Tensor], where: str, side: int) -> tuple[Network, Objective | None, list[str]]:
    """Read the critic of images of side ``side``; returns it, the game that it belongs to and what had to be assumed."""
    reader = LayerReader(tensors, where)
    notes = []
    if reader.has_layer("linear"):
        sources = [f"local_feat_blocks.{k}" for k in reader.numbered("local_feat_blocks.{}.")]
        sources += [f"global_feat_blocks.{k}" for k in reader.numbered("global_feat_blocks.{}.")]
        score = "linear"
        reader.ignore(r"(local|global)_nrkhs_.*")
        notes.append("InfoMax heads left out")
    else:
        numbers = reader.numbered("block{}.", first=1)
        sources = [f"block{k}" for k in numbers]
        score = next((f"l{n}" for n in (numbers[-1], numbers[-1] + 1) if reader.has_layer(f"l{n}")), f"l{numbers[-1] + 1}")
    blocks = [_block(reader, source, f"blocks.{index}") for index, source in enumerate(sources)]
    for block in blocks:
        block["resample"] = block["shortcut"]
    if side % 3 == 0 and len(blocks) > 4:  # the last block of 48-pixel critics changes the width only
        blocks[-1]["resample"] = False
    notes += _attention(reader, blocks, 1, "critic")
    reader.layer(score, "head.score", "head")
    n_classes, head = 0, "none"
    if "l_y.bias" in reader:
        reader.ignore(r"l_y\..*")
        notes.append("rotation head of SSGAN left out")
    elif reader.has_layer("l_y"):
        n_classes, head = reader.weight_shape("l_y")[0], "projection"
        reader.layer("l_y", "head.classes", "head")
    plain = reader.dialect() is None
    if plain:
        notes.append(
            "a critic without spectral normalisation is taken to be WGAN-GP's: mean pooling, gradient penalty "
            "(mimicry's DCGAN has the same tensors and would sum)"
        )
    config = {
        "channels": blocks[0]["inputs"],
        "size": (side, side),
        "blocks": blocks,
        "spectral": reader.dialect(),
        "head_spectral": reader.dialect("head"),
        "pooling": "mean" if plain else "sum",
        "n_classes": n_classes,
        "head": head,
    }
    return reader.network("sngan", "critic", config), WGAN_GP if plain else None, notes


PLUGIN = Mimicry()
