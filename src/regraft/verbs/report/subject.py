"""What a report shows of one run: read from its folder, then made into small embedded pictures and plain text."""

import base64
import dataclasses
import functools
import io
import json
import pathlib
import shlex
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor

from regraft.composites.mixed import interpolate_latents, pick_source
from regraft.core.errors import ConfigError, RegraftError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.data import pictures
from regraft.data.pixels import UnreadableImage, decode
from regraft.evaluation.copying import COPY_RADIUS, NeighbourScale
from regraft.runs import adapter, records
from regraft.runs.folder import RunFolder, read_job
from regraft.runs.training_images import training_images
from regraft.verbs.load import load, unfinished

SHOWN = 12
FRAMES = 41
WALK = 16
PIXEL = 96
UNJUDGED = {"word": "unknown", "sentence": "This run was not judged.", "findings": [], "cautions": []}


@dataclasses.dataclass(frozen=True)
class Subject:
    """One run as its folder tells it.

    Attributes:
        folder, record, job: where it is, its adapter's record, its settings.
        gan: loaded.
        source: the first source, or None if there is none to be found.
        training: images that it was trained on, or None if they are gone.
        verdict, scores, rows: as saved; lines of the log.
        notes: what could not be shown, one sentence each.
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
        """Its held-out measurements."""
        return records.history(self.rows)

    @property
    def extractors(self) -> dict[str, str | None]:
        """Digests of the extractors behind its scores."""
        return {s["extractor"]: s.get("extractor_sha256") for s in self.scores if s["extractor"] != "pixels"}

    @property
    def watched(self) -> tuple[str, str | None]:
        """What the curves were measured with: the extractor, and the critic it is made of if it is one."""
        kind = str(self.history[-1].get("extractor", "")) if self.history else ""
        sources = self.record["sources"]
        return kind, sources[0].get("critic_digest") if "critic" in kind.split("+") and sources else None


def read(folder: pathlib.Path) -> Subject:
    """Read a run.

    Raises:
        ConfigError: if it is no run.
        RegraftError: if its adapter cannot be loaded.
    """
    if said := unfinished(folder):
        raise ConfigError(said)
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
        found = records.read_json(files.verdict, records.Judgement)
        verdict = found.model_dump() if found is not None else verdict
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
    """Names of the classes of one of a run's sources; empty where they are unknown, or the source is gone."""
    if number == 0:
        return subject.source.provenance.classes if subject.source is not None else ()
    try:
        return load(subject.job.sources[number]).provenance.classes
    except (RegraftError, IndexError):
        return ()


def show(subject: Subject, side: int, training_images: bool, alone: bool = True) -> dict[str, Any]:
    """What the page's template is given of a run."""
    record, sources = subject.record, subject.record["sources"]
    height, width = record["image"]["size"]
    held = record["data"]["held_out"]
    verdict = subject.verdict
    said = verdict["sentence"].partition(": ")
    said = said[2] if said[0].lower() == verdict["word"] else verdict["sentence"]
    samples = subject.gan.sample(SHOWN if alone else 36, subject.job.seed).cpu()
    facts = [
        ("Method", record["method"]),
        ("Step kept", f"{record['step']:,} of {_steps(subject):,}"),
        ("Target images", f"{record['data']['n']}, {held} of them held out"),
        ("Image size", f"{width} × {height}" + (", grey" if record["image"]["channels"] == 1 else "")),
        ("Source", ", ".join(str(s["name"]) for s in sources) or "none"),
    ]
    shown: dict[str, Any] = {
        "name": subject.name,
        "facts": facts,
        "command": command(subject.job),
        "kept": record["step"],
        "verdict": verdict
        | {"said": said[:1].upper() + said[1:], "findings": [f for f in verdict["findings"] if f["text"] != said]},
        "settings": yaml.safe_dump(subject.job.model_dump(mode="json"), sort_keys=False),
        "origin": _origin(subject),
        "source_name": str(sources[0]["name"]) if sources else "",
        "training_shown": training_images,
    }
    if not alone:
        return shown | {"notes": [], "grid": embed(pictures.grid(samples, scale=1), side)}
    frames, unread = _frames(subject, side)
    at = next((k for k, f in enumerate(frames) if f["step"] == record["step"]), len(frames) - 1)
    for k, frame in enumerate(frames):
        frame["shown"] = k == at
    return shown | {
        "frames": frames,
        "notes": unread,
        "frame_count": 16,
        "shown": at,
        "pairs": _pairs(subject, samples, side),
        "nearest": _nearest(subject, samples, side, training_images),
        "strip": _strip(subject, side),
    }


def embed(picture: Image.Image, side: int) -> dict[str, Any]:
    """A picture as a data URI, no side longer than ``side``: exact while small, compressed when large."""
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    exact = max(picture.size) <= PIXEL or picture.mode == "L"
    picture.save(buffer, "WEBP", lossless=exact, quality=80, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"uri": uri, "width": picture.width, "height": picture.height, "pixel": max(picture.size) <= PIXEL}


