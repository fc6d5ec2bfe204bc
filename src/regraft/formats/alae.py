"""Checkpoints of ALAE: ``torch.save`` of ``{"models": {"generator_s": ..., "discriminator_s": ..., ...}, ...}``.

The sets whose names end in ``_s`` are averages and are used where they are there.  Weights are final, no learning rate
equaliser is applied on reading.  ``discriminator`` is the encoder, ``mapping_tl`` the critic's head, ``mapping_fl`` the
mapping.
"""

import re
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from regraft.backbones import alae
from regraft.core.build import build_with
from regraft.core.config import Config, parse
from regraft.core.discover import plugin
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.core.networks import Description
from regraft.formats import _state_dicts as state_dicts
from regraft.formats.base import Format, Network, Parsed, Probe, reproducible, sha256

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
        found = networks(probe.torch_object["models"], str(probe.path))
        files = {probe.path.name: sha256(probe.path)}
        provenance = Provenance(name=probe.path.stem, format=self.name, files=files, assumptions=found.notes)
        return Parsed(found.generator, found.critic, provenance, found.autoencoder)


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
    if parts["generator"] is None or parts["mapping_fl"] is None:
        lacking = "generator" if parts["generator"] is None else "mapping_fl"
        raise SourceError(
            f"{where}: an ALAE source needs generator and mapping_fl (or their averages _s), and {lacking} is absent"
        )
    levels = len(_chain(parts["generator"], "decode_block.{}.conv_2.weight", where))
    last = levels - 1 if level is None else level
    if not 1 <= last < levels <= MOST_LEVELS:
        raise SourceError(
            f"{where}: {levels} levels, the last in use {last}; there must be 2 to {MOST_LEVELS}, and 1 the least last"
        )
    decoder = _levels(
        parts["generator"], "decode_block", {k: k for k in range(last + 1)}, _images("to_rgb", last, -1, blend), where
    )
    widths = [len(weight) for weight in _chain(decoder, "decode_block.{}.conv_2.weight", where)]
    mapping, mapped = _linears(parts["mapping_fl"], "map_blocks.{}.fc", "mapping.layers.{}", where)
    common = {"style_dim": mapped[-1], "channels": len(_matrix(decoder, "to_rgb.weight", where)), "blend": blend}
    mean = _mean(parts["dlatent_avg"], 2 * levels, mapped[-1], where)
    tensors = mapping | _under("synthesis", decoder)
    tensors["mapping.w_avg"] = torch.zeros(2 * (last + 1), mapped[-1]) if mean is None else mean[: 2 * (last + 1)].clone()
    generator = _network("generator", common | {"widths": widths, "mapping": mapped}, tensors, where)
    if mean is None:
        notes.append(f"no mean style in the file; measured over {MEASURED_STYLES} latents")
        tensors["mapping.w_avg"] = _measured(generator, where)
    notes.append("truncation acts on the first 8 style vectors, the authors' default; files do not say")
    if parts["discriminator"] is None:
        return Networks(generator, None, None, (*notes, "no encoder found, so neither critic nor autoencoder"))
    skipped = levels - 1 - last
    places = {k: k - skipped for k in range(skipped, levels)}
    encoder = _levels(parts["discriminator"], "encode_block", places, _images("from_rgb", skipped, 1, blend), where)
    kernels = _chain(encoder, "encode_block.{}.conv_2.weight", where)
    seen = [*(kernel.shape[1] for kernel in kernels), len(kernels[-1])]
    both = _under("encoder", encoder) | _under("decoder", decoder) | {"mean_code": tensors["mapping.w_avg"][0].clone()}
    autoencoder = _network("autoencoder", common | {"encoder": seen, "decoder": widths}, both, where)
    if parts["mapping_tl"] is None:
        return Networks(generator, None, autoencoder, (*notes, "no critic's head found, so no critic"))
    head, scored = _linears(parts["mapping_tl"], "map_blocks.{}", "head.layers.{}", where)
    critic = _network("critic", common | {"widths": seen, "head": scored}, _under("encoder", encoder) | head, where)
    return Networks(generator, critic, autoencoder, tuple(notes))


def _parts(models: dict[str, Any], where: str) -> tuple[dict[str, State | None], list[str]]:
    """State dicts by part, averages preferred, and what had to be taken instead."""
    unknown = [str(name) for name in models if str(name).removesuffix("_s") not in PARTS]
    if unknown:
        raise SourceError(f"{where}: models holds {', '.join(unknown[:3])}, which StyleALAE does not have")
    parts: dict[str, State | None] = {}
    notes = []
    for part in PARTS:
        name = next((n for n in (f"{part}_s", part) if models.get(n) is not None), None)
        if name is not None and not state_dicts.is_state_dict(models[name]):
            raise SourceError(f"{where}: {name} is no state dict of names and tensors")
        parts[part] = None if name is None else state_dicts.clean(models[name])
        if name == part and part != "dlatent_avg":
            notes.append(f"{part} as last trained, since there is no average of it")
    return parts, notes


