"""The verbs as functions: the only file, with its helpers ``loading`` and ``_adapting``, that knows every layer."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft import (
    _adapting,
    _ending,
    _finishing,
    _folders,
    _measuring,
    _sampling,
    adapter,
    catalogue,
    discover,
    loading,
    pictures,
)
from regraft.config import merge, parse, read_yaml
from regraft.errors import ConfigError, MissingCapability
from regraft.gan import GAN, tensor_digest
from regraft.images import ImageSet
from regraft.jobs import AdaptJob, EvaluateJob, SampleJob
from regraft.loading import load, load_adapter
from regraft.metrics.base import Score
from regraft.mixture import between, one_source, walkable
from regraft.saving import save_source
from regraft.verdict import Verdict

Source = GAN | str | pathlib.Path


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished adaptation.

    Attributes:
        folder: the run folder, or None if nothing was written.
        gan: the adapted GAN.
        step: the step whose generator was kept.
        scores: measured on held-out images.
        notes: what was converted, assumed or chosen.
        stopped: why training ended early, or None.
        findings: what the method learned beside the weights, such as probabilities of sources and mined classes.
        verdict: in plain words, for a run that was written.
    """

    folder: pathlib.Path | None
    gan: GAN
    step: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    stopped: str | None = None
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)
    verdict: Verdict | None = None


def adapt(
    images: str | pathlib.Path | ImageSet | None = None, sources: Sequence[Source] | Source = (), *,
    method: str | None = None, out: str | pathlib.Path | None = None, config: str | pathlib.Path | None = None,
    resume: bool = False, write: bool = True, on_event: Callable[[dict[str, Any]], None] | None = None, **settings: Any,
) -> Run:  # fmt: skip
    """Adapt pretrained GANs to target images.

    Args:
        images: a folder, a .zip, an .npz, or images listed with :func:`open_images`.
        sources: one or several GANs: loaded, or files, folders, cards, runs or names of bundled sources.
        method: a name from :func:`methods`, or ``auto``.
        out: run folder; ``runs/<name of images>`` if left out.
        config: YAML with the same settings; keywords win over it.
        resume: go on with the run in ``out`` from its last checkpoint; its own settings are used.
        write: whether to write a run folder at all.
        on_event: told of phases, steps, measurements and notes as they happen.
        **settings: any other field of the settings (``seed``, ``steps``, ``batch``, ``device``, ``objective``, ...), and
            fields of the method's own settings.

    Returns:
        The run with its adapted GAN.

    Raises:
        RegraftError: a subclass that names what does not fit and the way out.
    """
    emit = on_event or (lambda event: None)
    given = [sources] if isinstance(sources, GAN | str | pathlib.Path) else list(sources)
    listed = images if isinstance(images, ImageSet) else None
    if resume:
        if out is None:
            raise ConfigError("resume needs out=, the folder of the run to go on with")
        if method is not None or config is not None or settings:
            strange = next(iter(settings), "method" if method is not None else "config")
            raise ConfigError(f"resume goes on with a run's own settings; leave {strange} out")
        folder = pathlib.Path(out)
        job = _folders.read_job(folder)
        _refuse_pretraining(job, "regraft pretrain --resume")
    else:
        job = adapt_job(images, given, method, out, config, settings)
        folder = pathlib.Path(job.out or _folders.default_folder(job.images))
        if write:
            _folders.check_out(folder)
    loaded = [load(s, emit) if not isinstance(s, GAN) else s for s in given] if given else None
    prepared = _adapting.prepare(job, loaded, listed)
    loop = _adapting.assemble(prepared, folder if write else None, emit)
    done = [_folders.FINISHED.format(folder)] if resume and adapter.is_adapter(folder) else []
    for note in (*prepared.notes, *loop.adaptation.notes, *done):
        emit({"event": "note", "text": note})
    if write:
        _folders.open_run(folder, prepared.job, prepared.identity, resume)
    loop.run(resume)
    generator = _finishing.kept_generator(prepared, loop)
    findings = _finishing.findings(prepared, generator, loop)
    gan = _finishing.adapted(prepared, generator, loop, folder)
    scores = _finishing.measure(prepared, gan)
    step, verdict = loop.kept_step(prepared.job.keep), None
    if write:
        values = _finishing.save(prepared, folder, gan, loop, scores, findings)
        emit({"event": "saved", "folder": str(folder), "values": values})
        verdict = _ending.conclude(prepared, folder, gan, step, scores, loop.adaptation.cautions, emit)
        _ending.write_page(folder, emit)
    notes = (*prepared.notes, *loop.adaptation.notes)
    return Run(folder if write else None, gan, step, tuple(scores), notes, loop.position.stopped, findings, verdict)


