"""Checkpoints of ALAE: ``torch.save`` of ``{"models": {"generator_s": ..., "discriminator_s": ..., ...}, ...}``.

The sets whose names end in ``_s`` are averages and are used where they are there.  Weights are final, no learning rate
equaliser is applied on reading.  ``discriminator`` is the encoder, ``mapping_tl`` the critic's head, ``mapping_fl`` the
mapping.
"""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.core.build import build_with
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._state_dicts import clean, described, is_state_dict
from regraft.formats._tensor_reader import TensorReader, checked_network, under
from regraft.formats.base import Format, Network, Parsed, Probe, optional, reproducible

PARTS = ("generator", "discriminator", "mapping_fl", "mapping_tl", "dlatent_avg")
MOST_LEVELS = 9
MEASURED_STYLES = 4096
State = dict[str, Tensor]


class ALAE(Format):
    """StyleALAE's checkpoints."""

    name = "alae"
    order = 40

    def matches(self, probe: Probe) -> bool:
        """Whether a torch file holds ALAE's set of models."""
        if not probe.is_torch_file:
            return False
        try:
            content = probe.torch_object
        except SourceError:
            return False
        models = content.get("models") if isinstance(content, dict) else None
        return isinstance(models, dict) and any(part in models or f"{part}_s" in models for part in ("generator", "mapping_fl"))

    def read(self, probe: Probe) -> Parsed:
        """Read the fully grown networks."""
        grown = networks(probe.torch_object["models"], str(probe.path))
        files = {probe.path.name: sha256(probe.path)}
        provenance = Provenance(name=probe.path.stem, format=self.name, files=files, assumptions=grown.notes)
        return Parsed(grown.generator, grown.critic, provenance, grown.autoencoder)


class Networks(NamedTuple):
    """What a set of models gives, and what was assumed."""

    generator: Network
    critic: Network | None
    autoencoder: Network | None
    notes: tuple[str, ...]


def networks(models: dict[str, Any], where: str, level: int | None = None, blend: float = 1.0) -> Networks:
    """Read a set of models.

    Args:
        models: name to state dict or None.
        where: names the origin in errors.
        level: last level in use, 0 for 4x4; the last that there is if left out.
        blend: its share in the image.

    Raises:
        SourceError: if parts are missing or do not fit.
    """
    parts, notes = _parts(models, where)
    decoder_reader, mapping_reader = parts.get("generator"), parts.get("mapping_fl")
    if decoder_reader is None or mapping_reader is None:
        lacking = "generator" if decoder_reader is None else "mapping_fl"
        raise SourceError(
            f"{where}: an ALAE source needs generator and mapping_fl (or their averages _s), and {lacking} is absent"
        )
    levels = len(_level_numbers(decoder_reader, "decode_block"))
    last = levels - 1 if level is None else level
    if not 1 <= last < levels:
        raise SourceError(f"{where}: level {last} of {levels} is not there, or the 4x4 one, which is never the last in use")
    decoder = _levels(decoder_reader, "decode_block", {k: k for k in range(last + 1)}, _image_layers("to_rgb", last, -1, blend))
    widths = [len(decoder[f"decode_block.{k}.conv_2.weight"]) for k in range(last + 1)]
    mapping, mapped = _linears(mapping_reader, "map_blocks.{}.fc", "mapping.layers.{}")
    common = {"style_dim": mapped[-1], "channels": len(decoder["to_rgb.weight"]), "blend": blend}
    mean = optional("mean style", lambda: _mean(parts.get("dlatent_avg"), 2 * levels, mapped[-1]), notes)
    tensors = mapping | under("synthesis", decoder)
    tensors["mapping.w_avg"] = torch.zeros(2 * (last + 1), mapped[-1]) if mean is None else mean[: 2 * (last + 1)].clone()
    generator = checked_network("alae", "generator", common | {"widths": widths, "mapping": mapped}, tensors, where)
    if mean is None:
        notes.append(f"no mean style in the file that can be used; measured over {MEASURED_STYLES} latents")
        tensors["mapping.w_avg"] = _measured(generator, where)
    notes.append("truncation acts on the first 8 style vectors, the authors' default; files do not say")
    if "discriminator" not in parts:
        return Networks(generator, None, None, (*notes, "no encoder found, so neither critic nor autoencoder"))
    encoder: State = {}
    settings: dict[str, Any] = {}

    def read_autoencoder() -> Network:
        encoder.update(_encoder(parts["discriminator"], levels, last, blend))
        kernels = [encoder[f"encode_block.{k}.conv_2.weight"] for k in range(last + 1)]
        settings["widths"] = [*(kernel.shape[1] for kernel in kernels), len(kernels[-1])]
        both = under("encoder", encoder) | under("decoder", decoder) | {"mean_code": tensors["mapping.w_avg"][0].clone()}
        return checked_network("alae", "autoencoder", common | {"encoder": settings["widths"], "decoder": widths}, both, where)

    def read_critic() -> Network:
        head, scored = _linears(parts["mapping_tl"], "map_blocks.{}", "head.layers.{}")
        return checked_network("alae", "critic", common | settings | {"head": scored}, under("encoder", encoder) | head, where)

    autoencoder = optional("encoder", read_autoencoder, notes)
    if autoencoder is None:
        return Networks(generator, None, None, (*notes, "without an encoder there is neither critic nor autoencoder"))
    if "mapping_tl" not in parts:
        return Networks(generator, None, autoencoder, (*notes, "no critic's head found, so no critic"))
    return Networks(generator, optional("critic's head", read_critic, notes), autoencoder, tuple(notes))


