"""Run folders: their files, where they may be made, and whether one that exists can be resumed."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from regraft.core.config import parse, read_yaml
from regraft.core.errors import ConfigError
from regraft.core.jobs import AdaptJob
from regraft.core.names import printable, storable
from regraft.data import rules
from regraft.data.python import short_name
from regraft.files import known_records
from regraft.files.atomic import write_json, write_text

FINISHED = "this run is finished, and nothing is trained again; its results are in {}"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths in a run folder; no other place spells these names, but for those of ``known_records``.

    Every file is written under a temporary name, synced and renamed.  After ``pretrain`` the folder holds a source
    (:mod:`regraft.formats.native`) in place of adapter, scores, verdict and page.

    ================================== ==================================================== ========================
    file                               what it is                                           written by
    ================================== ==================================================== ========================
    ``config.yaml``                    settings, every open choice made                     :func:`write_run`
    ``metrics.jsonl``                  log: losses and held-out measurements, one per line  ``RunStore.log``
    ``samples/step-000500.png``        16 samples of step 500                               ``HeldOut``
    ``samples/final.png``              samples of the kept generator                        ``adapt``, ``pretrain``
    ``adapter_model.safetensors``      tensors of the adapted generator                     ``save_adapter``
    ``adapter_config.json``            method, settings, sources and data of the adapter    ``save_adapter``
    ``README.md``                      model card of the adapter                            ``save_adapter``
    ``scores.json``                    scores of the kept generator on held-out images      ``adapt``
    ``verdict.json``                   verdict on the kept generator, with its evidence     ``adapt``
    ``report.html``                    the page                                             ``report``
    ``state/run.json``                 digests of images, sources and settings              :func:`write_run`
    ``state/images.json``              names of the images, held-out ones included          :func:`open_run`
    ``state/last.pt``                  checkpoint to resume from                            ``RunStore.save_state``
    ``state/best-500.safetensors``     best generator so far, of step 500                   ``RunStore.save_best``
    ``state/critic.safetensors``       trained critic                                       ``save_critic``
    ================================== ==================================================== ========================

    Attributes:
        root: the folder; it need not exist.  An adapter folder, which has only the adapter's three files, will do.
    """

    root: pathlib.Path

    @property
    def settings(self) -> pathlib.Path:
        """The run's settings."""
        return self.root / known_records.SETTINGS

    @property
    def log(self) -> pathlib.Path:
        """Log of losses and held-out measurements."""
        return self.root / "metrics.jsonl"

    @property
    def samples(self) -> pathlib.Path:
        """Folder of sample grids."""
        return self.root / known_records.SAMPLES

    @property
    def final_samples(self) -> pathlib.Path:
        """Samples of the kept generator."""
        return self.samples / "final.png"

    def step_samples(self, step: int) -> pathlib.Path:
        """Samples of the generator at a step."""
        return self.samples / f"step-{step:06d}.png"

    def sampled_steps(self) -> dict[int, pathlib.Path]:
        """Every saved sample grid by its step, in order."""
        matches = ((re.fullmatch(r"step-(\d+)\.png", path.name), path) for path in self.samples.glob("step-*.png"))
        return dict(sorted((int(match[1]), path) for match, path in matches if match))

    @property
    def adapter_tensors(self) -> pathlib.Path:
        """Tensors of the adapted generator."""
        return self.root / "adapter_model.safetensors"

    @property
    def adapter_config(self) -> pathlib.Path:
        """Description of the adapter."""
        return self.root / known_records.ADAPTER

    @property
    def adapter_card(self) -> pathlib.Path:
        """Model card of the adapter."""
        return self.root / "README.md"

    @property
    def scores(self) -> pathlib.Path:
        """Scores of the kept generator."""
        return self.root / "scores.json"

    @property
    def verdict(self) -> pathlib.Path:
        """Verdict on the kept generator."""
        return self.root / "verdict.json"

    @property
    def page(self) -> pathlib.Path:
        """The report page."""
        return self.root / "report.html"

    @property
    def state(self) -> pathlib.Path:
        """Folder of what a resumed run needs."""
        return self.root / known_records.STATE

    @property
    def record(self) -> pathlib.Path:
        """Digests of images, sources and settings that a resumed run must match."""
        return self.state / known_records.RUN

    @property
    def image_names(self) -> pathlib.Path:
        """Names of the images, held-out ones included; a resumed run uses these and no others."""
        return self.state / "images.json"

    @property
    def checkpoint(self) -> pathlib.Path:
        """Checkpoint to resume from."""
        return self.state / "last.pt"

    def best(self, step: int) -> pathlib.Path:
        """Best generator so far, of a step."""
        return self.state / f"best-{step}.safetensors"

    def saved_bests(self) -> list[pathlib.Path]:
        """Every saved best generator; more than one only until the next checkpoint."""
        return list(self.state.glob("best-*.safetensors"))

    @property
    def critic(self) -> pathlib.Path:
        """The trained critic."""
        return self.state / "critic.safetensors"


