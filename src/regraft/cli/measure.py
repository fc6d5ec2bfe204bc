"""Verbs that look and measure before and after an adaptation: check, rank, diagnose."""

import pathlib
from typing import Annotated

import typer

from regraft.cli.options import AdapterSources, Json, Seed, TargetImages
from regraft.cli.output import print_json, reporting

DIAGNOSED = {
    "n": "images and codes measured on",
    "code_dim": "numbers in a code",
    "reconstruction_mse": "target images decoded again, mean squared error",
    "reconstruction_unexplained": "that over the error of their mean image; from 1 on nothing is given back",
    "reconstruction_distance": "target images decoded again, mean distance E_T d(x, Ax)",
    "latent_correlation_generated": "generated codes encoded again, correlation",
    "latent_error_generated": "generated codes encoded again, relative error",
    "latent_correlation_target": "target codes encoded again, correlation",
    "latent_error_target": "target codes encoded again, relative error",
    "decoder_lipschitz": "stretch of the decoder a, at least",
    "code_distance": "distance of codes W(c1 P_T, Q)",
    "code_term": "first term of the bound a W(c1 P_T, Q)",
    "bound_by_target": "bound by the target's reconstruction (i)",
    "encoder_lipschitz": "stretch of the encoder b, at least",
    "source_target_distance": "distance of images W(P_S, P_T)",
    "source_reconstruction_distance": "source images decoded again, mean distance E_S d(x, Ax)",
    "bound_by_source": "bound by the source's reconstruction (ii)",
}
"""What each number of ``diagnose`` is."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for command in (check, rank, diagnose):
        app.command()(command)


def check(
    images: TargetImages,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="A .png to write, with an overview, near-duplicates and outliers.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to look at where images lie in folders train, val and test, or all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look through target images before training: what is odd, and what is advised."""
    from regraft.verbs.check import check as run_check

    facts = run_check(images, out, split=split)
    if as_json:
        print_json(facts)
        return
    print(f"{facts['images']} images" + (f", {facts['unreadable']} unreadable files" if facts["unreadable"] else ""))
    for note in facts["notes"]:
        print(f"note: {note}")
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
    images: TargetImages,
    source: Annotated[
        list[str],
        typer.Option("--source", "-s", help="Pretrained GAN: a file, folder, source card, run, or name; give at least two."),
    ],
    n: Annotated[int, typer.Option("--n", min=16, help="Samples per source.")] = 1000,
    probe: Annotated[int, typer.Option(min=0, help="Steps of mining to try on each source; slower, and surer.")] = 0,
    seed: Seed = 0,
    extractor: Annotated[str, typer.Option(help="Features to compare in, as for evaluate.")] = "random_conv",
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="A .png to write, with some targets and, for each source, the sample nearest to each of them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which of several sources is nearest to target images."""
    from regraft.verbs.rank import rank as run_rank

    with reporting(quiet=as_json) as report:
        rows = run_rank(images, source, n=n, probe=probe, seed=seed, extractor_name=extractor, out=out, on_event=report)
    if as_json:
        print_json(rows)
        return
    columns = ["nearest", "coverage", "distance", "frechet", *(["probe"] if probe else [])]
    width = max(6, *(len(row["source"]) for row in rows))
    print(f"   {'source':<{width}}" + "".join(f"{name:>12}" for name in columns))
    for row in rows:
        print(f"{row['rank']}. {row['source']:<{width}}" + "".join(f"{_cell(row[name]):>12}" for name in columns))
    order = (
        f"probe: the Fréchet distance after {probe} steps of mining"
        if probe
        else "nearest: 1 where samples come as near to targets as these to one another"
    )
    print(f"Ordered by {order}; lower is nearer. coverage: share of targets with a sample as near as another target.")
    close = [row["source"] for row in rows if row["tied"]]
    if close:
        print(f"Too close to tell from the first by these images: {', '.join(close)}; --probe 200 looks closer.")
    if out is not None:
        print(f"written: {out}")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def diagnose(
    source: Annotated[str, typer.Argument(help="A source with an autoencoder, or a run of mind2mind.")],
    images: TargetImages,
    source_images: Annotated[
        str | None, typer.Option(help="Images that the autoencoder was trained on, for the bound's other terms.")
    ] = None,
    adapter_sources: AdapterSources = None,
    n: Annotated[int, typer.Option(min=8, help="Images and codes to measure on.")] = 256,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure what Mind2Mind rests on: both round trips of the autoencoder, and the terms of its bound."""
    from regraft.verbs.diagnose import diagnose as run_diagnose

    facts = run_diagnose(source, images, source_images=source_images, sources=adapter_sources, n=n, seed=seed)
    if as_json:
        print_json(facts)
        return
    width = max(map(len, DIAGNOSED.values()))
    for name, label in DIAGNOSED.items():
        if name in facts:
            print(f"{label:<{width}}  {facts[name]:.4g}")
    for note in facts["notes"]:
        print(f"note: {note}")
    for warning in facts["warnings"]:
        print(f"warning: {warning}")
