"""Verbs that list, read and make sources: sources, inspect, convert, pretrain, encode, train-classifier."""

import dataclasses
import json
import pathlib
import sys
from typing import Annotated, Any

import typer

from regraft.cli.options import AdapterSources, Json, Quiet, Resume, RunOut, Set, options_from
from regraft.cli.output import download_public, print_facts, print_json, reporting
from regraft.cli.progress import Reporter
from regraft.core.config import parse_overrides
from regraft.core.errors import ConfigError
from regraft.core.jobs import AdaptJob, ClassifierJob

NOT_PRETRAINING = (
    "images",
    "sources",
    "method",
    "out",
    "held_out",
    "evaluate_every",
    "keep",
    "extractor",
    "settings",
    "recipe",
    "objective",
)
"""Settings of an adaptation that pretrain does not have, or takes in another way."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for command in (sources, inspect, convert, pretrain, encode):
        app.command()(command)
    app.command("train-classifier")(train_classifier)


def sources(as_json: Json = False) -> None:
    """List the sources that have a name: bundled ones, and public ones that are downloaded when first used."""
    from regraft.verbs.lists import list_sources

    listed = list_sources()
    if as_json:
        print_json(listed)
        return
    width = max(len(s["name"]) for s in listed)
    for s in listed:
        state = s["kind"] if s["kind"] == "bundled" else "here" if s["cached"] else "by hand" if s["how"] else "download"
        side = f"{s['resolution']} px" if s["resolution"] else ""
        terms = "non-commercial" if s["noncommercial"] else s["licence"] or "not stated"
        print(f"{s['name']:<{width}}  {state:<8}  {s['family'] or '':<13}  {side:>7}  {s['dataset'] or ''}; licence: {terms}")
    print("by hand: regraft inspect NAME says what to do.  Licences and addresses: regraft sources --json")


def inspect(
    source: Annotated[str, typer.Argument(help="A source file or folder, source card, run, or the name of a source.")],
    grid: Annotated[pathlib.Path | None, typer.Option(help="A .png to write, with a grid of 64 samples.")] = None,
    adapter_sources: AdapterSources = None,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Look at a source although weights are NaN or infinite.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a source is, and what was assumed to read it."""
    from regraft.verbs.inspect import inspect as run_inspect
    from regraft.verbs.sample import sample

    download_public(source, *(adapter_sources or ()))
    facts = run_inspect(source, sources=adapter_sources, allow_nonfinite=allow_nonfinite)
    if grid is not None:
        sample(source, grid, sources=adapter_sources)
        facts["grid"] = str(grid)
    if as_json:
        print_json(facts)
        return
    names = facts["class_names"]
    print_facts(
        facts
        | {
            "noncommercial": facts["noncommercial"] if facts["licence"] else "unknown: no licence is stated",
            "files": list(facts["files"]),
            "class_names": [*names[:8], *(["... (--json lists all)"] if len(names) > 8 else [])],
        }
    )


def convert(
    source: Annotated[str, typer.Argument(help="A source, or a run to merge with its sources.")],
    out: Annotated[pathlib.Path, typer.Argument(help="Folder to make; never overwritten.")],
    adapter_sources: AdapterSources = None,
) -> None:
    """Write a stand-alone source as safetensors and JSON."""
    from regraft.verbs.convert import convert as run_convert

    download_public(source, *(adapter_sources or ()))
    print(f"written: {run_convert(source, out, sources=adapter_sources)}")


@options_from(AdaptJob, leave_out=NOT_PRETRAINING)
def pretrain(
    options: dict[str, Any],
    images: Annotated[str | None, typer.Argument(help="Images: a folder, or a file of many (.zip, .npz, .tar, ...).")] = None,
    backbone: Annotated[str, typer.Option(help="Family of networks: dcgan, stylegan2, autoencoder, alae, ...")] = "dcgan",
    size: Annotated[int | None, typer.Option(min=4, help="Side of the images in pixels.")] = None,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 for grey images, 3 for colour.")] = 3,
    out: RunOut = None,
    licence: Annotated[str | None, typer.Option(help="Terms of the images, kept with the source.")] = None,
    set_: Set = None,
    resume: Resume = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a source from images alone: a GAN of any backbone, a plain autoencoder, or a StyleALAE."""
    from regraft.verbs.lengthen import to_resume
    from regraft.verbs.pretrain import pretrain as run_pretrain

    settings = options | parse_overrides(set_ or [])
    if isinstance(settings.get("batch"), str) and settings["batch"].isdigit():
        settings["batch"] = int(settings["batch"])
    if channels == 2:
        raise ConfigError("--channels 2: 1 for grey images, 3 for colour")
    with reporting(quiet) as report:
        if resume is None:
            shape: dict[str, Any] = {"backbone": backbone, "size": size, "channels": channels}
            run_pretrain(images, out=out, licence=licence, on_event=report, **shape, **settings)
        else:
            if images or set_ or size or (backbone, channels) != ("dcgan", 3):
                raise ConfigError(
                    "--resume goes on with a run's own settings; leave images, --backbone, --size, --channels and --set out"
                )
            out = to_resume(resume, out, options)
            run_pretrain(out=out, resume=True, licence=licence, on_event=report)
    print(json.dumps({"out": str(out)}) if as_json else f"{out}: a source.  Next: regraft inspect {out}")


@options_from(AdaptJob, only=("device", "fit", "on_bad"))
def encode(
    options: dict[str, Any],
    source: Annotated[str, typer.Argument(help="A source with an autoencoder.")],
    images: Annotated[str, typer.Argument(help="Images: a folder, a .zip or an .npz; or a folder of published pickled codes.")],
    out: Annotated[pathlib.Path, typer.Option(help="Codes file to write, a .safetensors; a .json goes beside it.")],
    batch: Annotated[int, typer.Option(min=1, help="Images per forward pass; changes speed only.")] = 32,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode images once, for training with mind2mind; a stopped encoding goes on when it is called again."""
    from regraft.verbs.encode import encode as run_encode

    report = Reporter(quiet)

    def tell(event: dict[str, Any]) -> None:
        report.say(f"encoded {event['done']}/{event['of']}")

    result = run_encode(source, images, out, batch=batch, on_event=tell, **options)
    if as_json:
        facts = {"out": str(result.path), "n": result.codes.n, "encoded": result.computed, "reused": result.reused}
        print_json(facts | {"notes": list(result.notes)})
        return
    for note in result.notes:
        report.say(f"note: {note}")
    print(f"{result.path}: {result.codes.n} codes, {result.computed} encoded now, {result.reused} as before")


@options_from(ClassifierJob)
def train_classifier(
    options: dict[str, Any],
    images: Annotated[str, typer.Argument(help="Labelled images: a folder of class folders, a .zip of one, or an .npz.")],
    out: Annotated[pathlib.Path, typer.Option(help="File to write, for --extractor classifier:FILE.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small classifier as an extractor for your own domain."""
    from regraft.verbs.train_classifier import train_classifier as run_training

    def print_step(step: int, loss: float) -> None:
        print(f"step {step}: loss {loss:.3f}", file=sys.stderr)

    trained = run_training(images, out, on_step=None if quiet or as_json else print_step, **options)
    if as_json:
        print_json(dataclasses.asdict(trained) | {"file": str(trained.file)})
        return
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    low, high = trained.interval
    print(
        f"{trained.file}: {len(trained.classes)} classes; on {trained.n_held} held-out images {trained.accuracy:.1%} right "
        f"({low:.1%} to {high:.1%}; the commonest class alone: {trained.chance:.1%})"
    )