def default_folder(images: str) -> pathlib.Path:
    """Return ``runs/<name of images>``, with a number if that is taken."""
    name = printable(short_name(images)) or "run"
    folder = pathlib.Path("runs") / name
    number = 2
    while folder.exists():
        folder = pathlib.Path("runs") / f"{name}-{number}"
        number += 1
    return folder


def check_out(folder: pathlib.Path) -> None:
    """Check, before anything costly is done, that a run can be written to a folder; write nothing.

    Raises:
        ConfigError: if something is there already, or no folder can be made there.
    """
    if storable(str(folder)) != str(folder):
        raise ConfigError(
            f"{storable(str(folder))}: this name is no UTF-8, and weights cannot be written there; choose another --out"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file, and a run is a folder; choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        begun = RunFolder(folder).record.exists()
        way_out = "go on with --resume, or choose another --out" if begun else "choose another --out"
        raise ConfigError(f"{folder}: is not empty, and nothing is overwritten; {way_out}")
    ancestor = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    if ancestor is not None and not ancestor.is_dir():
        raise ConfigError(f"{folder}: no folder can be made there, because {ancestor} is a file; choose another --out")
    if ancestor is not None and not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: {ancestor} cannot be written to; choose another --out")


def open_run(
    folder: pathlib.Path,
    job: AdaptJob,
    identity: dict[str, Any],
    resume: bool,
    licence: str | None = None,
    image_names: Sequence[str] = (),
) -> str | None:
    """Make a run folder, or check that an existing one can be resumed.

    Args:
        folder: the run folder.
        job: the run's settings.
        identity: digests of images and sources, which a resumed run must find unchanged.
        resume: whether the folder exists already.
        licence: terms of the images, kept with the run; a resumed run that has none may be given one.
        image_names: of the images that the run uses; a resumed one uses the same, whatever has come beside them since.

    Returns:
        The licence that the run keeps.

    Raises:
        ConfigError: if the folder is not empty, or belongs to other images, sources or settings, or keeps another licence.
    """
    if resume:
        record = read_record(folder)
        recorded_identity = {key: value for key, value in record.items() if key not in ("settings", "licence")}
        recorded_licence = record.get("licence")
        if recorded_identity != identity:
            what = "images" if recorded_identity.get("data") != identity["data"] else "sources"
            raise ConfigError(f"{folder}: the {what} are not those that the run began with; start a new run")
        if licence is None or licence == recorded_licence:
            return str(recorded_licence) if recorded_licence is not None else None
        if recorded_licence is not None:
            raise ConfigError(f"{folder}: --licence {licence}, and the run began with {recorded_licence}; leave --licence out")
        write_json(RunFolder(folder).record, record | {"licence": licence})
        return licence
    check_out(folder)
    RunFolder(folder).state.mkdir(parents=True, exist_ok=True)
    if image_names:
        write_json(RunFolder(folder).image_names, list(image_names))
    write_run(folder, job, identity | {"licence": licence})
    return licence


def read_job(folder: pathlib.Path) -> AdaptJob:
    """Read the settings of a run.

    Raises:
        ConfigError: if the folder has no settings, or they are not those of a run.
    """
    path = RunFolder(folder).settings
    return parse(AdaptJob, read_yaml(path, "a run's settings"), str(path))


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Read what a run recorded at its start: digests of images and sources; licence and settings too, except in old runs.

    Raises:
        ConfigError: if there is no record, or the settings were changed since.
    """
    run = RunFolder(folder)
    try:
        record: dict[str, Any] = json.loads(run.record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: no run that can be resumed ({error})") from None
    if record.get("settings") not in (None, _digest(read_job(folder))):
        raise ConfigError(
            f"{folder}: {run.settings.name} was changed since the run began; undo that, or start a new run with it"
        )
    return record


def read_image_names(folder: pathlib.Path) -> list[str] | None:
    """Read the names of the images that a run began with; None if it recorded none, as old runs and those of codes.

    Raises:
        ConfigError: if the record is damaged.
    """
    path = RunFolder(folder).image_names
    if not path.is_file():
        return None
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())[:160]}); start a new run") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: holds no list of names; start a new run")
    return names


def rules_of(folder: pathlib.Path) -> int:
    """Return the version of the rules by which a begun run scales its images and holds them out.

    Raises:
        ConfigError: as :func:`read_record` does.
    """
    data = read_record(folder).get("data")
    version = data.get("rules", rules.FIRST) if isinstance(data, dict) else rules.FIRST
    if version not in (rules.FIRST, rules.NEWEST):
        raise ConfigError(
            f"{folder}: was begun by a later version of regraft, which treats images otherwise; resume it with that"
        )
    return int(version)


def write_run(folder: pathlib.Path, job: AdaptJob, record: dict[str, Any]) -> None:
    """Write a run's settings and, with a digest of them, its record."""
    run = RunFolder(folder)
    write_text(run.settings, yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False))
    # The settings are read back, so that the digest is that of the file's content.
    write_json(run.record, record | {"settings": _digest(read_job(folder))})


def _digest(job: AdaptJob) -> str:
    """Return the SHA-256 of the settings that differ from their defaults, so that new settings leave it unchanged."""
    return hashlib.sha256(job.model_dump_json(exclude_defaults=True).encode()).hexdigest()