def command(job: AdaptJob) -> str:
    """The command line that makes this run again."""
    plain = AdaptJob(images=job.images)
    words = ["regraft", "adapt", job.images]
    for source in job.sources:
        words += ["--source", source]
    for name in AdaptJob.model_fields:
        value = getattr(job, name)
        if name in ("images", "sources", "recipe", "settings", "objective") or value == getattr(plain, name) or value is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag if value else f"--no-{flag[2:]}"] if isinstance(value, bool) else [flag, str(value)]
    if isinstance(job.objective, str):
        words += ["--objective", job.objective]
    nested = _flat("objective", job.objective) if isinstance(job.objective, dict) else []
    for key, value in [*_flat("", job.settings), *_flat("recipe", job.recipe), *nested]:
        if value is not None:
            words += ["--set", f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]
    return shlex.join(words)


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        found += _flat(name, value) if isinstance(value, dict) else [(name, value)]
    return found


def _steps(subject: Subject) -> int:
    return max(
        [int(row["step"]) for row in subject.rows if isinstance(row.get("step"), int)], default=int(subject.record["step"])
    )


def _origin(subject: Subject) -> list[tuple[str, str | list[str]]]:
    """Versions, digests and licences, as rows."""
    record = subject.record
    versions = [f"{name} {version}" for name, version in sorted(record["versions"].items())]
    rows: list[tuple[str, str | list[str]]] = [("Versions", versions), ("Seed", str(record["seed"]))]
    for source in record["sources"]:
        lines = [f"generator {source['generator_digest']}"]
        lines += [f"critic {source['critic_digest']}"] if source.get("critic_digest") else []
        lines += [f"{name} {digest}" for name, digest in (source.get("files") or {}).items()]
        rows.append((f"Source {source['name']}", lines))
        rows.append(("Its licence", str(source.get("licence") or "not stated")))
        rows += [("Its training data", str(source["dataset"]))] if source.get("dataset") else []
    rows += [("Adapter", str(record["tensor_digest"])), ("Training images", str(record["data"]["digest"]))]
    rows += [(f"Extractor {name}", digest or "") for name, digest in subject.extractors.items()]
    return rows


def _frames(subject: Subject, side: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Grids saved while training, evenly thinned, the kept step's among them; and a note on those that cannot be read."""
    grids = RunFolder(subject.folder).sampled_steps()
    steps = sorted(grids)
    if len(steps) > FRAMES:
        kept = {steps[round(k * (len(steps) - 1) / (FRAMES - 1))] for k in range(FRAMES)}
        steps = sorted(kept | ({subject.record["step"]} & set(steps)))
    frames, notes = [], []
    for step in steps:
        try:
            picture = decode(grids[step].read_bytes(), str(grids[step]), lambda note: None)
        except (UnreadableImage, OSError) as error:
            notes.append(f"Samples of step {step} are not shown: {error}")
            continue
        frames.append({"step": step, "picture": embed(picture, side)})
    return frames, notes


def _pairs(subject: Subject, samples: Tensor, side: int) -> list[dict[str, Any]]:
    """The same latents through source and adapted generator, where both take the same."""
    source = subject.source
    if source is None or source.generator.latent != subject.gan.generator.latent or len(subject.record["sources"]) != 1:
        return []
    before = source.sample(SHOWN, subject.job.seed).cpu()
    small = min(side, 192)
    return [{"before": _one(b, subject, small), "after": _one(a, subject, small)} for b, a in zip(before, samples, strict=True)]


def _nearest(subject: Subject, samples: Tensor, side: int, with_training: bool) -> list[dict[str, Any]]:
    """Samples with their nearest training images, and how near."""
    training = subject.training
    if training is None or len(training) < 3 or training.shape[1:] != samples.shape[1:]:
        return []
    shares, first = NeighbourScale(training, None).relative_distances(samples)
    small = min(side, 128)
    return [
        {
            "sample": _one(samples[k], subject, small),
            "copied": bool(shares[k] < COPY_RADIUS),
            "share": f"{float(shares[k]):.0%}" if shares[k].isfinite() else "?",
            "training": _one(training[first[k]], subject, small) if with_training else None,
        }
        for k in range(len(samples))
    ]


def _strip(subject: Subject, side: int) -> list[dict[str, Any]]:
    """A walk through a few latents, of the likeliest source where several were mined."""
    gan = pick_source(subject.gan, None)
    ends = gan.generator.latent.at(subject.job.seed, range(3))
    walk = [interpolate_latents(gan.generator, ends[k // 8], ends[k // 8 + 1], (k % 8) / 8) for k in range(WALK)]
    label = torch.zeros(1, dtype=torch.long) if gan.generator.n_classes else None  # one class serves the whole walk
    return [_one(image, subject, min(side, 160)) for image in gan.at(torch.stack(walk), label).cpu()]


def _one(image: Tensor, subject: Subject, side: int) -> dict[str, Any]:
    return embed(pictures.to_picture(image, subject.record["image"]["aspect"]), side)
