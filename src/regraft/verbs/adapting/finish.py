"""Turn a finished training loop into a run: keep a generator, measure it, save it and judge it."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from regraft.composites.decoded import autoencoder_of
from regraft.core.errors import RegraftError
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Generator
from regraft.data import pictures
from regraft.data.codes import Codes
from regraft.data.images import Images
from regraft.evaluation.compare import compare, extractor
from regraft.evaluation.verdict import Verdict, judge
from regraft.files.atomic import write_json
from regraft.metrics.base import Score
from regraft.metrics.copies import COPY_BOUND
from regraft.runs import adapter, records
from regraft.runs.folder import RunFolder
from regraft.training.loop import Loop, Result
from regraft.training.updates import class_shares
from regraft.verbs._arguments import Emit
from regraft.verbs.adapting.assemble import augmented
from regraft.verbs.adapting.prepared import Prepared
from regraft.verbs.report.page import report
from regraft.verbs.sample import overview

SAMPLES_MEASURED = 1000
SAMPLES_JUDGED = 256


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished adaptation.

    Attributes:
        folder: the run folder, or None if nothing was written.
        gan: the adapted GAN.
        step: step whose generator was kept.
        scores: measured on held-out images; empty if there are none.
        notes: what was converted, assumed or chosen, one sentence each.
        stopped: why training ended early, or None.
        findings: what the method learned beside the weights, such as probabilities of sources and mined classes.
        verdict: the verdict in plain words, or None if nothing was written.
    """

    folder: pathlib.Path | None
    gan: GAN
    step: int
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    stopped: str | None = None
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)
    verdict: Verdict | None = None


def finish(prepared: Prepared, loop: Loop, name: str) -> Run:
    """Keep a generator, measure it and, if the loop has a run folder, save it, judge it and write the page.

    Args:
        prepared: the adaptation.
        loop: its training loop, run to the end.
        name: of the adapted GAN.
    """
    folder = loop.store.folder
    result = loop.result(prepared.job.keep)
    findings = _report_findings(loop, result)
    gan = _adapted_gan(prepared, loop, result.generator, name)
    scores = _measure(prepared, gan)
    verdict = None
    if folder is not None:
        _save(prepared, loop, folder, gan, result.step, scores, findings)
        verdict = _judge(prepared, loop, folder, gan, result.step, scores)
        write_page(folder, loop.emit)
    notes = (*prepared.notes, *loop.adaptation.notes)
    return Run(folder, gan, result.step, tuple(scores), notes, loop.position.stopped, findings, verdict)


def _report_findings(loop: Loop, result: Result) -> dict[str, Any]:
    """Log and emit what the method learned.  Call before switching modules to eval."""
    ask = loop.adaptation.findings
    findings = ask(result.generator, result.is_last) if ask is not None else {}
    if findings:
        loop.store.log({"step": loop.position.total, "findings": findings})
        loop.emit({"event": "findings", "findings": findings})
    return findings


def _adapted_gan(prepared: Prepared, loop: Loop, generator: Generator, name: str) -> GAN:
    """Put the adapted generator together with its critic, and with what the lead source hands on."""
    lead = prepared.lead
    critic = loop.adaptation.critic or (lead.critic if lead else None)
    # The objective and recipe of networks that train on codes cannot train the adapted GAN further.
    on_images = loop.adaptation.space == "image"
    objective = lead.objective if lead and on_images else getattr(prepared.config, "objective", None)
    return GAN(
        generator,
        critic.requires_grad_(False).eval() if critic is not None else None,
        autoencoder=autoencoder_of(generator, lead),
        objective=objective,
        recipe=lead.recipe if lead and on_images else None,
        provenance=_provenance(prepared, generator, name),
        aspect=prepared.image["aspect"],
        class_shares=class_shares(prepared.train, generator),
    )


def _provenance(prepared: Prepared, generator: Generator, name: str) -> Provenance:
    """Return an adapted generator's licences and lineage, and the names of its classes: the target's, else the source's."""
    lead, sources = prepared.lead, prepared.sources
    licences = dict.fromkeys(s.provenance.licence for s in sources if s.provenance.licence)
    target_classes = prepared.train.classes if isinstance(prepared.train, Images) else ()
    source_classes = lead.provenance.classes if lead else ()
    return Provenance(
        name,
        "adapter",
        licence="; ".join(licences) or None,
        lineage=tuple(adapter.source_record(s) for s in sources),
        classes=next((names for names in (target_classes, source_classes) if len(names) == generator.n_classes), ()),
    )


