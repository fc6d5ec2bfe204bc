"""The command line: adapt, sample, evaluate, report and demo here, the other verbs beside; each parses, calls and prints."""

import io
import json
import os
import pathlib
import sys
from typing import Annotated, Any

import typer

from regraft.cli import measure, sources
from regraft.cli.options import AdapterSources, Json, Quiet, Resume, RunOut, Set, Sources, options_from
from regraft.cli.output import download_public, print_facts, print_json, print_scores, print_verdict, reporting
from regraft.core.config import parse_overrides
from regraft.core.errors import ConfigError, RegraftError
from regraft.core.jobs import AdaptJob, EvaluateJob, SampleJob
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
    options: dict[str, Any],
    images: Annotated[
        str | None, typer.Argument(help="Target images: a folder, or a file of many (.zip, .npz, .tar, ...).")
    ] = None,
    source: Sources = None,
    out: RunOut = None,
    set_: Set = None,
    config: Annotated[pathlib.Path | None, typer.Option(help="YAML file with any of these settings.")] = None,
    resume: Resume = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt one or several pretrained GANs to target images."""
    from regraft.verbs.adapt import adapt as run_adapt
    from regraft.verbs.adapt import dry_run as preview
    from regraft.verbs.lengthen import to_resume

    settings = _parse_batch(options) | parse_overrides(set_ or [])
    with reporting(quiet or (as_json and not sys.stderr.isatty())) as report:
        if resume is not None:
            if images or source or set_ or config or dry_run:
                raise ConfigError(
                    "--resume goes on with a run's own settings; leave images, --source, --set, --config and --dry-run out"
                )
            run = run_adapt(resume=True, out=to_resume(resume, out, options), on_event=report)
        elif dry_run:
            plan = preview(images, source or (), out=out, config=config, on_event=report, **settings)
            print_json(plan) if as_json else print_facts(plan)
            return
        else:
            run = run_adapt(images, source or (), out=out, config=config, on_event=report, **settings)
    if as_json:
        print_json(
            {
                "folder": str(run.folder),
                "step": run.step,
                "stopped": run.stopped,
                "scores": [s.to_dict() for s in run.scores],
                "notes": list(run.notes),
                "findings": run.findings,
                "verdict": run.verdict.to_dict() if run.verdict else None,
            }
        )
        return
    print_scores(run.scores)
    print_verdict(run.verdict)
    print(f"{run.folder}: adapter, samples and log.  Next: regraft sample {run.folder} --out {run.folder}-samples")


@app.command()
@options_from(SampleJob, leave_out=("class_name",))
def sample(
    options: dict[str, Any],
    source: Annotated[str, typer.Argument(help="A run, adapter, source file or folder, or the name of a source.")],
    out: Annotated[
        pathlib.Path,
        typer.Option(
            help="A new folder for one PNG per image, with one folder per class if there are classes; or a .png for one grid."
        ),
    ],
    adapter_sources: AdapterSources = None,
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
) -> None:
    """Sample images, a grid, or an interpolation."""
    from regraft.verbs.sample import interpolate as run_interpolate
    from regraft.verbs.sample import sample as run_sample

    download_public(source, *(adapter_sources or ()))
    settings = options | ({"class_name": class_} if class_ is not None else {})
    if interpolate:
        run_interpolate(source, out, sources=adapter_sources, keys=keys, frames=frames, **settings)
    else:
        run_sample(source, out, sources=adapter_sources, grid=grid, **settings)
    print(json.dumps({"out": str(out)}) if as_json else f"written: {out}")


@app.command()
@options_from(EvaluateJob, leave_out=("metrics",))
def evaluate(
    options: dict[str, Any],
    fake: Annotated[str, typer.Argument(help="A run or source to sample, or a folder or archive of generated images.")],
    real: Annotated[str, typer.Argument(help="Real images that training did not see: a folder, a .zip or an .npz.")],
    metrics: Annotated[
        str | None, typer.Option(help="Names of metrics, separated by commas. Default: the usual ones that apply.")
    ] = None,
    training: Annotated[
        str | None, typer.Option(help="Images that training saw, to find copies of them. Default: those of the run.")
    ] = None,
    adapter_sources: AdapterSources = None,
    as_json: Json = False,
) -> None:
    """Measure generated images against real ones."""
    from regraft.verbs.evaluate import evaluate as run_evaluate

    download_public(fake, *(adapter_sources or ()))
    if metrics:
        options["metrics"] = tuple(m.strip() for m in metrics.split(",") if m.strip())
    with reporting(quiet=False) as report:
        scores = run_evaluate(fake, real, training=training, sources=adapter_sources, on_event=report, **options)
    print_json([s.to_dict() for s in scores]) if as_json else print_scores(scores)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="One run folder, or several to compare.")],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="The .html file to write. Default: the run's own page, or comparison.html for several runs."),
    ] = None,
    training_images: Annotated[
        bool, typer.Option(help="Show small versions of training images beside the samples nearest to them.")
    ] = True,
) -> None:
    """Write a page on a run, or one that compares several: one file that needs no network."""
    from regraft.verbs.report.page import report as run_report

    print(f"written: {run_report(runs, out, training_images=training_images)}")


@app.command()
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="Run folder to make; never overwritten.")] = pathlib.Path("demo-run"),
    quiet: Quiet = False,
) -> None:
    """Adapt a bundled digit GAN to 25 scanned digits of another data set: the main job, without network."""
    from regraft.runs.folder import RunFolder
    from regraft.verbs.demo import demo as run_demo

    with reporting(quiet) as report:
        run = run_demo(out, report)
    print_scores(run.scores)
    print_verdict(run.verdict)
    print(f"next: regraft sample {out} --n 16 --out {out}/grid.png")
    print(f"the page: {RunFolder(out).page}")


measure.register(app)
sources.register(app)


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code, which the help and :class:`RegraftError` explain."""
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name of a file may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        result = app([a for a in arguments if a != "--debug"], standalone_mode=False)
    except Exception as error:
        if isinstance(error, typer.Exit):
            return int(error.exit_code)
        # A wrong option: older versions of typer raise click's errors, newer ones their own.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return 2
        if debug:
            raise
        return _fail(error)
    except KeyboardInterrupt:
        _print_error("interrupted")
        return 130
    return result if isinstance(result, int) else 0


def _fail(error: Exception) -> int:
    """Print an error in one line; return the exit code."""
    if isinstance(error, RegraftError):
        _print_error(str(error))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, OSError):
        _print_error(f"{error.filename or 'a file'}: {error.strerror or error}")
    else:
        _print_error(f"{type(error).__name__}: {error} (this should not happen: please report it with --debug)")
    return 1


def _print_error(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)


def _parse_batch(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with ``--batch`` as a number, unless it is ``auto``."""
    batch = options.get("batch")
    if not isinstance(batch, str) or batch == "auto":
        return options
    if not batch.isdigit():
        raise ConfigError(f"--batch {batch}: write a number, or auto")
    return options | {"batch": int(batch)}
