"""The verb ``adapt``: adapt pretrained GANs to target images."""

import pathlib
from collections.abc import Sequence
from typing import Any

from regraft.core import discover
from regraft.core.config import merge, parse, read_yaml
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.data import rules
from regraft.data.codes import is_codes
from regraft.data.images import ImageSet
from regraft.data.opening import open_images
from regraft.data.python import is_description
from regraft.methods.base import Method
from regraft.runs import adapter
from regraft.runs import folder as run_folder
from regraft.verbs._arguments import Emit, ImagesArgument, Labels, Source, ignore_event, take_images
from regraft.verbs.adapting.assemble import assemble
from regraft.verbs.adapting.finish import Run, finish
from regraft.verbs.adapting.prepare import prepare
from regraft.verbs.load import load


def adapt(
    images: ImagesArgument | None = None,
    sources: Sequence[Source] | Source = (),
    *,
    method: str | None = None,
    out: str | pathlib.Path | None = None,
    config: str | pathlib.Path | None = None,
    labels: Labels = None,
    resume: bool = False,
    write: bool = True,
    on_event: Emit | None = None,
    **settings: Any,
) -> Run:
    """Adapt pretrained GANs to target images.

    Args:
        images: a folder, an archive, a pattern such as ``photos/*.jpg``, or images in memory: an array or tensor, a list of
            pictures, arrays or paths, a data set, an iterator; see :func:`open_images`.
        sources: one or several GANs: loaded, or files, folders, cards, runs or names of bundled sources.
        method: a name from :func:`list_methods`, or ``auto``.
        out: run folder; ``runs/<name of images>`` if left out.
        config: YAML with the same settings; keywords override it.
        labels: the class of each image, numbers or names in the order of the images; or whether the classes that images have
            are learned, None for yes where that is possible.
        resume: continue the run in ``out`` from its last checkpoint, with its own settings; images that were given in memory,
            and their labels, must be given again.
        write: whether to write a run folder.
        on_event: called with each phase, step, measurement and note as it happens.
        **settings: any other field of the settings (``seed``, ``steps``, ``batch``, ``device``, ``objective``, ...), and
            fields of the method's own settings.

    Returns:
        The run with its adapted GAN.

    Raises:
        RegraftError: a subclass; the message names what does not fit and what to do.
    """
    emit = on_event or ignore_event
    given = [sources] if isinstance(sources, GAN | str | pathlib.Path) else list(sources)
    images, learned = take_images(images, labels)
    settings |= {} if learned is None else {"labels": learned}
    if resume:
        folder, job = _resumed_job(out, {"method": method, "config": config}, settings)
    else:
        job = adapt_job(images, given, method, out, config, settings)
        folder = _folder_of(job) if out is None else pathlib.Path(out)
        if write:
            run_folder.check_out(folder)
    loaded = [s if isinstance(s, GAN) else load(s, emit) for s in given] if given else None
    version = run_folder.rules_of(folder) if resume else rules.NEWEST
    listed = _listed(images, resume)
    # Items in memory are numbered anew each time they are given; the digest of their pixels tells whether they are the same.
    names = run_folder.read_image_names(folder) if resume and (listed is None or not is_description(listed.where)) else None
    prepared = prepare(job, loaded, listed, version, names)
    loop = assemble(prepared, folder if write else None, emit)
    done = [run_folder.FINISHED.format(folder)] if resume and adapter.is_adapter(folder) else []
    for note in (*prepared.notes, *loop.adaptation.notes, *done):
        emit({"event": "note", "text": note})
    if write:
        run_folder.open_run(folder, prepared.job, prepared.identity, resume, image_names=prepared.image_names)
    loop.run(resume)
    return finish(prepared, loop, folder.name)


def _listed(images: str | pathlib.Path | ImageSet | None, resume: bool) -> ImageSet | None:
    """Return images that replace those that the settings name: listed ones, and any that are given to a resumed run."""
    if isinstance(images, ImageSet):
        return images
    return None if images is None or not resume or is_codes(images) else open_images(images)