def _measure(prepared: Prepared, gan: GAN) -> list[Score]:
    """Compare samples with held-out images, and give the scores of replayed training images beside; empty without images."""
    if prepared.held is None or prepared.held.n < 2 or isinstance(prepared.train, Codes):
        return []
    seed, held = prepared.job.seed, prepared.held
    y = gan.classes_at(SAMPLES_MEASURED, seed)
    features = extractor(prepared.job.extractor, prepared.lead)
    return compare(
        gan.sample(SAMPLES_MEASURED, seed, y=y),
        held.tensor(),
        prepared.train.tensor(),
        features,
        seed=seed,
        fake_labels=y,
        real_labels=held.labels,
        fake_classes=gan.provenance.classes,
        real_classes=held.classes,
    )


def _save(
    prepared: Prepared,
    loop: Loop,
    folder: pathlib.Path,
    gan: GAN,
    step: int,
    scores: Sequence[Score],
    findings: dict[str, Any],
) -> None:
    """Write adapter, trained critic, scores and samples into the run folder."""
    files, plain_scores = RunFolder(folder), [s.to_dict() for s in scores]
    info = adapter.AdapterInfo(
        method=prepared.job.method,
        config=prepared.job.settings,
        image=prepared.image,
        data=prepared.data,
        seed=prepared.job.seed,
        step=step,
        scores=tuple(plain_scores),
        findings=findings,
        class_shares=gan.class_shares,
    )
    values = adapter.save_adapter(folder, gan.generator, prepared.sources, info)
    if loop.adaptation.critic is not None:
        adapter.save_critic(folder, loop.adaptation.critic)
    if scores:
        write_json(files.scores, plain_scores)
    pictures.save_png(files.final_samples, overview(gan, prepared.job.seed))
    loop.emit({"event": "saved", "folder": str(folder), "values": values})


def _judge(
    prepared: Prepared, loop: Loop, folder: pathlib.Path, gan: GAN, step: int, scores: Sequence[Score]
) -> Verdict | None:
    """Judge the run and write the verdict, with the method's cautions; None if it was trained from codes, without images."""
    if isinstance(prepared.train, Codes):
        return None
    files = RunFolder(folder)
    verdict = judge(
        gan.sample(SAMPLES_JUDGED, prepared.job.seed).cpu(),
        prepared.train.tensor(),
        None if prepared.held is None else prepared.held.tensor(),
        history=records.history(records.read_log(files.log)),
        step=step,
        augmented=augmented(prepared.job.settings),
        seed=prepared.job.seed,
    )
    cautions = (*loop.adaptation.cautions, *prepared.cautions, *verdict.cautions, *_near_copies(scores))
    verdict = dataclasses.replace(verdict, cautions=cautions)
    write_json(files.verdict, {"step": step} | dataclasses.asdict(verdict))
    loop.emit({"event": "verdict", **verdict.to_dict()})
    return verdict


def _near_copies(scores: Sequence[Score]) -> list[str]:
    """Return a caution for every copy rate above the bound.

    Copy rates count samples that are nearer to a training image than unseen images usually are, which is more than copies.
    """
    return [
        f"{s.name} is {s.value:.0%} (95 % interval {s.interval[0]:.0%} to {s.interval[1]:.0%}): so many samples are nearer "
        f"to a training image than {s.n_real} unseen ones are; compare them on the page before you pass samples on."
        for s in scores
        if s.name.startswith("copies") and s.interval is not None and s.interval[0] > COPY_BOUND
    ]


def write_page(folder: pathlib.Path, emit: Emit) -> None:
    """Write the run's page; if that fails, emit a note instead, for the run itself is complete."""
    try:
        emit({"event": "report", "path": str(report(folder))})
    except (RegraftError, OSError) as error:
        emit({"event": "note", "text": f"no report page: {error}"})
