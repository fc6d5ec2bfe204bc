"""The command line: each command parses its options, calls a verb and prints."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from regraft.cli import measure
from regraft.cli import sources as source_commands
from regraft.cli.options import Json, Quiet, Set, Sources, options_from
from regraft.cli.progress import Reporter
from regraft.core.config import parse_overrides
from regraft.core.errors import ConfigError, RegraftError
from regraft.core.jobs import AdaptJob, ClassifierJob, EvaluateJob, SampleJob
from regraft.core.version import __version__

app = typer.Typer(
    name="regraft",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Adapt pretrained GANs to new image domains with few images.",
    epilog="Exit codes: 0 done; 1 the work failed; 2 what was given is wrong (options, settings, files, images); "
    "130 interrupted, with the state saved.",
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from; may stand anywhere.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing; the same as REGRAFT_OFFLINE=1.")] = False,
) -> None:
    if offline:
        os.environ["REGRAFT_OFFLINE"] = "1"
    if version:
        print(f"regraft {__version__}")
        raise typer.Exit


@app.command()
@options_from(AdaptJob, leave_out=("images", "sources", "out", "recipe", "settings"))
def adapt(
    images: Annotated[str | None, typer.Argument(help="Folder, .zip or .npz of target images.")] = None,
    source: Sources = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="Run folder; never overwritten.")] = None,
    set_: Set = None,
    config: Annotated[pathlib.Path | None, typer.Option(help="YAML with any of these settings.")] = None,
    resume: Annotated[pathlib.Path | None, typer.Option(help="Run folder to go on with, exactly where it stopped.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Adapt one or several pretrained GANs to target images."""
    from regraft.verbs.adapt import adapt as run_adapt
    from regraft.verbs.adapt import dry_run as preview
    from regraft.verbs.lengthen import to_resume

    settings = _settings(given or {}, set_)
    with _reporting(quiet or (as_json and not sys.stderr.isatty())) as report:
        if resume is not None:
            if images or source or set_ or config or dry_run:
                raise ConfigError(
                    "--resume goes on with a run's own settings; leave images, --source, --set, --config and --dry-run out"
                )
            run = run_adapt(resume=True, out=to_resume(resume, out, given or {}), on_event=report)
        elif dry_run:
            plan = preview(images, source or (), out=out, config=config, on_event=report, **settings)
            _show(plan, as_json)
            return
        else:
            run = run_adapt(images, source or (), out=out, config=config, on_event=report, **settings)
    result = {
        "folder": str(run.folder),
        "step": run.step,
        "stopped": run.stopped,
        "scores": [s.to_dict() for s in run.scores],
        "notes": list(run.notes),
        "findings": run.findings,
        "verdict": run.verdict.to_dict() if run.verdict else None,
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    _table([s.to_dict() for s in run.scores])
    _say_verdict(run)
    print(f"{run.folder}: adapter, samples and log.  Next: regraft sample {run.folder} --out {run.folder}-samples")


@app.command()
@options_from(SampleJob, leave_out=("class_name",))
def sample(
    source: Annotated[str, typer.Argument(help="A run, adapter, source file or folder, or bundled name.")],
    out: Annotated[
        pathlib.Path,
        typer.Option(
            help="A new folder for one PNG per image (in one folder per class where there are classes), or a .png for one grid."
        ),
    ],
    sources: Sources = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Sample one class: its name or, unless names are numbers, its number.")
    ] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Walk between latents instead; --out is a .gif or a .png strip.")
    ] = False,
    keys: Annotated[int, typer.Option(min=2, help="Latents on the walk.")] = 6,
    frames: Annotated[int, typer.Option(min=1, help="Images from one latent to the next.")] = 12,
    grid: Annotated[bool, typer.Option("--grid", help="Write a grid into the folder too.")] = False,
    as_json: Json = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Sample images, a grid, or an interpolation."""
    from regraft.verbs.sample import interpolate as run_interpolate
    from regraft.verbs.sample import sample as run_sample

    _fetch(source, *(sources or ()))
    given = (given or {}) | ({"class_name": class_} if class_ is not None else {})
    if interpolate:
        run_interpolate(source, out, sources=sources, keys=keys, frames=frames, **given)
    else:
        run_sample(source, out, sources=sources, grid=grid, **given)
    print(json.dumps({"out": str(out)}) if as_json else f"written: {out}")


@app.command()
@options_from(EvaluateJob, leave_out=("metrics",))
def evaluate(
    fake: Annotated[str, typer.Argument(help="A run or source to sample, or a folder or archive of generated images.")],
    real: Annotated[str, typer.Argument(help="Real images that training did not see: folder, .zip or .npz.")],
    metrics: Annotated[
        str | None, typer.Option(help="Comma-separated measures; the usual ones that apply if left out.")
    ] = None,
    training: Annotated[str | None, typer.Option(help="Images that training saw, for copy rates; a run knows its own.")] = None,
    sources: Sources = None,
    as_json: Json = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Measure generated images against real ones."""
    from regraft.verbs.evaluate import evaluate as run_evaluate

    _fetch(fake, *(sources or ()))
    given = given or {}
    if metrics:
        given["metrics"] = tuple(m.strip() for m in metrics.split(",") if m.strip())
    with _reporting(quiet=False) as report:
        found = run_evaluate(fake, real, training=training, sources=sources, on_event=report, **given)
    scores = [s.to_dict() for s in found]
    if as_json:
        print(json.dumps(scores, indent=2))
    else:
        _table(scores)


