"""The verb ``pretrain``: train a source of any backbone from images alone; its run folder is the source."""

import dataclasses
import pathlib
from typing import Any

from torch import nn

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.config import parse
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, Provenance
from regraft.core.jobs import AdaptJob
from regraft.data import pictures, rules
from regraft.data.images import Images, ImageSet
from regraft.data.python import short_name
from regraft.formats import native
from regraft.formats.native import save_source
from regraft.methods.base import Method, PretrainingMethod
from regraft.runs import folder as run_folder
from regraft.training.loop import Loop
from regraft.training.updates import class_shares
from regraft.verbs._arguments import Emit, ImagesArgument, Labels, ignore_event, take_images
from regraft.verbs.adapting.assemble import assemble
from regraft.verbs.adapting.prepare import prepare
from regraft.verbs.adapting.prepared import Prepared
from regraft.verbs.load import load

SAMPLES = 64


def pretrain(
    images: ImagesArgument | None = None,
    *,
    backbone: str = "dcgan",
    size: int | None = None,
    channels: int = 3,
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    licence: str | None = None,
    labels: Labels = None,
    on_event: Emit | None = None,
    **settings: Any,
) -> GAN:
    """Train a source from scratch.

    Args:
        images: a path, or images in memory; see :func:`regraft.open_images`.
        backbone: family of networks; ``autoencoder`` and ``alae`` make sources that encode, for Mind2Mind.
        size: side of the images in pixels.
        channels: 1 for grey images, 3 for colour.
        out: folder to make; it becomes a source when training ends, and can be resumed before.
        resume: continue the training in ``out``, with its own settings.
        licence: terms of the images, kept with the source; a resumed run that has none may be given one.
        labels: as for :func:`regraft.adapt`.
        on_event: called with each phase, step and note as it happens.
        **settings: as for :func:`regraft.adapt`: ``steps``, ``seed``, ``batch``, ``device``, fields of the method, and fields
            of the backbone as ``backbone_settings``.

    Returns:
        The source, as :func:`regraft.load` opens its folder.

    Raises:
        RegraftError: a subclass; the message names what does not fit.
    """
    emit = on_event or ignore_event
    if out is None:
        raise ConfigError("pretrain needs --out, the folder to make")
    folder = pathlib.Path(out)
    finished = resume and (folder / native.RECORD).is_file()
    if finished and licence is not None:
        raise ConfigError(f"{folder}: is finished, and its licence is what its {native.RECORD} says; leave --licence out")
    images, learned = take_images(images, labels)
    settings |= {} if learned is None else {"labels": learned}
    listed = images if isinstance(images, ImageSet) else None
    if resume:
        if (images is not None and listed is None) or settings:
            raise ConfigError(f"resume goes on with a run's own settings; leave {next(iter(settings), 'images')} out")
        job = run_folder.read_job(folder)
        if job.sources:
            raise ConfigError(f"{folder}: adapts sources and makes none: use regraft adapt --resume")
    else:
        job = _job(images, backbone, size, channels, folder, settings)
    version = run_folder.rules_of(folder) if resume else rules.NEWEST
    names = run_folder.read_image_names(folder) if resume and listed is None else None
    prepared = prepare(job, images=listed, version=version, names=names)
    for note in (*prepared.notes, *([run_folder.FINISHED.format(folder)] if finished else [])):
        emit({"event": "note", "text": note})
    loop = assemble(prepared, folder, emit)
    licence = run_folder.open_run(folder, prepared.job, prepared.identity, resume, licence, prepared.image_names)
    if finished:
        return load(folder)
    loop.run(resume)
    gan = _source(prepared, loop, folder, licence)
    pictures.save_png(run_folder.RunFolder(folder).final_samples, pictures.grid(gan.sample(SAMPLES, job.seed)))
    save_source(folder, gan)  # last, because a folder that holds a source counts as finished
    return gan


def _job(
    images: str | pathlib.Path | ImageSet | None,
    backbone: str,
    size: int | None,
    channels: int,
    folder: pathlib.Path,
    settings: dict[str, Any],
) -> AdaptJob:
    """Make the settings of a training from scratch; arguments are those of :func:`pretrain`."""
    if images is None or size is None:
        raise ConfigError("pretrain needs images and --size, the side to train at")
    if (folder / native.RECORD).exists():
        raise ConfigError(f"{folder}: is a finished source, and nothing is overwritten; choose another --out")
    run_folder.check_out(folder)
    method = discover.plugin("backbones", backbone, Backbone).pretrained_by
    job_settings = {k: v for k, v in settings.items() if k in AdaptJob.model_fields}
    method_settings = {k: v for k, v in settings.items() if k not in AdaptJob.model_fields}
    method_settings |= {"size": size, "channels": channels}
    if "backbone" in discover.plugin("methods", method, Method).Config.model_fields:
        method_settings["backbone"] = backbone
    if isinstance(job_settings.get("batch"), int) and method != "scratch":
        method_settings["batch"] = job_settings.pop("batch")
    job_settings["settings"] = job_settings.get("settings", {}) | method_settings
    defaults: dict[str, Any] = {"held_out": 0, "evaluate_every": 0, "keep": "last"}
    defaults |= {"images": images.where if isinstance(images, ImageSet) else str(images), "method": method, "out": str(folder)}
    return parse(AdaptJob, defaults | job_settings, "settings of pretrain")


def _source(prepared: Prepared, loop: Loop, folder: pathlib.Path, licence: str | None) -> GAN:
    """Make the source from the trained networks."""
    modules: dict[str, nn.Module] = dict(loop.adaptation.modules) | dict(loop.averages.modules)
    modules["generator"] = loop.result("last").generator
    if not isinstance(prepared.train, Images):
        raise ConfigError("pretrain trains on images, not on codes")
    method = discover.plugin("methods", prepared.job.method, PretrainingMethod)
    source = method.finished(modules, dataclasses.replace(prepared.train, flip=False), prepared.config)
    for network in (source.generator, source.critic, source.autoencoder):
        if network is not None:
            network.cpu().requires_grad_(False).eval()
    dataset = f"{short_name(prepared.job.images)}, {prepared.train.n} images"
    provenance = Provenance(folder.name, native.FORMAT, licence=licence, dataset=dataset)
    return GAN(
        source.generator,
        source.critic,
        autoencoder=source.autoencoder,
        objective=source.objective,
        recipe=source.recipe,
        provenance=provenance,
        aspect=prepared.image["aspect"],
        class_shares=class_shares(prepared.train, source.generator),
    )