def _encoder(reader: TensorReader, levels: int, last: int, blend: float) -> State:
    """Tensors of the encoder's levels in use."""
    skipped = levels - 1 - last
    places = {k: k - skipped for k in range(skipped, levels)}
    return _levels(reader, "encode_block", places, _image_layers("from_rgb", skipped, 1, blend))


def _parts(models: dict[str, Any], where: str) -> tuple[dict[str, TensorReader], list[str]]:
    """Readers of the parts that are there, averages preferred, and what had to be taken instead."""
    unknown = [str(name) for name in models if str(name).removesuffix("_s") not in PARTS]
    if unknown:
        raise SourceError(f"{where}: models holds {', '.join(unknown[:3])}, which StyleALAE does not have")
    parts: dict[str, TensorReader] = {}
    notes = []
    for part in PARTS:
        name = next((n for n in (f"{part}_s", part) if models.get(n) is not None), None)
        if name is None:
            continue
        tensors = models[name]
        if not is_state_dict(tensors):
            wrong = f"{name} is no state dict of names and tensors, but {described(tensors)}"
            if part in ("generator", "mapping_fl"):
                raise SourceError(f"{where}: {wrong}")
            notes.append(f"{part} is left out: {wrong}")
            continue
        parts[part] = TensorReader(clean(tensors), f"{where}: {name}")
        if name == part and part != "dlatent_avg":
            notes.append(f"{part} as last trained, since there is no average of it")
    return parts, notes


def _level_numbers(reader: TensorReader, kind: str) -> list[int]:
    """Numbers of all levels of a decoder or encoder."""
    if f"{kind}.0.conv_2.weight" not in reader:
        raise SourceError(
            f"{reader.where}: {kind}.0.conv_2.weight is missing; regraft reads StyleALAE, not ALAE's fully connected networks"
        )
    return reader.numbered(f"{kind}.{{}}.conv_2.weight", least=2, most=MOST_LEVELS)


def _levels(reader: TensorReader, kind: str, places: dict[int, int], images: dict[int, str]) -> State:
    """Move the levels in use; those of other levels are ignored, blur kernels only checked.

    Args:
        reader: of the decoder or encoder.
        kind: ``decode_block`` or ``encode_block``, as names begin.
        places: number of a level in the file to its number in the network.
        images: number of a layer between features and image to its name in the network.
    """
    to_or_from = "to_rgb" if kind == "decode_block" else "from_rgb"
    for number in places:
        reader.shape(f"{kind}.{number}.conv_2.weight", 4)
    for number in images:
        reader.shape(f"{to_or_from}.{number}.{to_or_from}.weight", 4)
    for name in list(reader.unused):
        block = re.fullmatch(rf"{kind}\.([0-9]{{1,3}})\.(.+)", name)
        image = re.fullmatch(rf"{to_or_from}\.([0-9]{{1,3}})\.{to_or_from}\.(weight|bias)", name)
        if block and block[2] == "blur.weight":
            _check_blur(reader, name)
        elif block and int(block[1]) in places:
            reader.move(name, f"{kind}.{places[int(block[1])]}.{block[2]}")
        elif image and int(image[1]) in images:
            reader.move(name, f"{images[int(image[1])]}.{image[2]}")
    if kind == "decode_block":
        reader.move("const", "const")
    reader.ignore(rf"{kind}\.[0-9]{{1,3}}\..+", rf"{to_or_from}\.[0-9]{{1,3}}\.{to_or_from}\.(weight|bias)")
    return reader.finish()


def _image_layers(name: str, index: int, step: int, blend: float) -> dict[int, str]:
    """Which layers between features and image are in use."""
    return {index: name} | ({index + step: f"{name}_before"} if blend < 1 else {})


def _check_blur(reader: TensorReader, name: str) -> None:
    kernel = reader.take(name, 4)
    line = torch.tensor([0.25, 0.5, 0.25])
    if kernel.shape[1:] != (1, 3, 3) or (kernel - line[:, None] * line).abs().max() > 1e-6:
        raise SourceError(f"{reader.where}: {name} is not the blur [1, 2, 1] / 4 that StyleALAE has")


def _linears(reader: TensorReader, theirs: str, ours: str) -> tuple[State, list[int]]:
    """Move a stack of linear layers; returns its tensors, and its widths from the input on."""
    numbers = reader.numbered(theirs + ".weight")
    for k in numbers:
        for leaf, dims in (("weight", 2), ("bias", 1)):
            reader.move(f"{theirs.format(k)}.{leaf}", f"{ours.format(k)}.{leaf}", dims)
    tensors = reader.finish()
    weights = [tensors[f"{ours.format(k)}.weight"] for k in numbers]
    return tensors, [weights[0].shape[1], *(len(weight) for weight in weights)]


def _mean(reader: TensorReader | None, rows: int, style_dim: int) -> Tensor | None:
    """The mean style of every layer, (rows, style_dim), where the file has it."""
    if reader is None:
        return None
    mean = reader.take("buff")
    reader.finish()
    if tuple(mean.shape) != (rows, style_dim):
        raise SourceError(f"{reader.where}: buff has shape {tuple(mean.shape)}, and must hold ({rows}, {style_dim})")
    return mean


def _measured(generator: Network, where: str) -> Tensor:
    """Mean style of a fixed seed, in double precision so that it is the same on every machine."""
    network: Any = build_with(generator.description, generator.tensors, where).double()
    with torch.no_grad():
        return reproducible(network.mapping(network.latent.at(0, range(MEASURED_STYLES)).double()).mean(0))


PLUGIN = ALAE()