def adapt_job(
    images: str | pathlib.Path | ImageSet | None, sources: Sequence[Source], method: str | None,
    out: str | pathlib.Path | None, config: str | pathlib.Path | None, settings: dict[str, Any],
) -> AdaptJob:  # fmt: skip
    """Settings of an adaptation from keywords and a YAML; keywords that belong to the method go to its settings.

    Raises:
        ConfigError: naming every unknown or unfit setting.
    """
    data = read_yaml(pathlib.Path(config), "settings") if config is not None else {}
    own = {k: v for k, v in settings.items() if k in AdaptJob.model_fields}
    others = {k: v for k, v in settings.items() if k not in AdaptJob.model_fields}
    extra: dict[str, Any] = {
        "images": images.where if isinstance(images, ImageSet) else images,
        "method": method,
        "out": out,
    }
    extra["sources"] = [str(s.provenance.name) if isinstance(s, GAN) else str(s) for s in sources] or None
    extra = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in extra.items() if v is not None}
    data = merge(merge(data, extra), own | {"settings": merge(own.get("settings", {}), others)})
    if not data.get("images"):
        raise ConfigError("which images? Name a folder, a .zip or an .npz of target images")
    job = parse(AdaptJob, data, str(config) if config is not None else "settings")
    _refuse_pretraining(job, "regraft pretrain")
    return job


def _refuse_pretraining(job: AdaptJob, way_out: str) -> None:
    if job.method != "auto" and discover.plugin("methods", job.method).sources[1] == 0:
        raise ConfigError(f"{job.method} makes sources from images alone and adapts none: use {way_out}")