def _levels(tensors: State, kind: str, places: dict[int, int], images: dict[int, str], where: str) -> State:
    """Tensors of the levels in use under our names; those of other levels are left out, blur kernels only checked."""
    found: State = {}
    to_or_from = "to_rgb" if kind == "decode_block" else "from_rgb"
    for name, value in tensors.items():
        block = re.fullmatch(rf"{kind}\.(\d{{1,3}})\.(.+)", name)
        image = re.fullmatch(rf"{to_or_from}\.(\d{{1,3}})\.{to_or_from}\.(weight|bias)", name)
        if block and block[2] == "blur.weight":
            _check_blur(value, name, where)
        elif block:
            if int(block[1]) in places:
                found[f"{kind}.{places[int(block[1])]}.{block[2]}"] = value
        elif image:
            if int(image[1]) in images:
                found[f"{images[int(image[1])]}.{image[2]}"] = value
        elif name == "const" and kind == "decode_block":
            found[name] = value
        else:
            raise SourceError(f"{where}: {name} belongs to no layer of StyleALAE")
    return found


def _images(name: str, index: int, step: int, blend: float) -> dict[int, str]:
    """Which layers between features and image are in use."""
    return {index: name} | ({index + step: f"{name}_before"} if blend < 1 else {})


def _check_blur(value: Tensor, name: str, where: str) -> None:
    line = torch.tensor([0.25, 0.5, 0.25])
    if value.dim() != 4 or value.shape[1:] != (1, 3, 3) or not len(value) or (value - line[:, None] * line).abs().max() > 1e-6:
        raise SourceError(f"{where}: {name} is not the blur [1, 2, 1] / 4 that StyleALAE has")


def _chain(tensors: State, pattern: str, where: str) -> list[Tensor]:
    """Weights whose names differ in a number that counts from 0."""
    found: list[Tensor] = []
    while pattern.format(len(found)) in tensors:
        found.append(_matrix(tensors, pattern.format(len(found)), where))
    if not found:
        raise SourceError(
            f"{where}: {pattern.format(0)} is missing; regraft reads StyleALAE, not ALAE's fully connected networks"
        )
    return found


def _matrix(tensors: State, name: str, where: str) -> Tensor:
    value = tensors.get(name)
    if value is None or value.dim() not in (2, 4) or not value.numel():
        raise SourceError(f"{where}: {name} is {'missing' if value is None else tuple(value.shape)}, must be a layer's weight")
    return value


def _linears(tensors: State, theirs: str, ours: str, where: str) -> tuple[State, list[int]]:
    """A stack of linear layers under our names, and its widths from the input on."""
    weights = _chain(tensors, theirs + ".weight", where)
    found = {}
    for k in range(len(weights)):
        for leaf in ("weight", "bias"):
            if f"{theirs.format(k)}.{leaf}" not in tensors:
                raise SourceError(f"{where}: {theirs.format(k)}.{leaf} is missing")
            found[f"{ours.format(k)}.{leaf}"] = tensors[f"{theirs.format(k)}.{leaf}"]
    if len(found) != len(tensors):
        raise SourceError(f"{where}: a stack of {len(weights)} linear layers holds {len(tensors)} tensors")
    return found, [weights[0].shape[1], *(len(weight) for weight in weights)]


def _mean(tensors: State | None, rows: int, style_dim: int, where: str) -> Tensor | None:
    if tensors is None:
        return None
    buff = tensors.get("buff")
    if len(tensors) != 1 or buff is None or tuple(buff.shape) != (rows, style_dim):
        shapes = {name: tuple(value.shape) for name, value in list(tensors.items())[:3]}
        raise SourceError(f"{where}: dlatent_avg must hold buff of ({rows}, {style_dim}), and holds {shapes}")
    return buff


def _measured(generator: Network, where: str) -> Tensor:
    """Mean style of a fixed seed, in double precision so that it is the same on every machine."""
    network: Any = build_with(generator.description, generator.tensors, where).double()
    with torch.no_grad():
        return reproducible(network.mapping(network.latent.at(0, range(MEASURED_STYLES)).double()).mean(0))


def _under(prefix: str, tensors: State) -> State:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _network(
    role: Literal["generator", "critic", "autoencoder"], config: dict[str, Any], tensors: State, where: str
) -> Network:
    backbone = plugin("backbones", "alae", alae.ALAE)
    models: dict[str, type[Config]] = {
        "generator": backbone.GeneratorConfig,
        "critic": backbone.CriticConfig,
        "autoencoder": backbone.AutoencoderConfig,
    }
    try:
        checked = parse(models[role], config, where)
    except ConfigError as error:
        raise SourceError(str(error)) from None
    return Network(Description("alae", role, checked.model_dump(mode="json")), tensors)


PLUGIN = ALAE()
