"""Run folders: where they may be made, and whether one that is there can go on."""

import hashlib
import json
import os
import pathlib
from typing import Any

import yaml

from regraft.core.config import parse, read_yaml
from regraft.core.errors import ConfigError
from regraft.core.jobs import AdaptJob
from regraft.files.atomic import write_json, write_text

RUN_RECORD = "state/run.json"
FINISHED = "this run is finished, and nothing is trained again; its results are in {}"


def default_folder(images: str) -> pathlib.Path:
    """``runs/<name>``, with a number if that is taken."""
    name = pathlib.Path(images.partition(".npz:")[0]).name.removesuffix(".zip").removesuffix(".npz") or "run"
    folder = pathlib.Path("runs") / name
    number = 2
    while folder.exists():
        folder = pathlib.Path("runs") / f"{name}-{number}"
        number += 1
    return folder


def check_out(folder: pathlib.Path) -> None:
    """Refuse a folder that a run cannot be written to, before anything costly is done; writes nothing.

    Raises:
        ConfigError: if something is there already, or no folder can be made there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file, and a run is a folder; choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        begun = (folder / RUN_RECORD).exists()
        way_out = "go on with --resume, or choose another --out" if begun else "choose another --out"
        raise ConfigError(f"{folder}: is not empty, and nothing is overwritten; {way_out}")
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    if there is not None and not there.is_dir():
        raise ConfigError(f"{folder}: no folder can be made there, because {there} is a file; choose another --out")
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: {there} cannot be written to; choose another --out")


def open_run(
    folder: pathlib.Path, job: AdaptJob, identity: dict[str, Any], resume: bool, licence: str | None = None
) -> str | None:
    """Make a run folder, or check that one can be resumed.

    Args:
        folder, job: the run.
        identity: what a resumed run must find unchanged.
        resume: whether it is there already.
        licence: terms of the images, to keep with the run; a resumed one may have been begun without.

    Returns:
        The licence that the run keeps.

    Raises:
        ConfigError: if the folder is in the way, or belongs to other images, sources or settings, or keeps another licence.
    """
    if resume:
        whole = read_record(folder)
        before = {key: value for key, value in whole.items() if key not in ("settings", "licence")}
        kept = whole.get("licence")
        if before != identity:
            what = "images" if before.get("data") != identity["data"] else "sources"
            raise ConfigError(f"{folder}: the {what} are not those that the run began with; start a new run")
        if licence is None or licence == kept:
            return str(kept) if kept is not None else None
        if kept is not None:
            raise ConfigError(f"{folder}: --licence {licence}, and the run began with {kept}; leave --licence out")
        write_json(folder / RUN_RECORD, whole | {"licence": licence})
        return licence
    check_out(folder)
    (folder / "state").mkdir(parents=True, exist_ok=True)
    write_run(folder, job, identity | {"licence": licence})
    return licence


def read_job(folder: pathlib.Path) -> AdaptJob:
    """The settings of a run.

    Raises:
        ConfigError: if the folder's config.yaml is not there or says none.
    """
    return parse(AdaptJob, read_yaml(folder / "config.yaml", "a run's settings"), str(folder / "config.yaml"))


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """What a run recorded when it began: of its images and sources, and where it is not of long ago, licence and settings.

    Raises:
        ConfigError: if there is no record, or config.yaml no longer says what it said.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RUN_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no run that can be resumed ({error})") from None
    if record.get("settings") not in (None, _digest(read_job(folder))):
        raise ConfigError(f"{folder}: config.yaml was changed since the run began; undo that, or start a new run with it")
    return record


def write_run(folder: pathlib.Path, job: AdaptJob, record: dict[str, Any]) -> None:
    """Write a run's settings and its record."""
    write_text(folder / "config.yaml", yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False))
    # Read again: a digest of what the file says, however it is written.
    write_json(folder / RUN_RECORD, record | {"settings": _digest(read_job(folder))})


def _digest(job: AdaptJob) -> str:
    """SHA-256 over what is not left at its default, so that settings that come later change nothing."""
    return hashlib.sha256(job.model_dump_json(exclude_defaults=True).encode()).hexdigest()


VERDICT = "verdict.json"


LOG = "metrics.jsonl"