@app.command("train-classifier")
@options_from(ClassifierJob)
def train_classifier(
    images: Annotated[str, typer.Argument(help="Labelled images: a folder of class folders, a .zip of one, or an .npz.")],
    out: Annotated[pathlib.Path, typer.Option(help="File to write, for --extractor classifier:FILE.")],
    as_json: Json = False,
    quiet: Quiet = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Train a small classifier as an extractor for your own domain."""
    from regraft.verbs.train_classifier import train_classifier as train

    def say(step: int, loss: float) -> None:
        print(f"step {step}: loss {loss:.3f}", file=sys.stderr)

    done = train(images, out, on_step=None if quiet or as_json else say, **(given or {}))
    if as_json:
        print(json.dumps(dataclasses.asdict(done) | {"file": str(done.file)}, indent=2))
        return
    low, high = done.interval
    print(
        f"{done.file}: {len(done.classes)} classes; on {done.n_held} held-out images {done.accuracy:.1%} right "
        f"({low:.1%} to {high:.1%}; the commonest class alone: {done.chance:.1%})"
    )


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A source, or a run to merge with its sources.")],
    out: Annotated[pathlib.Path, typer.Argument(help="Folder to make.")],
    sources: Sources = None,
) -> None:
    """Write a stand-alone source as safetensors and JSON."""
    from regraft.verbs.convert import convert as run_convert

    _fetch(source, *(sources or ()))
    folder = run_convert(source, out, sources=sources)
    print(f"written: {folder}")


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="A source file or folder, card, run, or bundled name.")],
    grid: Annotated[pathlib.Path | None, typer.Option(help="Write a grid of 64 samples to this .png.")] = None,
    sources: Sources = None,
    as_json: Json = False,
) -> None:
    """Say what a source is, and what was assumed to read it."""
    from regraft.verbs.inspect import inspect as run_inspect
    from regraft.verbs.sample import sample as run_sample

    _fetch(source, *(sources or ()))
    facts = run_inspect(source, sources=sources)
    if grid is not None:
        run_sample(source, grid, sources=sources)
        facts["grid"] = str(grid)
    if not as_json:
        facts["noncommercial"] = facts["noncommercial"] if facts["licence"] else "unknown: no licence is stated"
        facts["files"] = list(facts["files"])
        facts["class_names"] = [
            *facts["class_names"][:8],
            *(["... (--json lists all)"] if len(facts["class_names"]) > 8 else []),
        ]
    _show(facts, as_json)


@app.command()
def sources(as_json: Json = False) -> None:
    """List the sources that have a name: bundled ones, and public ones that are downloaded when first used."""
    from regraft.verbs.lists import list_sources

    listed = list_sources()
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    width = max(len(s["name"]) for s in listed)
    for s in listed:
        state = s["kind"] if s["kind"] == "bundled" else "here" if s["cached"] else "by hand" if s["how"] else "download"
        side = f"{s['resolution']} px" if s["resolution"] else ""
        terms = "non-commercial" if s["noncommercial"] else s["licence"] or "not stated"
        print(f"{s['name']:<{width}}  {state:<8}  {s['family'] or '':<13}  {side:>7}  {s['dataset'] or ''}; licence: {terms}")
    print("by hand: regraft inspect NAME says what to do.  Licences and addresses: regraft sources --json")


@app.command()
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="Run folder; never overwritten.")] = pathlib.Path("demo-run"),
    quiet: Quiet = False,
) -> None:
    """Adapt a bundled digit GAN to 25 scanned digits of another data set: the main job, without network."""
    from regraft.runs.folder import RunFolder
    from regraft.verbs.demo import demo as run_demo

    with _reporting(quiet) as report:
        run = run_demo(out, report)
    _table([s.to_dict() for s in run.scores])
    _say_verdict(run)
    print(f"next: regraft sample {out} --n 16 --out {out}/grid.png")
    print(f"the page: {RunFolder(out).page}")


measure.register(app)


source_commands.register(app)


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code, which the help and :class:`RegraftError` explain."""
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        result = app(arguments, standalone_mode=False)
    except Exception as error:
        if isinstance(error, typer.Exit):
            return int(error.exit_code)
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return 2
        if debug:
            raise
        if isinstance(error, RegraftError):
            _complain(str(error))
            return error.exit_code
        if isinstance(error, BrokenPipeError):
            return 1
        elif isinstance(error, OSError):
            _complain(f"{error.filename or 'a file'}: {error.strerror or error}")
        else:
            _complain(f"{type(error).__name__}: {error} (this should not happen: please report it with --debug)")
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    return result if isinstance(result, int) else 0


def _settings(given: dict[str, Any], pairs: list[str] | None) -> dict[str, Any]:
    settings = dict(given)
    if isinstance(settings.get("batch"), str) and settings["batch"] != "auto":
        if not settings["batch"].isdigit():
            raise ConfigError(f"--batch {settings['batch']}: write a number, or auto")
        settings["batch"] = int(settings["batch"])
    return settings | parse_overrides(pairs or [])


def _fetch(*references: str) -> None:
    """Bring public sources here first, where a download can be shown."""
    from regraft.verbs.load import find, is_public

    with _reporting(quiet=False) as report:
        for name in references:
            if is_public(name):
                find(name, report)


@contextlib.contextmanager
def _reporting(quiet: bool) -> Iterator[Reporter]:
    report = Reporter(quiet)
    try:
        yield report
    finally:
        report.close()


def _complain(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)


def _table(scores: list[dict[str, Any]]) -> None:
    if not scores:
        print("nothing measured: no images were held out")
        return
    width = max(len(s["name"]) for s in scores)
    arrow = {"lower": "lower is better", "higher": "higher is better", "none": ""}
    print(f"{'':<{width}}  {'value':>10}   {'95 % interval':<22} {'real images':<12} {'replayed':<9}")
    for s in scores:
        doubt = "; rough, its threshold rests on so few unseen images" if s["details"].get("threshold_uncertain") else ""
        counts = f"n real {s['n_real']}, generated {s['n_fake']}" if s["n_real"] else f"n generated {s['n_fake']}"
        interval = "" if s["interval"] is None else f"{s['interval'][0]:.4g} to {s['interval'][1]:.4g}"
        replayed = f"{s['details']['replayed']:.4g}" if "replayed" in s["details"] else "-"
        line = (
            f"{s['name']:<{width}}  {s['value']:10.4g}   {interval:<22} {_reference(s['details']):<12} {replayed:<9} {counts}; "
        )
        print((line + arrow[s["better"]] + doubt).rstrip("; "))


def _reference(details: dict[str, Any]) -> str:
    """What real images score: with their number where that is smaller."""
    value = details.get("floor")
    value = details.get("real_value") if value is None else value
    if value is None:
        return "-"
    return f"{value:.4g}" + (f" (n {details['floor_n']})" if "floor_n" in details and "floor_note" in details else "")


def _say_verdict(run: Any) -> None:
    if run.verdict is None:
        return
    print(f"verdict: {run.verdict.sentence}")
    for caution in run.verdict.cautions:
        print(f"  but: {caution}")


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            print(f"{name}:")
            for line in value:
                print(f"  - {line}")
        elif value not in (None, [], {}, ()):
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            # Only long groups of settings are broken: a name, digest or address must stay whole to be copied.
            line = f"{name}: {shown}"
            print(
                textwrap.fill(line, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
                if isinstance(value, dict)
                else line
            )
