"""Checkpoints of mimicry (torch_mimicry): SNGAN, cGAN-PD, SAGAN, WGAN-GP, SSGAN and InfoMax-GAN ResNets.

``netG_100000_steps.pth`` holds the generator; the critic is the ``netD`` file of the same step beside it (or in ``netD/``
beside ``netG/``).  A folder with such files is read at its highest step.  Which of the networks it is follows from the keys.
"""

import contextlib
import math
import pathlib
import re
from typing import Any

from torch import Tensor

from regraft.core.config import WGAN_GP, Objective
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.formats._moving import Moving, state_of
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch, sha256

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
            tensors = state_of(probe.torch_object, "model_state_dict")
            return tensors is not None and (_is_generator(tensors) or _is_critic(tensors))
        return False

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        g_path, d_path, notes = _files(probe)
        g_content: Any = load_torch(g_path)
        tensors = state_of(g_content, "model_state_dict")
        if tensors is None or not _is_generator(tensors):
            raise SourceError(f"{g_path}: holds no generator of a mimicry ResNet")
        generator, side, g_notes = _generator(tensors, str(g_path))
        files = {g_path.name: sha256(g_path)}
        critic, objective = None, None
        if d_path is not None:
            files[d_path.name] = sha256(d_path)
            d_content: Any = load_torch(d_path)
            d_tensors = state_of(d_content, "model_state_dict")
            if d_tensors is None or not _is_critic(d_tensors):
                raise SourceError(f"{d_path}: holds no critic of a mimicry ResNet")
            critic, objective, d_notes = _critic(d_tensors, str(d_path), side)
            notes.append(f"critic taken from {d_path.name}")
            steps = [_trained(c) for c in (g_content, d_content)]
            if steps[0] != steps[1]:
                notes.append(f"the generator is of step {steps[0]}, the critic of step {steps[1]}")
            g_notes += d_notes
            classes = [n.description.config["n_classes"] for n in (generator, critic)]
            if classes[1] and classes[0] != classes[1]:
                raise SourceError(f"{d_path}: the critic knows {classes[1]} classes, the generator {classes[0]}")
        else:
            notes.append("no critic found; the loss is assumed to be hinge, unless it is a WGAN-GP network")
        provenance = Provenance(name=g_path.stem, format=self.name, files=files, assumptions=(*notes, *g_notes))
        return Parsed(generator, critic, provenance, objective=objective)


def _is_generator(tensors: dict[str, Tensor]) -> bool:
    first = "l1.weight" in tensors or "l1.weight_orig" in tensors
    return first and any(name.startswith("block2.c1.weight") for name in tensors)


def _is_critic(tensors: dict[str, Tensor]) -> bool:
    starts = ("block1.c1.weight", "local_feat_blocks.0.c1.weight")
    return any(name.startswith(starts) for name in tensors)


