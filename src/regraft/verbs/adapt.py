"""The verb ``adapt``: adapt pretrained GANs to target images."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from regraft.core import discover
from regraft.core.config import merge, parse, read_yaml
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.data.images import ImageSet
from regraft.evaluation.verdict import Verdict
from regraft.methods.base import Method
from regraft.metrics.base import Score
from regraft.runs import adapter
from regraft.runs import folder as run_folder
from regraft.verbs._open import Source
from regraft.verbs.adapting import finish
from regraft.verbs.adapting.assemble import assemble
from regraft.verbs.adapting.prepare import prepare
from regraft.verbs.load import load


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
    images: str | pathlib.Path | ImageSet | None = None,
    sources: Sequence[Source] | Source = (),
    *,
    method: str | None = None,
    out: str | pathlib.Path | None = None,
    config: str | pathlib.Path | None = None,
    resume: bool = False,
    write: bool = True,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> Run:
    """Adapt pretrained GANs to target images.

    Args:
        images: a folder, a .zip, an .npz, or images listed with :func:`open_images`.
        sources: one or several GANs: loaded, or files, folders, cards, runs or names of bundled sources.
        method: a name from :func:`list_methods`, or ``auto``.
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
        job = run_folder.read_job(folder)
        _refuse_pretraining(job, "regraft pretrain --resume")
    else:
        job = adapt_job(images, given, method, out, config, settings)
        folder = pathlib.Path(job.out or run_folder.default_folder(job.images))
        if write:
            run_folder.check_out(folder)
    loaded = [load(s, emit) if not isinstance(s, GAN) else s for s in given] if given else None
    prepared = prepare(job, loaded, listed)
    loop = assemble(prepared, folder if write else None, emit)
    done = [run_folder.FINISHED.format(folder)] if resume and adapter.is_adapter(folder) else []
    for note in (*prepared.notes, *loop.adaptation.notes, *done):
        emit({"event": "note", "text": note})
    if write:
        run_folder.open_run(folder, prepared.job, prepared.identity, resume)
    loop.run(resume)
    result = loop.result(prepared.job.keep)
    findings = finish.findings(loop, result)
    gan = finish.adapted(prepared, result.generator, loop, folder)
    scores = finish.measure(prepared, gan)
    step, verdict = result.step, None
    if write:
        values = finish.save(prepared, folder, gan, step, loop, scores, findings)
        emit({"event": "saved", "folder": str(folder), "values": values})
        verdict = finish.conclude(prepared, folder, gan, step, scores, loop.adaptation.cautions, emit)
        finish.write_page(folder, emit)
    notes = (*prepared.notes, *loop.adaptation.notes)
    return Run(folder if write else None, gan, step, tuple(scores), notes, loop.position.stopped, findings, verdict)


def adapt_job(
    images: str | pathlib.Path | ImageSet | None,
    sources: Sequence[Source],
    method: str | None,
    out: str | pathlib.Path | None,
    config: str | pathlib.Path | None,
    settings: dict[str, Any],
) -> AdaptJob:
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
    if job.method != "auto" and discover.plugin("methods", job.method, Method).sources[1] == 0:
        raise ConfigError(f"{job.method} makes sources from images alone and adapts none: use {way_out}")


def dry_run(
    images: str | pathlib.Path | ImageSet | None,
    sources: Sequence[Source] = (),
    *,
    method: str | None = None,
    out: str | pathlib.Path | None = None,
    config: str | pathlib.Path | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What :func:`adapt` would do with these arguments, without doing or writing it."""
    job = adapt_job(images, sources, method, out, config, settings)
    folder = pathlib.Path(job.out or run_folder.default_folder(job.images))
    run_folder.check_out(folder)
    loaded = [load(s, on_event) if not isinstance(s, GAN) else s for s in sources] if sources else None
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
