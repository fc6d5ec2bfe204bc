"""Further verbs of the command line: what one wants to know before and after an adaptation."""

import json
import pathlib
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def check(
    images: Annotated[str, typer.Argument(help="Folder, .zip or .npz of target images.")],
    out: Annotated[pathlib.Path | None, typer.Option(help="A .png to write: overview, near-duplicates, outliers.")] = None,
    as_json: Json = False,
) -> None:
    """Look through target images before training: what is odd, and what is advised."""
    from regraft.verbs.check import check as look

    facts = look(images, out)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    print(f"{facts['images']} images" + (f", {facts['unreadable']} unreadable files" if facts["unreadable"] else ""))
    for name in ("sizes", "modes", "classes", "conversions"):
        if facts[name]:
            print(f"{name}: " + ", ".join(f"{key} ({count})" for key, count in facts[name].items()))
    pairs = [f"{a} = {b}" for a, b in facts["near_duplicates"]]
    for title, lines in (("near-duplicates", pairs), ("unlike all others", facts["outliers"]), ("odd files", facts["odd"])):
        print(f"{title}: " + (str(len(lines)) if lines else "none"))
        for line in lines[:10]:
            print(f"  - {line}")
        if len(lines) > 10:
            print(f"  - and {len(lines) - 10} more (--json lists all)")
    print("advice:")
    for line in facts["advice"]:
        print(f"  - {line}")
    if out is not None:
        print(f"written: {out}")


def rank(
    images: Annotated[str, typer.Argument(help="Folder, .zip or .npz of target images.")],
    source: Annotated[list[str], typer.Option("--source", "-s", help="A pretrained GAN; give at least two.")],
    n: Annotated[int, typer.Option("--n", min=16, help="Samples per source.")] = 1000,
    probe: Annotated[int, typer.Option(min=0, help="Steps of mining to try on each source; slower, and surer.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and probes.")] = 0,
    extractor: Annotated[str, typer.Option(help="Features to compare in, as for evaluate.")] = "random_conv",
    out: Annotated[pathlib.Path | None, typer.Option(help="A .png: targets, and the nearest sample of each source.")] = None,
    as_json: Json = False,
) -> None:
    """Say which of several sources is nearest to target images."""
    from regraft.verbs.rank import rank as order

    rows = order(images, source, n=n, probe=probe, seed=seed, extractor_name=extractor, out=out)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ["nearest", "coverage", "distance", "frechet", *(["probe"] if probe else [])]
    width = max(6, *(len(row["source"]) for row in rows))
    print(f"   {'source':<{width}}" + "".join(f"{name:>12}" for name in columns))
    for row in rows:
        print(f"{row['rank']}. {row['source']:<{width}}" + "".join(f"{_cell(row[name]):>12}" for name in columns))
    ordered = (
        f"probe: the Fréchet distance after {probe} steps of mining"
        if probe
        else "nearest: 1 where samples come as near to targets as these to one another"
    )
    print(f"Ordered by {ordered}; lower is nearer. coverage: share of targets with a sample as near as another target.")
    close = [row["source"] for row in rows if row["tied"]]
    if close:
        print(f"Too close to tell from the first by these images: {', '.join(close)}; --probe 200 looks closer.")
    if out is not None:
        print(f"written: {out}")


def report(
    runs: Annotated[list[str], typer.Argument(help="One run, or several to compare.")],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="The .html file to write; by default the run's own page, or comparison.html for several runs."),
    ] = None,
    training_images: Annotated[
        bool, typer.Option(help="Show small versions of training images beside the samples nearest to them.")
    ] = True,
) -> None:
    """Write a page on a run, or one that compares several: one file, no network."""
    from regraft.verbs.report.page import report as write

    print(f"written: {write(runs, out, training_images=training_images)}")


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}"


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for command in (report, check, rank):
        app.command()(command)
