"""What is made of a finished run: the adapted GAN, its numbers, its files."""

import pathlib
from collections.abc import Sequence
from typing import Any

import torch

from regraft import adapter, pictures
from regraft._adapting import SAMPLES_MEASURED, Prepared, _listed, _split
from regraft._folders import read_job
from regraft._sampling import overview
from regraft.codes import Codes
from regraft.errors import DataError
from regraft.evaluation import compare, extractor
from regraft.gan import GAN, Generator, Provenance
from regraft.images import Images
from regraft.methods.base import Method
from regraft.metrics.base import Score
from regraft.mind import autoencoder_of
from regraft.store import write_json
from regraft.train import Loop


def kept_generator(prepared: Prepared, loop: Loop) -> Generator:
    """The generator of a finished loop that becomes the adapter."""
    generator = loop.generator()
    kept = loop.kept_step(prepared.job.keep)
    if kept != loop.position.total:
        generator.load_state_dict(loop.store.load_best(kept))
        loop.emit({"event": "kept", "step": kept, "of": loop.position.total})
    return generator.requires_grad_(False).eval()


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
    # Rules that a method has for its own small networks are no way to train the adapted GAN further.
    shared = type(prepared.method).training is Method.training
    objective = first.objective if first and shared else getattr(prepared.config, "objective", None)
    return GAN(
        generator, critic.requires_grad_(False).eval() if critic is not None else None,
        autoencoder=autoencoder_of(generator, first), objective=objective,
        recipe=first.recipe if first and shared else None, provenance=provenance, aspect=prepared.image["aspect"],
    )  # fmt: skip


def training_images(folder: pathlib.Path) -> torch.Tensor:
    """The images that a run was trained on, read again from where its settings say.

    Raises:
        DataError: if they are gone or are no longer the same.
    """
    job = read_job(folder)
    record = adapter.read_config(folder)
    listed = _listed(job, None)
    named = record["data"].get("classes", ())
    if listed.classes != tuple(named) and set(listed.classes) <= set(named):  # the source's, which the method kept
        listed = listed.with_classes(named)
    decoded = listed.decode(tuple(record["image"]["size"]), record["image"]["channels"], fit=job.fit, on_bad=job.on_bad)
    train, _ = _split(decoded, job, listed.where)
    if train.digest != record["data"]["digest"]:
        raise DataError(f"{listed.where}: no longer the images that {folder} was trained on; name them with --training")
    return train.tensor()


def measure(prepared: Prepared, gan: GAN) -> list[Score]:
    """Measure the adapted generator on held-out images, beside replayed training images as what is to be beaten."""
    if prepared.held is None or prepared.held.n < 2 or isinstance(prepared.train, Codes):
        return []
    features = extractor(prepared.job.extractor, prepared.lead)
    seed, held = prepared.job.seed, prepared.held
    y = gan.classes_at(SAMPLES_MEASURED, seed)
    return compare(
        gan.sample(SAMPLES_MEASURED, seed, y=y), held.tensor(), prepared.train.tensor(), features, seed=seed, fake_labels=y,
        real_labels=held.labels, fake_classes=gan.provenance.classes, real_classes=held.classes,
    )  # fmt: skip


def findings(prepared: Prepared, generator: Generator, loop: Loop) -> dict[str, Any]:
    """What the method learned, as plain data; logged and told.  To be asked before anything changes the networks' modes."""
    last = loop.kept_step(prepared.job.keep) == loop.position.total
    found = loop.adaptation.findings(generator, last) if loop.adaptation.findings is not None else {}
    if found:
        loop.store.log({"step": loop.position.total, "findings": found})
        loop.emit({"event": "findings", "findings": found})
    return found


def save(
    prepared: Prepared, folder: pathlib.Path, gan: GAN, loop: Loop, scores: Sequence[Score], findings: dict[str, Any]
) -> int:
    """Write adapter, scores, samples and the critic; returns the number of values in the adapter."""
    info = adapter.AdapterInfo(
        method=prepared.job.method, config=prepared.job.settings, image=prepared.image, data=prepared.data,
        seed=prepared.job.seed, step=loop.kept_step(prepared.job.keep), scores=tuple(s.to_dict() for s in scores),
        findings=findings,
    )  # fmt: skip
    values = adapter.save_adapter(folder, gan.generator, prepared.sources, info)
    if loop.adaptation.critic is not None:
        adapter.save_critic(folder, loop.adaptation.critic)
    if scores:
        write_json(folder / "scores.json", [s.to_dict() for s in scores])
    pictures.save_png(folder / "samples" / "final.png", overview(gan, prepared.job.seed))
    return values