def dry_run(
    images: str | pathlib.Path | ImageSet | None, sources: Sequence[Source] = (), *, method: str | None = None,
    out: str | pathlib.Path | None = None, config: str | pathlib.Path | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """What :func:`adapt` would do with these arguments, without doing or writing it."""
    job = adapt_job(images, sources, method, out, config, settings)
    folder = pathlib.Path(job.out or _folders.default_folder(job.images))
    _folders.check_out(folder)
    loaded = [load(s, on_event) if not isinstance(s, GAN) else s for s in sources] if sources else None
    prepared = _adapting.prepare(job, loaded, images if isinstance(images, ImageSet) else None)
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


def sample(
    source: Source, out: str | pathlib.Path | None = None, *, sources: Sequence[Source] | None = None, grid: bool = False,
    **settings: Any,
) -> Tensor:  # fmt: skip
    """Sample a run, an adapter or any source, and write pictures if asked.

    Args:
        source: what to sample.
        out: a folder for one PNG per image, in one folder per class where there are classes, or a ``.png`` for a grid.
        sources: the sources of an adapter, if they are not where it expects them.
        grid: write a grid into the folder too.
        **settings: ``n``, ``seed``, ``first``, ``psi``, ``label`` or ``class_name``, ``source_index``, ``batch``, ``device``.

    Returns:
        (n, C, H, W) in [-1, 1]; of a conditional generator all classes in turn, unless one is asked for.
    """
    job = parse(SampleJob, settings, "settings of sample")
    if out is not None:
        _sampling.check_out(pathlib.Path(out))
    gan = opened(source, sources, job.device)
    gan = gan if job.source_index is None else one_source(gan, job.source_index)
    labels = _sampling.labels(gan, job)
    images = gan.sample(job.n, job.seed, first=job.first, y=labels, psi=job.psi, batch=job.batch)
    if out is not None:
        _sampling.write(pathlib.Path(out), images, labels, gan, job, grid)
    return images


def interpolate(
    source: Source, out: str | pathlib.Path, *, sources: Sequence[Source] | None = None, keys: int = 6, frames: int = 12,
    **settings: Any,
) -> None:  # fmt: skip
    """Walk between latents and write an animation (``.gif``) or a strip (``.png``).

    Args:
        source: what to sample.
        out: ``.gif`` or ``.png``.
        sources: the sources of an adapter, if they are not where it expects them.
        keys: latents on the way; an animation returns to the first.
        frames: images from one to the next.
        **settings: as :func:`sample`; ``n`` is not used.
    """
    job = parse(SampleJob, settings, "settings of sample")
    path = pathlib.Path(out)
    if path.suffix.lower() not in (".gif", ".png"):
        raise ConfigError(f"{path}: an interpolation is written as .gif or .png")
    _sampling.refuse_overwriting(path)
    gan = walkable(opened(source, sources, job.device), job.source_index)
    closed = path.suffix.lower() == ".gif"
    latents = gan.generator.latent.at(job.seed, range(job.first, job.first + keys))
    ends = list(zip(latents, [*latents[1:], latents[0]] if closed else latents[1:], strict=False))
    walk = [between(gan.generator, a, b, t / frames) for a, b in ends for t in range(frames)]
    walk += [] if closed else [latents[-1]]
    label = _sampling.labels(gan, job.model_copy(update={"n": 1}))
    images = gan.at(torch.stack(walk), label, psi=job.psi, batch=job.batch)
    if closed:
        pictures.save_gif(path, [pictures.to_picture(image, gan.aspect) for image in images])
    else:
        pictures.save_png(path, pictures.grid(images, columns=len(images)))


def evaluate(
    fake: Source | ImageSet, real: str | pathlib.Path | ImageSet, *, training: str | pathlib.Path | ImageSet | None = None,
    sources: Sequence[Source] | None = None, on_event: Callable[[dict[str, Any]], None] | None = None, **settings: Any,
) -> list[Score]:  # fmt: skip
    """Measure a run, a source or a set of images against real images.

    Args:
        fake: a run, adapter or source to sample, or a folder or archive of generated images.
        real: real images that training did not see.
        training: images that training saw, for copy rates and for the row of replayed ones; a run knows its own.
        sources: the sources of an adapter, if they are not where it expects them.
        on_event: told of what makes numbers mean little, and of what could not be measured.
        **settings: ``metrics``, ``extractor``, ``n``, ``seed``, ``size``, ``fit``, ``device``.

    Raises:
        DataError: if there are too few images.
    """
    job = parse(EvaluateJob, settings, "settings of evaluate")
    emit = on_event or (lambda event: None)
    gan = None if isinstance(fake, ImageSet) or _measuring.is_images(fake) else opened(fake, sources, job.device)
    return _measuring.evaluate(fake, gan, real, training, sources, job, lambda note: emit({"event": "note", "text": note}))


def convert(source: Source, out: str | pathlib.Path, *, sources: Sequence[Source] | None = None) -> pathlib.Path:
    """Write a source, or a run merged with its sources, as regraft's own safetensors and JSON.

    Args:
        source: what to convert.
        out: folder to make; must not exist.
        sources: the sources of an adapter, if they are not where it expects them.

    Returns:
        The folder.  Loading it gives bit-identical networks.
    """
    folder = pathlib.Path(out)
    if folder.exists():
        raise ConfigError(f"{folder}: exists, and nothing is overwritten; choose another name")
    gan = opened(source, sources, "cpu")
    save_source(folder, gan)
    return folder


def inspect(source: Source, *, sources: Sequence[Source] | None = None) -> dict[str, Any]:
    """Say what a source is: format, backbone, latent, size, parameters, licence, and what was assumed."""
    gan = opened(source, sources, "cpu")
    generator, critic, origin = gan.generator, gan.critic, gan.provenance
    facts: dict[str, Any] = {
        "name": origin.name, "format": origin.format, "backbone": _kind(generator),
        "latent": dataclasses.asdict(generator.latent), "classes": generator.n_classes,
        "image": {"height": generator.size[0], "width": generator.size[1], "channels": generator.channels},
        "generator_values": sum(p.numel() for p in generator.parameters()),
        "critic_values": sum(p.numel() for p in critic.parameters()) if critic is not None else None,
        "critic_stages": len(critic.stages) if critic is not None else None,
        "codes": None if gan.autoencoder is None else f"{gan.autoencoder.code_shape}, range {gan.autoencoder.code_range}",
        "objective": gan.objective.model_dump(mode="json"), "recipe": gan.recipe.model_dump(mode="json"),
        "licence": origin.licence, "noncommercial": origin.noncommercial,
        "dataset": origin.dataset, "url": origin.url, "files": origin.files,
        "generator_digest": tensor_digest(generator), "assumptions": list(origin.assumptions), "lineage": list(origin.lineage),
        "class_names": list(origin.classes),
    }  # fmt: skip
    return facts


def sources() -> list[dict[str, Any]]:
    """Sources that can be named: those that ship with regraft, then the catalogue of public ones.

    Returns:
        For each ``name``, ``path`` (None while it is not on this machine), ``kind`` (bundled or catalogue), ``cached``,
        ``family``, ``resolution``, ``dataset``, ``licence``, ``noncommercial``, and for public ones ``size_mb``, ``urls``,
        ``page``, ``sha256`` and ``how`` (what to do by hand, None where regraft downloads it).
    """
    return [*loading.bundled_records(), *map(catalogue.record, catalogue.sources().values())]


def methods() -> dict[str, str]:
    """Names of all adaptation methods, each with one line on it."""
    return {name: discover.plugin("methods", name).summary for name in discover.names("methods")}


def metrics() -> dict[str, str]:
    """Names of all metrics, each with one line on it."""
    return {name: discover.plugin("metrics", name).summary for name in discover.names("metrics")}


def opened(source: Source, sources: Sequence[Source] | None, device: str) -> GAN:
    """A source, or an adapter on named sources, on a device."""
    if isinstance(source, GAN):
        gan = source
    elif sources:
        gan = load_adapter(source, list(sources))
    else:
        gan = load(source)
    wanted = _adapting.pick_device(device)
    if not isinstance(source, GAN):
        gan.generator.to(wanted)
        if gan.critic is not None:
            gan.critic.to(wanted)
    return gan


def _kind(network: Any) -> str:
    try:
        return str(network.describe().kind)
    except MissingCapability:
        return type(getattr(network, "module", network)).__name__


def demo(out: str | pathlib.Path = "demo-run", on_event: Callable[[dict[str, Any]], None] | None = None) -> Run:
    """Adapt a bundled digit GAN to 25 bundled scans of one digit; ``out`` and ``on_event`` are those of :func:`adapt`."""
    # Scans of few strokes tempt to copying: with all augmentations half as many samples were near-copies as with the default.
    target, augment = loading.bundled_images("scanned-sixes"), ["translation", "color", "cutout"]
    return adapt(target, "digits-high", out=out, on_event=on_event, steps=2000, augment=augment)