def _step(path: pathlib.Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else -1


def _trained(content: Any) -> int | None:
    """The step at which a file was written, where it says so."""
    step = content.get("global_step") if isinstance(content, dict) else None
    return step if isinstance(step, int) and 0 <= step < 1 << 63 else None


def _listed(folder: pathlib.Path, kind: str) -> list[pathlib.Path]:
    """Files of one network in a folder and in its sub-folder of that name, newest step first."""
    found = [*folder.glob(f"{kind}*.pth"), *folder.glob(f"{kind}/{kind}*.pth"), *folder.glob(f"checkpoints/{kind}/{kind}*.pth")]
    return sorted((p for p in found if p.is_file()), key=lambda p: (-_step(p), str(p)))


def _newest(folder: pathlib.Path) -> pathlib.Path | None:
    return next(iter(_listed(folder, "netG")), None)


def _files(probe: Probe) -> tuple[pathlib.Path, pathlib.Path | None, list[str]]:
    """Generator and critic that a path means."""
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
    tensors = state_of(probe.torch_object, "model_state_dict") or {}
    generator = path
    if not _is_generator(tensors):
        generator = _beside(path, "netD", "netG") or path
        if generator == path:
            raise SourceError(f"{path}: is a critic; its generator (netG of the same step) is not beside it")
        return generator, path, []
    return generator, _beside(path, "netG", "netD"), []


def _beside(path: pathlib.Path, own: str, other: str) -> pathlib.Path | None:
    if own not in path.name:
        return None
    name = path.name.replace(own, other)
    candidates = [path.with_name(name), path.parent.parent / other / name]
    return next((c for c in candidates if c.is_file()), None)


def _numbered(tensors: dict[str, Tensor], pattern: str, first: int, where: str) -> list[int]:
    numbers = sorted({int(m.group(1)) for name in tensors if (m := re.match(pattern, name)) and len(m.group(1)) < 4})
    if not numbers or numbers != list(range(first, first + len(numbers))):
        raise SourceError(f"{where}: blocks {numbers} are not numbered from {first} on without a gap")
    return numbers


def _generator(tensors: dict[str, Tensor], where: str) -> tuple[Network, int, list[str]]:
    moving = Moving(tensors, where)
    numbers = _numbered(tensors, r"block(\d+)\.", 2, where)
    rows, latent = moving.shape("l1")[:2]
    area, remainder = divmod(rows, moving.shape("block2.c1")[1])
    bottom = math.isqrt(area)
    if remainder or bottom * bottom != area:
        raise SourceError(f"{where}: the {rows} outputs of l1 are no square map of {moving.shape('block2.c1')[1]} channels")
    n_classes = moving.shape("block2.b1.embed")[0] if moving.has("block2.b1.embed.weight") else 0
    notes = ["latent assumed to be normal"]
    moving.layer("l1", "first.linear")
    blocks = []
    for index, number in enumerate(numbers):
        source, target = f"block{number}", f"blocks.{index}"
        blocks.append(_block(moving, source, target) | {"resample": True})
        for k in (1, 2):
            if n_classes:
                moving.move(f"{source}.b{k}.embed.weight", f"{target}.norm{k}.codes")
                moving.batch_norm(f"{source}.b{k}.bn", f"{target}.norm{k}.norm", affine=False)
            else:
                moving.batch_norm(f"{source}.b{k}", f"{target}.norm{k}")
    # At 16x16 for 32-pixel images, at 32x32 for 128-pixel ones.
    place = len(numbers) - 2 if len(numbers) < 5 else len(numbers) - 3
    notes += _attention(moving, blocks, place, "generator")
    end = numbers[-1] + 1
    moving.batch_norm(f"b{end}", "last.norm")
    channels = moving.shape(f"c{end}")[0]
    moving.layer(f"c{end}", "last.conv")
    config = {
        "latent": {"dim": latent},
        "channels": channels,
        "bottom": bottom,
        "blocks": blocks,
        "upsampling": "bilinear",
        "spectral": moving.dialect(),
        "n_classes": n_classes,
        "conditioning": "table" if n_classes else "none",
    }
    return moving.network("sngan", "generator", config), bottom << len(numbers), notes


def _block(moving: Moving, source: str, target: str) -> dict[str, Any]:
    """Move a block's convolutions; returns its settings but for resampling."""
    hidden, inputs = moving.shape(f"{source}.c1")[:2]
    outputs = moving.shape(f"{source}.c2")[0]
    shortcut = moving.has_layer(f"{source}.c_sc")
    moving.layer(f"{source}.c1", f"{target}.conv1")
    moving.layer(f"{source}.c2", f"{target}.conv2")
    if shortcut:
        moving.layer(f"{source}.c_sc", f"{target}.shortcut")
    return {"inputs": inputs, "hidden": hidden, "outputs": outputs, "shortcut": shortcut}


def _attention(moving: Moving, blocks: list[dict[str, Any]], place: int, role: str) -> list[str]:
    """Move an attention layer, which files hold without its place."""
    if not moving.has("attn_block.gamma"):
        return []
    keys, width = moving.shape("attn_block.theta")[:2]
    place = max(0, place)
    if blocks[place]["outputs"] != width:
        raise SourceError(
            f"{moving.where}: its attention takes {width} channels, and block {place + 1} of the {role}, after which "
            f"mimicry has it, gives {blocks[place]['outputs']}"
        )
    blocks[place]["attention"] = (keys, moving.shape("attn_block.g")[0])
    for theirs, ours in ATTENTION.items():
        moving.layer(f"attn_block.{theirs}", f"blocks.{place}.attention.{ours}")
    moving.move("attn_block.gamma", f"blocks.{place}.attention.strength", ())
    return [f"attention of the {role} assumed to follow its block {place + 1}, as in mimicry's SAGAN"]


def _critic(tensors: dict[str, Tensor], where: str, side: int) -> tuple[Network, Objective | None, list[str]]:
    moving = Moving(tensors, where)
    notes = []
    if moving.has_layer("linear"):
        sources = [f"local_feat_blocks.{k}" for k in _numbered(tensors, r"local_feat_blocks\.(\d+)\.", 0, where)]
        sources += [f"global_feat_blocks.{k}" for k in _numbered(tensors, r"global_feat_blocks\.(\d+)\.", 0, where)]
        score = "linear"
        moving.ignore("local_nrkhs_*", "global_nrkhs_*")
        notes.append("InfoMax heads left out")
    else:
        numbers = _numbered(tensors, r"block(\d+)\.", 1, where)
        sources = [f"block{k}" for k in numbers]
        score = next((f"l{n}" for n in (numbers[-1], numbers[-1] + 1) if moving.has_layer(f"l{n}")), f"l{numbers[-1] + 1}")
    blocks = [_block(moving, source, f"blocks.{index}") for index, source in enumerate(sources)]
    for block in blocks:
        block["resample"] = block["shortcut"]
    if side % 3 == 0 and len(blocks) > 4:  # the last block of 48-pixel critics changes the width only
        blocks[-1]["resample"] = False
    notes += _attention(moving, blocks, 1, "critic")
    moving.layer(score, "head.score", "head")
    n_classes, head = 0, "none"
    if moving.has("l_y.bias"):
        moving.ignore("l_y.*")
        notes.append("rotation head of SSGAN left out")
    elif moving.has_layer("l_y"):
        n_classes, head = moving.shape("l_y")[0], "projection"
        moving.layer("l_y", "head.classes", "head")
    plain = moving.dialect() is None
    if plain:
        notes.append(
            "a critic without spectral normalisation is taken to be WGAN-GP's: mean pooling, gradient penalty "
            "(mimicry's DCGAN has the same tensors and would sum)"
        )
    config = {
        "channels": blocks[0]["inputs"],
        "size": (side, side),
        "blocks": blocks,
        "spectral": moving.dialect(),
        "head_spectral": moving.dialect("head"),
        "pooling": "mean" if plain else "sum",
        "n_classes": n_classes,
        "head": head,
    }
    return moving.network("sngan", "critic", config), WGAN_GP if plain else None, notes


PLUGIN = Mimicry()
