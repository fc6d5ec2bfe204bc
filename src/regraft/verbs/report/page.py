"""The verb ``report``: write one page on a run, or on several, that opens without network and can be printed."""

import base64
import hashlib
import pathlib
from collections.abc import Sequence

import jinja2
from markupsafe import Markup

from regraft.core.errors import ConfigError
from regraft.core.version import __version__
from regraft.files.atomic import write_text
from regraft.runs.folder import RunFolder
from regraft.verbs.report.charts import charts
from regraft.verbs.report.content import content_of
from regraft.verbs.report.scores import copies_too_much, score_rows
from regraft.verbs.report.subject import Subject, read

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
        runs: a run folder, or several.
        out: the .html file to write; by default the run's own page, or ``comparison.html`` for several runs.
        training_images: show small versions of training images beside the samples nearest to them.

    Returns:
        Path of the page.

    Raises:
        ConfigError: if a folder is not a finished run, if runs cannot be compared, or if ``out`` exists and is not a page of
            regraft.
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
    """Return the page's HTML; pictures are shrunk until it is smaller than 5 MB."""
    for side in SIDES:
        text = _render(subjects, side, training_images)
        if len(text.encode()) < MAX_BYTES:
            break
    return text


def check_comparable(subjects: Sequence[Subject]) -> None:
    """Check that the numbers of runs can be compared.

    Raises:
        ConfigError: naming what differs between two runs.
    """
    first = subjects[0]
    folders = [s.folder.resolve() for s in subjects]
    if len(set(folders)) < len(folders):
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
        extractors, other_extractors = first.extractors, other.extractors
        for name in extractors.keys() & other_extractors.keys():
            if extractors[name] != other_extractors[name]:
                raise ConfigError(f"{pair}: the weights of the extractor {name} differ")
        if extractors and other_extractors and extractors.keys() != other_extractors.keys():
            raise ConfigError(f"{pair}: measured with {', '.join(extractors)} and with {', '.join(other_extractors)}")


def _render(subjects: Sequence[Subject], side: int, training_images: bool) -> str:
    """Fill the template, with pictures of at most ``side`` pixels."""
    contents = [content_of(s, side, training_images, alone=len(subjects) == 1) for s in subjects]
    # The page allows this script only, so that nothing in a name or a note can run.
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["capital"] = lambda text: text[:1].upper() + text[1:]
    held = subjects[0].record["data"]["held_out"]
    scores = score_rows(subjects)
    notes = [note for s, content in zip(subjects, contents, strict=True) for note in (*s.notes, *content["notes"])]
    licence = "The pictures inherit the terms of the source's licence and of your images."
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=" against ".join(s.name for s in subjects),
        version=__version__,
        runs=contents,
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
        copiers=[s.name for s in subjects if copies_too_much(s)],
    )


def _is_ours(path: pathlib.Path) -> bool:
    """Return whether a file is a page that regraft wrote."""
    return path.is_file() and b'name="generator" content="regraft' in path.read_bytes()[:2000]
