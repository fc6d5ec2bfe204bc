"""What the files of a run's folder say, checked as they are read: they may be damaged, or come from others."""

import json
import pathlib
from typing import Annotated, Any, Literal

import pydantic

from regraft.core.errors import AdapterError

Loose = pydantic.Strict(False)
"""Of pairs, which JSON holds as lists; what is in them stays strict."""


class _Told(pydantic.BaseModel):
    """Part of a record; what else the record holds is not looked at."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True, strict=True)


class _Finding(_Told):
    text: str
    alarm: bool = False


class Judgement(_Told):
    """A verdict as ``verdict.json`` holds it."""

    word: str
    sentence: str
    findings: list[_Finding] = []
    cautions: list[str] = []


class Measured(_Told):
    """A score as ``scores.json`` holds it."""

    name: str
    value: float
    n_real: int
    n_fake: int
    extractor: str
    extractor_sha256: str | None = None
    better: Literal["lower", "higher", "none"] = "none"
    interval: Annotated[tuple[float, float], Loose] | None = None
    details: dict[str, Any] = {}


class _Source(_Told):
    name: str
    generator_digest: str
    critic_digest: str | None = None
    files: dict[str, Any] | None = None


class _Image(_Told):
    size: Annotated[tuple[int, int], Loose]
    channels: int
    aspect: float | None = None


class _Data(_Told):
    digest: str
    n: int
    held_out: int
    classes: list[str] = []


class _Settings(_Told):
    miner: dict[str, Any] = {}


class Origin(_Told):
    """What a report takes from ``adapter_config.json``."""

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


def plain(text: str) -> Any:
    """JSON as plain data, whose integers are of the usual sizes; longer ones become floating.

    Raises:
        ValueError, RecursionError: if it is none.
    """
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))


def checked(found: Any, kind: Any, path: pathlib.Path) -> Any:
    """Plain data as a model, or a list of it.

    Raises:
        AdapterError: naming the file and the first part of it that does not fit.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(found)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise AdapterError(f"{path}: not what a run writes there ({where[:80]}: {first['msg']})") from None


def read(path: pathlib.Path, kind: Any) -> Any:
    """A JSON file as a model, or a list of it; None if there is none.

    Raises:
        AdapterError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        return None
    try:
        found = plain(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: cannot be read ({' '.join(str(error).split())[:160]})") from None
    return checked(found, kind, path)


def log(path: pathlib.Path) -> list[dict[str, Any]]:
    """Lines of a run's log that have a step; damaged ones, and a missing log, are left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            row = plain(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            found.append(row)
    return found


def history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The held-out measurements of a log: numbers and the extractor's name, with their steps and whether each was kept."""
    found = []
    for row in rows:
        measured = row.get("held_out")
        if isinstance(measured, dict):
            numbers = {k: v for k, v in measured.items() if isinstance(v, int | float) or k == "extractor"}
            if not {"critic_train", "critic_held", "critic_fake"} <= numbers.keys():
                numbers = {k: v for k, v in numbers.items() if not k.startswith("critic_")}
            found.append(numbers | {"step": row["step"], "best": bool(row.get("best"))})
    return found
