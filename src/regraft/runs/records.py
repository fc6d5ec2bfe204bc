"""Readers of the files in a run folder; they check everything, for a file may be damaged or come from a stranger."""

import json
import pathlib
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from regraft.core.errors import AdapterError

Loose = pydantic.Strict(False)
"""Lets a pair be read from a JSON list; the pair's values are still checked strictly."""

Kind = TypeVar("Kind")


class _Part(pydantic.BaseModel):
    """The fields of a record that are used; other fields of the record are ignored."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, strict=True)


class _Finding(_Part):
    text: str
    alarm: bool = False


class Judgement(_Part):
    """A verdict as the run folder holds it."""

    word: str
    sentence: str
    findings: list[_Finding] = []
    cautions: list[str] = []


class Measured(_Part):
    """A score as the run folder holds it."""

    name: str
    value: float
    n_real: int
    n_fake: int
    extractor: str
    extractor_sha256: str | None = None
    better: Literal["lower", "higher", "none"] = "none"
    interval: Annotated[tuple[float, float], Loose] | None = None
    details: dict[str, Any] = {}


class _Source(_Part):
    name: str
    generator_digest: str
    critic_digest: str | None = None
    files: dict[str, Any] | None = None


class _Image(_Part):
    size: Annotated[tuple[int, int], Loose]
    channels: int
    aspect: float | None = None


class _Data(_Part):
    digest: str
    n: int
    held_out: int
    classes: list[str] = []


class _Settings(_Part):
    miner: dict[str, Any] = {}


class Origin(_Part):
    """The fields of an adapter's description that a report shows."""

    method: str
    config: _Settings
    sources: list[_Source]
    image: _Image
    data: _Data
    seed: int
    step: int
    versions: dict[str, Any]
    tensor_digest: str
    findings: dict[str, Any] | None = None


def parse_json(text: str) -> object:
    """Parse JSON into plain data; integers of 19 digits and more become floating-point numbers.

    Raises:
        ValueError: if the text is not JSON.
        RecursionError: if it is nested too deeply.
    """
    data: object = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))
    return data


def validated(data: object, kind: type[Kind], path: pathlib.Path) -> Kind:
    """Turn plain data into a model, or a list of models.

    Args:
        data: plain data.
        kind: the model, or a list of it.
        path: the file that the data is from, for the error.

    Raises:
        AdapterError: naming the file and the first part of it that does not fit.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise AdapterError(f"{path}: not what a run writes there ({where[:80]}: {first['msg']})") from None


def read_json(path: pathlib.Path, kind: type[Kind]) -> Kind | None:
    """Read a JSON file as a model, or a list of models; None if there is no such file.

    Raises:
        AdapterError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        return None
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: cannot be read ({' '.join(str(error).split())[:160]})") from None
    return validated(data, kind, path)


def read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read the lines of a run's log that have a step; damaged lines are skipped, and a missing log is empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows


def history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the held-out measurements of a log.

    Args:
        rows: lines of the log.

    Returns:
        For each measurement its numbers, the extractor's name, its ``step``, and whether it was the ``best`` so far.
    """
    measurements = []
    for row in rows:
        held_out = row.get("held_out")
        if isinstance(held_out, dict):
            values = {k: v for k, v in held_out.items() if isinstance(v, int | float) or k == "extractor"}
            if not {"critic_train", "critic_held", "critic_fake"} <= values.keys():
                values = {k: v for k, v in values.items() if not k.startswith("critic_")}
            measurements.append(values | {"step": row["step"], "best": bool(row.get("best"))})
    return measurements