def _resumed_job(
    out: str | pathlib.Path | None, options: dict[str, Any], settings: dict[str, Any]
) -> tuple[pathlib.Path, AdaptJob]:
    """Return the folder and the settings of the run to resume; refuse options and settings beside it."""
    if out is None:
        raise ConfigError("resume needs out=, the folder of the run to go on with")
    refused = [*settings, *(name for name, value in options.items() if value is not None)]
    if refused:
        raise ConfigError(f"resume goes on with a run's own settings; leave {refused[0]} out")
    folder = pathlib.Path(out)
    job = run_folder.read_job(folder)
    _refuse_pretraining(job, "regraft pretrain --resume")
    return folder, job


def _folder_of(job: AdaptJob) -> pathlib.Path:
    return pathlib.Path(job.out or run_folder.default_folder(job.images))


def adapt_job(
    images: str | pathlib.Path | ImageSet | None,
    sources: Sequence[Source],
    method: str | None,
    out: str | pathlib.Path | None,
    config: str | pathlib.Path | None,
    settings: dict[str, Any],
) -> AdaptJob:
    """Make the settings of an adaptation from keywords and a YAML; keywords override it.

    Args:
        images, sources, method, out, config: as for :func:`adapt`.
        settings: fields of the settings; any other key is a setting of the method.

    Raises:
        ConfigError: naming every setting that is unknown or does not fit.
    """
    data = read_yaml(pathlib.Path(config), "settings") if config is not None else {}
    job_settings = {k: v for k, v in settings.items() if k in AdaptJob.model_fields}
    method_settings = {k: v for k, v in settings.items() if k not in AdaptJob.model_fields}
    arguments: dict[str, Any] = {
        "images": images.where if isinstance(images, ImageSet) else images,
        "method": method,
        "out": out,
        "sources": [str(s.provenance.name) if isinstance(s, GAN) else str(s) for s in sources] or None,
    }
    arguments = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in arguments.items() if v is not None}
    job_settings["settings"] = merge(job_settings.get("settings", {}), method_settings)
    data = merge(merge(data, arguments), job_settings)
    if not data.get("images"):
        raise ConfigError("which images? Name a folder, an archive or a pattern of target images, or give them")
    job = parse(AdaptJob, data, str(config) if config is not None else "settings")
    _refuse_pretraining(job, "regraft pretrain")
    return job


def _refuse_pretraining(job: AdaptJob, way_out: str) -> None:
    """Refuse methods that take no source; ``way_out`` is the command for them."""
    if job.method != "auto" and discover.plugin("methods", job.method, Method).sources[1] == 0:
        raise ConfigError(f"{job.method} makes sources from images alone and adapts none: use {way_out}")


def dry_run(
    images: ImagesArgument | None,
    sources: Sequence[Source] = (),
    *,
    method: str | None = None,
    out: str | pathlib.Path | None = None,
    config: str | pathlib.Path | None = None,
    labels: Labels = None,
    on_event: Emit | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Say what :func:`adapt` would do with these arguments, and write nothing.

    Returns:
        Folder, method, settings, phases, sizes, counts of trained values and notes, as plain data.
    """
    images, learned = take_images(images, labels)
    settings |= {} if learned is None else {"labels": learned}
    job = adapt_job(images, sources, method, out, config, settings)
    folder = _folder_of(job)
    run_folder.check_out(folder)
    loaded = [s if isinstance(s, GAN) else load(s, on_event) for s in sources] if sources else None
    prepared = prepare(job, loaded, images if isinstance(images, ImageSet) else None)
    adaptation = prepared.attach()
    trained = adaptation.trained_values()
    return {
        "out": str(folder),
        "method": prepared.job.method,
        "settings": prepared.job.settings,
        "sources": [s.provenance.name for s in prepared.sources],
        "images": prepared.data | {"image": prepared.image},
        "phases": [{"name": p.name, "steps": p.steps, "updates": [u.name for u in p.updates]} for p in adaptation.phases],
        "batch": adaptation.batch,
        "objective": prepared.lead.objective.model_dump() if prepared.lead else None,
        "trained_values": sum(trained.values()),
        "trained_by_module": trained,
        "all_values": sum(p.numel() for m in adaptation.modules.values() for p in m.parameters()),
        "device": str(prepared.device),
        "notes": [*prepared.notes, *adaptation.notes],
    }
