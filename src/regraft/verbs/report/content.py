"""Collect what a page shows of one run: facts, verdict, command, settings, origin and pictures."""

import json
import shlex
from typing import Any

import yaml

from regraft.core.jobs import AdaptJob
from regraft.data import pictures
from regraft.verbs.report.images import embed, nearest_pairs, source_pairs, step_grids, walk
from regraft.verbs.report.subject import Subject

WRITTEN_OTHERWISE = ("images", "sources", "recipe", "settings", "objective")
"""Settings that a command line does not take as an option of their own name."""
SAMPLES = 12
SAMPLES_COMPARED = 36
"""Samples of each run on a page that compares several."""


def content_of(subject: Subject, side: int, training_images: bool, alone: bool = True) -> dict[str, Any]:
    """Collect what the page's template shows of a run.

    Args:
        subject: the run.
        side: longest side of a picture in pixels.
        training_images: whether to show training images.
        alone: whether the page is on this run only.
    """
    record, sources = subject.record, subject.record["sources"]
    samples = subject.gan.sample(SAMPLES if alone else SAMPLES_COMPARED, subject.job.seed).cpu()
    content: dict[str, Any] = {
        "name": subject.name,
        "facts": _facts(subject),
        "command": command(subject.job),
        "kept": record["step"],
        "verdict": _verdict(subject),
        "settings": yaml.safe_dump(subject.job.model_dump(mode="json"), sort_keys=False),
        "origin": _origin(subject),
        "source_name": str(sources[0]["name"]) if sources else "",
        "training_shown": training_images,
    }
    if not alone:
        return content | {"notes": [], "grid": embed(pictures.grid(samples, scale=1), side)}
    frames, notes = step_grids(subject, side)
    kept = next((k for k, frame in enumerate(frames) if frame["step"] == record["step"]), len(frames) - 1)
    for k, frame in enumerate(frames):
        frame["shown"] = k == kept
    return content | {
        "frames": frames,
        "notes": notes,
        "frame_count": 16,
        "shown": kept,
        "pairs": source_pairs(subject, samples, side),
        "nearest": nearest_pairs(subject, samples, side, training_images),
        "strip": walk(subject, side),
    }


def _facts(subject: Subject) -> list[tuple[str, str]]:
    record = subject.record
    height, width = record["image"]["size"]
    steps = [int(row["step"]) for row in subject.rows if isinstance(row.get("step"), int)]
    return [
        ("Method", record["method"]),
        ("Step kept", f"{record['step']:,} of {max(steps, default=int(record['step'])):,}"),
        ("Target images", f"{record['data']['n']}, {record['data']['held_out']} of them held out"),
        ("Image size", f"{width} × {height}" + (", grey" if record["image"]["channels"] == 1 else "")),
        ("Source", ", ".join(str(s["name"]) for s in record["sources"]) or "none"),
    ]


def _verdict(subject: Subject) -> dict[str, Any]:
    """Return the verdict; ``said`` is its sentence without the leading word, and the finding of that text is left out."""
    verdict = subject.verdict
    word, _, rest = verdict["sentence"].partition(": ")
    sentence = rest if word.lower() == verdict["word"] else verdict["sentence"]
    findings = [finding for finding in verdict["findings"] if finding["text"] != sentence]
    return verdict | {"said": sentence[:1].upper() + sentence[1:], "findings": findings}


def command(job: AdaptJob) -> str:
    """Return the command line that repeats a run."""
    defaults = AdaptJob(images=job.images)
    words = ["regraft", "adapt", job.images]
    for source in job.sources:
        words += ["--source", source]
    for name in AdaptJob.model_fields:
        value = getattr(job, name)
        if (
            name in ("images", "sources", "recipe", "settings", "objective")
            or value == getattr(defaults, name)
            or value is None
        ):
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
    """Return nested settings as pairs of a dotted key and a value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        pairs += _flat(name, value) if isinstance(value, dict) else [(name, value)]
    return pairs


def _origin(subject: Subject) -> list[tuple[str, str | list[str]]]:
    """Return versions, digests and licences, as rows of a table."""
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
