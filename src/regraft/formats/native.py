"""regraft's own sources: a folder with ``model.safetensors`` (names ``generator.*``, ``critic.*``) and ``source.json``.

``source.json`` holds descriptions of the networks, how to train them and where they came from; nothing in it is executed.
Tensors may be stored in half precision; they are held in float32.  :func:`save_source` writes what :class:`Native` reads.
"""

import dataclasses
import json
import pathlib
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor

from regraft.core.build import build, check_tensors
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import SourceError
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Description
from regraft.files import known_records
from regraft.files.atomic import write_json, write_tensors
from regraft.files.digests import sha256
from regraft.files.weights import read_safetensors
from regraft.formats.base import Format, Network, Parsed, Probe

FORMAT = known_records.SOURCE_FORMAT
VERSION = 1
RECORD = known_records.SOURCE
TENSORS = "model.safetensors"

Role = Literal["generator", "critic", "autoencoder"]
ROLES: tuple[Role, ...] = ("generator", "critic", "autoencoder")


def save_source(folder: pathlib.Path, gan: GAN) -> None:
    """Write a GAN's networks and description into a folder; loading it gives bit-identical networks.

    The record comes last: a folder without it is no source, so that an interrupted conversion is not taken for one.

    Raises:
        MissingCapability: for networks that were handed over as Python modules.
    """
    networks = {"generator": gan.generator, "critic": gan.critic, "autoencoder": gan.autoencoder}
    descriptions: dict[str, Description] = {}
    tensors: dict[str, Tensor] = {}
    for role, network in networks.items():
        if network is not None:
            descriptions[role] = network.describe()
            tensors |= {f"{role}.{name}": value for name, value in network.state_dict().items()}
    _check_generator(gan, descriptions["generator"])
    stored, same = without_repeats(tensors)
    write_tensors(folder / TENSORS, stored, {"format": "pt"})
    write_json(folder / RECORD, _record(descriptions, gan) | {"same": same})


def _check_generator(gan: GAN, description: Description) -> None:
    """Check that a generator's description alone makes a network for all of its tensors."""
    with torch.device("meta"):
        expected = build(description).state_dict()
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    check_tensors(shapes, gan.generator.state_dict(), gan.provenance.name)


def _record(descriptions: dict[str, Description], gan: GAN) -> dict[str, Any]:
    """What ``source.json`` holds."""
    origin = dataclasses.asdict(gan.provenance) | {"files": gan.provenance.files}
    kept = ("name", "licence", "dataset", "url", "lineage", "files", "format", "classes")
    return {
        "format": FORMAT,
        "format_version": VERSION,
        **{role: {"kind": d.kind, "config": d.config} for role, d in descriptions.items()},
        "objective": gan.objective.model_dump(mode="json"),
        "recipe": gan.recipe.model_dump(mode="json"),
        "provenance": {key: value for key, value in origin.items() if key in kept},
        "aspect": gan.aspect,
        **({} if gan.class_shares is None else {"class_shares": list(gan.class_shares)}),
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


class _Origin(pydantic.BaseModel):
    """What a record says of where its source came from."""

    name: str | None = None
    licence: str | None = None
    dataset: str | None = None
    url: str | None = None
    lineage: tuple[dict[str, Any], ...] | None = None
    classes: tuple[str, ...] | None = None


class Native(Format):
    """A folder that :func:`save_source` wrote."""

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
        where = str(folder / RECORD)
        record = read_record(folder / RECORD)
        tensors = read_safetensors(folder / TENSORS)
        tensors |= _repeats(record, tensors, where)
        surplus = [name for name in tensors if (role := name.partition(".")[0]) not in ROLES or not record.get(role)]
        if surplus:
            raise SourceError(f"{folder / TENSORS}: {surplus[0]} belongs to no network of {RECORD}")
        generator, critic, autoencoder = (_network(record, role, tensors, where) for role in ROLES)
        if generator is None:
            raise SourceError(f"{where}: describes no generator")
        origin = parse(_Origin, record.get("provenance") or {}, where)
        provenance = Provenance(
            name=origin.name or folder.name,
            format=self.name,
            files={TENSORS: sha256(folder / TENSORS)},
            licence=origin.licence,
            dataset=origin.dataset,
            url=origin.url,
            lineage=origin.lineage or (),
            classes=origin.classes or (),
        )
        aspect = record.get("aspect")
        return Parsed(
            generator,
            critic,
            provenance,
            autoencoder,
            objective=parse(Objective, record["objective"], where) if record.get("objective") else None,
            recipe=parse(Recipe, record["recipe"], where) if record.get("recipe") else None,
            aspect=float(aspect) if isinstance(aspect, int | float) else None,
            class_shares=record.get("class_shares"),
        )


def read_record(path: pathlib.Path) -> dict[str, Any]:
    """The ``source.json`` of a folder.

    Raises:
        SourceError: if it is missing, damaged or of another version.
    """
    try:
        if path.stat().st_size > 4 << 20:
            raise ValueError("larger than 4 MB")
        record: object = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"format is not {FORMAT}")
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not a regraft source ({error})") from None
    if record.get("format_version") != VERSION:
        raise SourceError(f"{path}: source format {record.get('format_version')}; this regraft reads {VERSION}")
    return record


def _folder(path: pathlib.Path) -> pathlib.Path | None:
    """The folder of a source that a path means: itself, or that of a file of the source; None if there is no record."""
    folder = path if path.is_dir() else path.parent if path.name in (RECORD, TENSORS) else None
    return folder if folder is not None and (folder / RECORD).is_file() else None


def _repeats(record: dict[str, Any], tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Tensors that the record says are the same as stored ones; they share memory."""
    same = record.get("same") or {}
    if not isinstance(same, dict) or any(not isinstance(v, str) or v not in tensors or k in tensors for k, v in same.items()):
        raise SourceError(f"{where}: same must map names of tensors to names of stored ones")
    return {name: tensors[stored] for name, stored in same.items()}


def _network(record: dict[str, Any], role: Role, tensors: dict[str, Tensor], where: str) -> Network | None:
    """One network of a record; None if it describes no such one."""
    entry = record.get(role)
    if not entry:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or not isinstance(entry.get("config"), dict):
        raise SourceError(f"{where}: {role} must name its kind and config")
    own_tensors = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{role}.")}
    return Network(Description(entry["kind"], role, entry["config"]), own_tensors)


PLUGIN = Native()
