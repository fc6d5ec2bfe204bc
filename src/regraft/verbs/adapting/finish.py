"""What is made of a finished run: the adapted GAN, its numbers, its files."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
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
from regraft.metrics.copies import BOUND
from regraft.runs import adapter, records
from regraft.runs.folder import RunFolder
from regraft.training.loop import Loop, Result
from regraft.verbs.adapting.assemble import augmented
from regraft.verbs.adapting.prepared import SAMPLES_MEASURED, Prepared
from regraft.verbs.sample import overview


def adapted(prepared: Prepared, generator: Generator, loop: Loop, folder: pathlib.Path) -> GAN:
    """The GAN around an adapted generator."""
    first = prepared.lead
    critic = loop.adaptation.critic or (first.critic if first else None)
    licences = dict.fromkeys(s.provenance.licence for s in prepared.sources if s.provenance.licence)
    lineage = tuple(adapter.source_record(s) for s in prepared.sources)
    classes = prepared.train.classes if isinstance(prepared.train, Images) else ()
    known = [classes, *([first.provenance.classes] if first else [])]
    names = next((c for c in known if len(c) == generator.n_classes), ())
    licence = "; ".join(licences) or None
    provenance = Provenance(folder.name, "adapter", licence=licence, lineage=lineage, classes=names)
    # Rules for training on codes are no way to train the adapted GAN further.
    shared = loop.adaptation.space == "image"
    objective = first.objective if first and shared else getattr(prepared.config, "objective", None)
    return GAN(
        generator,
        critic.requires_grad_(False).eval() if critic is not None else None,
        autoencoder=autoencoder_of(generator, first),
        objective=objective,
        recipe=first.recipe if first and shared else None,
        provenance=provenance,
        aspect=prepared.image["aspect"],
    )


def measure(prepared: Prepared, gan: GAN) -> list[Score]:
    """Measure the adapted generator on held-out images, beside replayed training images as what is to be beaten."""
    if prepared.held is None or prepared.held.n < 2 or isinstance(prepared.train, Codes):
        return []
    features = extractor(prepared.job.extractor, prepared.lead)
    seed, held = prepared.job.seed, prepared.held
    y = gan.classes_at(SAMPLES_MEASURED, seed)
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


def findings(loop: Loop, result: Result) -> dict[str, Any]:
    """What the method learned, as plain data; logged and told.  To be asked before anything changes the networks' modes."""
    found = loop.adaptation.findings(result.generator, result.is_last) if loop.adaptation.findings is not None else {}
    if found:
        loop.store.log({"step": loop.position.total, "findings": found})
        loop.emit({"event": "findings", "findings": found})
    return found


def save(
    prepared: Prepared, folder: pathlib.Path, gan: GAN, step: int, loop: Loop, scores: Sequence[Score], findings: dict[str, Any]
) -> int:
    """Write adapter, scores, samples and the critic; returns the number of values in the adapter."""
    info = adapter.AdapterInfo(
        method=prepared.job.method,
        config=prepared.job.settings,
        image=prepared.image,
        data=prepared.data,
        seed=prepared.job.seed,
        step=step,
        scores=tuple(s.to_dict() for s in scores),
        findings=findings,
    )
    values = adapter.save_adapter(folder, gan.generator, prepared.sources, info)
    if loop.adaptation.critic is not None:
        adapter.save_critic(folder, loop.adaptation.critic)
    if scores:
        write_json(RunFolder(folder).scores, [s.to_dict() for s in scores])
    pictures.save_png(RunFolder(folder).final_samples, overview(gan, prepared.job.seed))
    return values


SAMPLES = 256


def conclude(
    prepared: Prepared,
    folder: pathlib.Path,
    gan: GAN,
    step: int,
    scores: Sequence[Score],
    cautions: Sequence[str],
    emit: Callable[[dict[str, Any]], None],
) -> Verdict | None:
    """Judge a finished run and write the verdict, the method's cautions with it; a run on codes alone shows no images."""
    if isinstance(prepared.train, Codes):
        return None
    rows = records.history(records.read_log(RunFolder(folder).log))
    verdict = judge(
        gan.sample(SAMPLES, prepared.job.seed).cpu(),
        prepared.train.tensor(),
        None if prepared.held is None else prepared.held.tensor(),
        history=rows,
        step=step,
        augmented=augmented(prepared.job.settings),
        seed=prepared.job.seed,
    )
    verdict = dataclasses.replace(verdict, cautions=(*cautions, *verdict.cautions, *_near_copies(scores)))
    write_json(RunFolder(folder).verdict, {"step": step} | dataclasses.asdict(verdict))
    emit({"event": "verdict", **verdict.to_dict()})
    return verdict


def _near_copies(scores: Sequence[Score]) -> list[str]:
    """What the table's copy rates add: they count samples that are nearer than unseen images usually are, not only copies."""
    return [
        f"{s.name} is {s.value:.0%} (95 % interval {s.interval[0]:.0%} to {s.interval[1]:.0%}): so many samples are nearer "
        f"to a training image than {s.n_real} unseen ones are; compare them on the page before you pass samples on."
        for s in scores
        if s.name.startswith("copies") and s.interval is not None and s.interval[0] > BOUND
    ]


def write_page(folder: pathlib.Path, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write the run's report page; a run is not lost because its page cannot be made, which is then said."""
    from regraft.verbs.report.page import report  # here, because a report reads runs and this module serves it too

    try:
        emit({"event": "report", "path": str(report(folder))})
    except (RegraftError, OSError) as error:
        emit({"event": "note", "text": f"no report page: {error}"})
