"""Verbs around autoencoders and sources of one's own: encode, diagnose, pretrain."""

import json
import pathlib
from typing import Annotated, Any

import typer

from regraft.cli.options import options_from
from regraft.cli.progress import Reporter
from regraft.core.config import parse_overrides
from regraft.core.jobs import AdaptJob

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
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


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(encode)
    app.command()(pretrain)

    @app.command()
    def diagnose(
        source: Annotated[str, typer.Argument(help="A source with an autoencoder, or a run of mind2mind.")],
        images: Annotated[str, typer.Argument(help="Target images: folder, .zip or .npz.")],
        source_images: Annotated[
            str | None, typer.Option(help="Images that the autoencoder was trained on, for the bound's other terms.")
        ] = None,
        sources: Annotated[
            list[str] | None, typer.Option("--source", "-s", help="Sources of the run, if it needs them.")
        ] = None,
        n: Annotated[int, typer.Option(min=8, help="Images and codes to measure on.")] = 256,
        seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
        as_json: Json = False,
    ) -> None:
        """Measure what Mind2Mind rests on: both round trips of the autoencoder, and the terms of its bound."""
        from regraft.verbs import diagnose

        facts = diagnose.diagnose(source, images, source_images=source_images, sources=sources, n=n, seed=seed)
        if as_json:
            print(json.dumps(facts, indent=2))
            return
        width = max(map(len, DIAGNOSED.values()))
        for name, label in DIAGNOSED.items():
            if name in facts:
                print(f"{label:<{width}}  {facts[name]:.4g}")
        for line in facts["warnings"]:
            print(f"warning: {line}")


def encode(
    source: Annotated[str, typer.Argument(help="A source with an autoencoder.")],
    images: Annotated[str, typer.Argument(help="Folder, .zip or .npz of images, or a folder of published pickled codes.")],
    out: Annotated[pathlib.Path, typer.Option(help="Codes file to write, .safetensors; a .json goes beside it.")],
    batch: Annotated[int, typer.Option(min=1, help="Images per pass; changes speed only.")] = 32,
    device: Device = "auto",
    fit: Annotated[str, typer.Option(help="What happens to images of another aspect ratio: crop, pad or stretch.")] = "crop",
    on_bad: Annotated[str, typer.Option(help="What happens to unreadable images: error or skip.")] = "error",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode images once, for training with mind2mind; stops and goes on, and does nothing twice."""
    from regraft.core.errors import ConfigError
    from regraft.verbs.encode import encode as run

    for name, value, known in (("fit", fit, ("crop", "pad", "stretch")), ("on-bad", on_bad, ("error", "skip"))):
        if value not in known:
            raise ConfigError(f"--{name} {value}: choose one of {', '.join(known)}")
    report = Reporter(quiet)

    def tell(event: dict[str, Any]) -> None:
        report.say(f"encoded {event['done']}/{event['of']}")

    made = run(source, images, out, batch=batch, device=device, fit=fit, on_bad=on_bad, on_event=tell)  # type: ignore[arg-type]
    facts = {
        "out": str(made.path),
        "n": made.codes.n,
        "encoded": made.computed,
        "reused": made.reused,
        "notes": list(made.notes),
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for note in made.notes:
        report.say(f"note: {note}")
    print(f"{made.path}: {made.codes.n} codes, {made.computed} encoded now, {made.reused} as before")


@options_from(AdaptJob, leave_out=NOT_PRETRAINING)
def pretrain(
    images: Annotated[str | None, typer.Argument(help="Folder, .zip or .npz of images.")] = None,
    backbone: Annotated[str, typer.Option(help="Family of networks: dcgan, stylegan2, autoencoder, alae, ...")] = "dcgan",
    size: Annotated[int | None, typer.Option(min=4, help="Side of the images.")] = None,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 or 3.")] = 3,
    out: Annotated[pathlib.Path | None, typer.Option(help="Folder to make; it is the source. Never overwritten.")] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of the images, kept with the source.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting as key=value: the method's, backbone_settings.*, objective.*, recipe.*; may be repeated."
        ),
    ] = None,
    resume: Annotated[pathlib.Path | None, typer.Option(help="Folder to go on with, exactly where it stopped.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    given: dict[str, Any] | None = None,
) -> None:
    """Train a source from images alone: a GAN of any backbone, a plain autoencoder, or a StyleALAE."""
    from regraft.core.errors import ConfigError
    from regraft.verbs.lengthen import to_resume
    from regraft.verbs.pretrain import pretrain as run

    settings = dict(given or {}) | parse_overrides(set_ or [])
    if isinstance(settings.get("batch"), str) and settings["batch"].isdigit():
        settings["batch"] = int(settings["batch"])
    if channels == 2:
        raise ConfigError("--channels 2: 1 for grey images, 3 for colour")
    report = Reporter(quiet)
    try:
        if resume is not None:
            if images or set_ or size or (backbone, channels) != ("dcgan", 3):
                raise ConfigError(
                    "--resume goes on with a run's own settings; leave images, --backbone, --size, --channels and --set out"
                )
            out = to_resume(resume, out, given or {})
            run(out=out, resume=True, licence=licence, on_event=report)
        else:
            run(images, backbone=backbone, size=size, channels=channels, out=out, licence=licence, on_event=report, **settings)
    finally:
        report.close()
    print(json.dumps({"out": str(out)}) if as_json else f"{out}: a source.  Next: regraft inspect {out}")
