"""Results to one self-contained page: opens without network, reads on a phone and in the dark, prints."""

import base64
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from regraft.core.errors import ConfigError
from regraft.core.version import __version__
from regraft.files.atomic import write_text
from regraft.metrics.copies import exceeds_copy_bound
from regraft.runs.folder import RunFolder
from regraft.verbs.report.charts import charts
from regraft.verbs.report.subject import Subject, read, show

TEMPLATE = pathlib.Path(__file__).parents[2] / "assets" / "report.html.j2"
MAX_BYTES = 5_000_000
SIDES = (512, 384, 256, 160, 96)
MARKS = {"good": "✓", "still improving": "↗", "overfitting": "⚠", "collapsed": "✗", "copying": "⚠", "unknown": "?"}
TONES = {"good": "good", "still improving": "watch", "overfitting": "bad", "collapsed": "bad", "copying": "bad"}
SCRIPT = """
const slider = document.getElementById("slider");
if (slider) {
  const frames = [...document.querySelectorAll("#frames img")], label = document.getElementById("label");
  const show = () => {
    frames.forEach((frame, k) => { frame.hidden = k !== Number(slider.value); });
    label.value = frames[slider.value].dataset.label;
    slider.setAttribute("aria-valuetext", label.value);
  };
  slider.addEventListener("input", show);
  show();
}
"""


def report(
    runs: str | pathlib.Path | Sequence[str | pathlib.Path],
    out: str | pathlib.Path | None = None,
    *,
    training_images: bool = True,
) -> pathlib.Path:
    """Write the page of a run, or one that compares several.

    Args:
        runs: run folders.
        out: the page; the run's own page, or ``comparison.html`` beside several runs, if left out.
        training_images: show small versions of training images beside the samples nearest to them.

    Returns:
        Where the page is.

    Raises:
        ConfigError: if runs cannot be compared, or something else than a page is in the way.
    """
    if out is not None and not pathlib.Path(out).absolute().parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {pathlib.Path(out).parent} to write the page to; make it first")
    folders = [pathlib.Path(r) for r in ([runs] if isinstance(runs, str | pathlib.Path) else runs)]
    subjects = [read(folder) for folder in folders]
    if len(subjects) > 1:
        check_comparable(subjects)
    path = (
        pathlib.Path(out)
        if out is not None
        else RunFolder(folders[0]).page
        if len(folders) == 1
        else pathlib.Path("comparison.html")
    )
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: the page is an .html file")
    if path.exists() and not _is_ours(path):
        raise ConfigError(f"{path}: exists and is no page of regraft; nothing is overwritten")
    write_text(path, page(subjects, training_images=training_images))
    return path


def page(subjects: Sequence[Subject], *, training_images: bool = True) -> str:
    """The page's HTML, under 5 MB: pictures are made smaller until it is."""
    for side in SIDES:
        text = _render(subjects, side, training_images)
        if len(text.encode()) < MAX_BYTES:
            break
    return text


def check_comparable(subjects: Sequence[Subject]) -> None:
    """Refuse runs whose numbers do not mean the same.

    Raises:
        ConfigError: naming what differs.
    """
    first = subjects[0]
    names = [s.folder.resolve() for s in subjects]
    if len(set(names)) < len(names):
        raise ConfigError(f"{first.folder}: the same run twice")
    for other in subjects[1:]:
        pair = f"{first.folder} and {other.folder} cannot be compared"
        if first.record["image"]["size"] != other.record["image"]["size"]:
            sizes = " and ".join("x".join(map(str, s.record["image"]["size"])) for s in (first, other))
            raise ConfigError(f"{pair}: their images are {sizes}")
        if first.record["data"] != other.record["data"]:
            raise ConfigError(
                f"{pair}: they were trained and measured on different images (or on another share of them, which --seed and "
                "--held-out decide); measure both with regraft evaluate on the same unseen images"
            )
        mine, theirs = first.extractors, other.extractors
        for name in mine.keys() & theirs.keys():
            if mine[name] != theirs[name]:
                raise ConfigError(f"{pair}: the weights of the extractor {name} differ")
        if mine and theirs and mine.keys() != theirs.keys():
            raise ConfigError(f"{pair}: measured with {', '.join(mine)} and with {', '.join(theirs)}")


def _render(subjects: Sequence[Subject], side: int, training_images: bool) -> str:
    shown = [show(s, side, training_images, alone=len(subjects) == 1) for s in subjects]
    # A page of its own stands or falls with this: the only script that may run is this one.
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["capital"] = lambda text: text[:1].upper() + text[1:]
    held = subjects[0].record["data"]["held_out"]
    scores = _scores(subjects)
    notes = [note for s, made in zip(subjects, shown, strict=True) for note in (*s.notes, *made["notes"])]
    licence = "The pictures inherit the terms of the source's licence and of your images."
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=" against ".join(s.name for s in subjects),
        version=__version__,
        runs=shown,
        tones=TONES,
        marks=MARKS,
        charts=charts(subjects),
        scores=scores,
        few_held=held if 0 < held < 20 else 0,
        notes=[*notes, licence],
        script=Markup(SCRIPT),
        script_hash=script_hash,
        strip_columns=8,
        with_floor=any(row["floor"] for row in scores),
        with_replayed=any(row["replayed"] for row in scores),
        copiers=[s.name for s in subjects if _copies(s)],
    )


def _scores(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Rows of the table of scores: those that every run has."""
    tables = [{s["name"]: s for s in subject.scores} for subject in subjects]
    honest = [not _copies(subject) for subject in subjects]
    rows = []
    for name, first in tables[0].items():
        if any(name not in table for table in tables):
            continue
        values = [table[name]["value"] for table, counts in zip(tables, honest, strict=True) if counts]
        better = first.get("better", "none")
        best = min(values) if values and better == "lower" else max(values) if values and better == "higher" else None
        cells = []
        for table, counts in zip(tables, honest, strict=True):
            score = table[name]
            between = "" if not score.get("interval") else " ({:.3g} to {:.3g})".format(*score["interval"])
            cells.append(
                {"text": f"{score['value']:.4g}{between}", "best": len(tables) > 1 and counts and score["value"] == best}
            )
        details = first.get("details") or {}
        floor, rough = details.get("floor"), ", rough" if details.get("threshold_uncertain") else ""
        rows.append(
            {
                "name": name + rough,
                "cells": cells,
                "floor": f"{floor:.3g}" if isinstance(floor, int | float) else "",
                "replayed": f"{details['replayed']:.3g}" if isinstance(details.get("replayed"), int | float) else "",
                "better": {"lower": "lower", "higher": "higher"}.get(better, ""),
                "counts": f"{first['n_real']}, {first['n_fake']}",
            }
        )
    return rows


def _copies(subject: Subject) -> bool:
    """Whether so many samples of a run are copies that its other numbers do not count."""
    return any(exceeds_copy_bound(s) for s in subject.scores if s["name"].startswith("copies["))


def _is_ours(path: pathlib.Path) -> bool:
    return path.is_file() and b'name="generator" content="regraft' in path.read_bytes()[:2000]
