"""Read a run for its report: adapter, settings, log, scores and verdict."""

import dataclasses
import functools
import pathlib
from typing import Any

from torch import Tensor

from regraft.core.errors import ConfigError, RegraftError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.runs import adapter, records
from regraft.runs.folder import RunFolder, read_job
from regraft.runs.training_images import training_images
from regraft.verbs.load import load, unfinished

UNJUDGED = {"word": "unknown", "sentence": "This run was not judged.", "findings": [], "cautions": []}


@dataclasses.dataclass(frozen=True)
class Subject:
    """One run, as read from its folder.

    Attributes:
        folder: the run folder.
        record: the adapter's description.
        job: the run's settings.
        gan: the adapted GAN.
        source: the first source, or None if there is none or it is not found.
        training: images that it was trained on, or None if they are gone or have changed.
        verdict: as saved.
        scores: as saved.
        rows: lines of the log.
        notes: what could not be read, one sentence each.
    """

    folder: pathlib.Path
    record: dict[str, Any]
    job: AdaptJob
    gan: GAN
    source: GAN | None
    training: Tensor | None
    verdict: dict[str, Any]
    scores: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.folder.resolve().name

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """Held-out measurements of the run."""
        return records.history(self.rows)

    @property
    def extractors(self) -> dict[str, str | None]:
        """Digest of each extractor that its scores were measured with."""
        return {s["extractor"]: s.get("extractor_sha256") for s in self.scores if s["extractor"] != "pixels"}

    @property
    def curve_extractor(self) -> tuple[str, str | None]:
        """Extractor that the held-out measurements were made with, and the digest of the critic if that is part of it."""
        name = str(self.history[-1].get("extractor", "")) if self.history else ""
        sources = self.record["sources"]
        return name, sources[0].get("critic_digest") if "critic" in name.split("+") and sources else None


def read(folder: pathlib.Path) -> Subject:
    """Read a run.

    What is damaged or missing beside the adapter is left out, with a note.

    Raises:
        ConfigError: if the folder is not a finished run.
        RegraftError: if its adapter cannot be loaded.
    """
    if how_to_resume := unfinished(folder):
        raise ConfigError(how_to_resume)
    files = RunFolder(folder)
    if not files.settings.is_file() or not adapter.is_adapter(folder):
        raise ConfigError(
            f"{folder}: not a finished run (it has no {files.settings.name} with an adapter); name a folder that adapt made"
        )
    job = read_job(folder)
    record = adapter.read_config(folder)
    records.validated(record, records.Origin, files.adapter_config)
    notes = []
    source, training = None, None
    gan = load(folder)
    try:
        source = load(job.sources[0]) if job.sources else None
    except RegraftError as error:
        notes.append(f"The source is not shown: {error}")
    try:
        training = training_images(folder)
    except RegraftError as error:
        notes.append(f"Training images are not shown: {error}")
    verdict, scores = UNJUDGED, []
    try:
        judgement = records.read_json(files.verdict, records.Judgement)
        verdict = judgement.model_dump() if judgement is not None else verdict
    except RegraftError as error:
        verdict = UNJUDGED | {"sentence": "The verdict cannot be read."}
        notes.append(f"The verdict is not shown: {error}")
    try:
        scores = [s.model_dump() for s in records.read_json(files.scores, list[records.Measured]) or []]
    except RegraftError as error:
        notes.append(f"Scores are not shown: {error}")
    rows = records.read_log(files.log)
    return Subject(folder, record, job, gan, source, training, verdict, scores, rows, tuple(notes))


def class_names(subject: Subject, number: int) -> tuple[str, ...]:
    """Return the names of the classes of source ``number``; empty if they are unknown or the source is not found."""
    if number == 0:
        return subject.source.provenance.classes if subject.source is not None else ()
    try:
        return load(subject.job.sources[number]).provenance.classes
    except (RegraftError, IndexError):
        return ()
