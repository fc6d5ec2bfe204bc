"""regraft's own sources: a folder with ``model.safetensors`` (names ``generator.*``, ``critic.*``) and ``source.json``.

``source.json`` holds descriptions of the networks, how to train them and where they came from; nothing in it is executed.
Tensors may be stored in half precision; they are held in float32.
"""

import dataclasses
import json
import pathlib
from typing import Any

import pydantic
import torch
from torch import Tensor, nn

from regraft.core.build import build, check_tensors
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import SourceError
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Description
from regraft.files.atomic import write_json, write_tensors
from regraft.files.weights import read_safetensors
from regraft.formats.base import Format, Network, Parsed, Probe, sha256

FORMAT = "regraft-source"
VERSION = 1
RECORD = "source.json"
TENSORS = "model.safetensors"


class _Origin(pydantic.BaseModel):
    """What a record says of where its source came from."""

    name: str | None = None
    licence: str | None = None
    dataset: str | None = None
    url: str | None = None
    lineage: tuple[dict[str, Any], ...] | None = None
    classes: tuple[str, ...] | None = None


class Native(Format):
    """A folder that ``regraft convert`` wrote."""

    name = "regraft"
    order = 0

    def matches(self, probe: Probe) -> bool:
        """Whether the folder (or the file's folder) holds a record of this format."""
        return _folder(probe.path) is not None

    def read(self, probe: Probe) -> Parsed:
        """Read record and tensors."""
        folder = _folder(probe.path)
        if folder is None:
            raise SourceError(f"{probe.path}: holds no {RECORD}")
        record = read_record(folder / RECORD)
        tensors = read_safetensors(folder / TENSORS)
        tensors |= _repeated(record, tensors, folder)
        roles = ("generator", "critic", "autoencoder")
        surplus = [k for k in tensors if k.partition(".")[0] not in roles or not record.get(k.partition(".")[0])]
        if surplus:
            raise SourceError(f"{folder / TENSORS}: {surplus[0]} belongs to no network of {RECORD}")
        networks = {role: _network(record, role, tensors, folder) for role in roles}
        if networks["generator"] is None:
            raise SourceError(f"{folder / RECORD}: describes no generator")
        origin = parse(_Origin, record.get("provenance") or {}, str(folder / RECORD))
        files = {TENSORS: sha256(folder / TENSORS)}
        provenance = Provenance(
            name=origin.name or folder.name,
            format=self.name,
            files=files,
            licence=origin.licence,
            dataset=origin.dataset,
            url=origin.url,
            lineage=origin.lineage or (),
            classes=origin.classes or (),
        )
        objective = parse(Objective, record["objective"], str(folder / RECORD)) if record.get("objective") else None
        recipe = parse(Recipe, record["recipe"], str(folder / RECORD)) if record.get("recipe") else None
        aspect = record.get("aspect")
        return Parsed(
            networks["generator"],
            networks["critic"],
            provenance,
            networks["autoencoder"],
            objective,
            recipe,
            float(aspect) if isinstance(aspect, int | float) else None,
        )


def record_of(
    networks: dict[str, Description], objective: Objective, recipe: Recipe, provenance: Provenance, aspect: float | None
) -> dict[str, Any]:
    """What ``source.json`` holds."""
    origin = dataclasses.asdict(provenance) | {"files": provenance.files}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        **{role: {"kind": d.kind, "config": d.config} for role, d in networks.items()},
        "objective": objective.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "provenance": {
            k: v
            for k, v in origin.items()
            if k in ("name", "licence", "dataset", "url", "lineage", "files", "format", "classes")
        },
        "aspect": aspect,
    }


def without_repeats(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors to write, and names of the others with the name under which the same memory is written.

    An autoencoder shares its layers with the generator and the critic.
    """
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for name, value in tensors.items():
        place = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if not value.numel() or first.setdefault(place, name) == name:
            continue
        same[name] = first[place]
    return {name: value for name, value in tensors.items() if name not in same}, same


def _repeated(record: dict[str, Any], tensors: dict[str, Tensor], folder: pathlib.Path) -> dict[str, Tensor]:
    """Tensors that the record says are the same as others; they share memory."""
    same = record.get("same") or {}
    if not isinstance(same, dict) or any(not isinstance(v, str) or v not in tensors or k in tensors for k, v in same.items()):
        raise SourceError(f"{folder / RECORD}: same must map names of tensors to names of stored ones")
    return {k: tensors[v] for k, v in same.items()}


def _folder(path: pathlib.Path) -> pathlib.Path | None:
    folder = path if path.is_dir() else path.parent if path.name in (RECORD, TENSORS) else None
    return folder if folder is not None and (folder / RECORD).is_file() else None


def read_record(path: pathlib.Path) -> dict[str, Any]:
    """The ``source.json`` of a folder.

    Raises:
        SourceError: if it is missing, damaged or of another version.
    """
    try:
        if path.stat().st_size > 4 << 20:
            raise ValueError("larger than 4 MB")
        record: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not a regraft source ({error})") from None
    if record.get("format_version") != VERSION:
        raise SourceError(f"{path}: source format {record.get('format_version')}; this regraft reads {VERSION}")
    return record


def _network(record: dict[str, Any], role: Any, tensors: dict[str, Tensor], folder: pathlib.Path) -> Network | None:
    entry = record.get(role)
    if not entry:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or not isinstance(entry.get("config"), dict):
        raise SourceError(f"{folder / RECORD}: {role} must name its kind and config")
    own = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{role}.")}
    return Network(Description(entry["kind"], role, entry["config"]), own)


PLUGIN = Native()


def stand_alone(gan: GAN) -> tuple[Description, dict[str, Tensor]]:
    """Description and tensors of a generator, free of any source.

    Raises:
        MissingCapability: for a generator that was handed over as a Python module.
    """
    description = gan.generator.describe()
    tensors = {k: v.detach().cpu() for k, v in gan.generator.state_dict().items()}
    with torch.device("meta"):
        network: nn.Module = build(description)
    check_tensors({k: tuple(v.shape) for k, v in network.state_dict().items()}, tensors, gan.provenance.name)
    return description, tensors


def save_source(folder: pathlib.Path, gan: GAN) -> None:
    """Write a GAN's networks and description into a folder; loading it gives bit-identical networks.

    Raises:
        MissingCapability: for networks that were handed over as Python modules.
    """
    description, tensors = stand_alone(gan)
    networks: dict[str, Description] = {"generator": description}
    whole = {f"generator.{k}": v for k, v in tensors.items()}
    if gan.critic is not None:
        networks["critic"] = gan.critic.describe()
        whole |= {f"critic.{k}": v for k, v in gan.critic.state_dict().items()}
    if gan.autoencoder is not None:
        networks["autoencoder"] = gan.autoencoder.describe()
        whole |= {f"autoencoder.{k}": v for k, v in gan.autoencoder.state_dict().items()}
    whole, same = without_repeats(whole)
    record = record_of(networks, gan.objective, gan.recipe, gan.provenance, gan.aspect) | {"same": same}
    write_tensors(folder / TENSORS, whole, {"format": "pt"})
    write_json(folder / RECORD, record)
