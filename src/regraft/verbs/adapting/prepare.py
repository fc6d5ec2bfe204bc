"""Prepare an adaptation in three steps: gather what the job names, choose what it leaves open, decode the images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from regraft.core import discover
from regraft.core.device import pick_device
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import subset
from regraft.data import codes as codes_files
from regraft.data import rules
from regraft.data.codes import Codes
from regraft.data.images import Images, ImageSet
from regraft.data.split import select_images, split_images
from regraft.evaluation.compare import extractor
from regraft.methods.base import Method, MethodConfig
from regraft.verbs.adapting import choices, codes, findings, labels, settings
from regraft.verbs.adapting.assemble import parts_that_fit
from regraft.verbs.adapting.prepared import Prepared, lead_of
from regraft.verbs.load import load

CODES_METHOD = "mind2mind"
"""The method that trains on codes."""


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What a job names, with nothing chosen yet.

    Attributes:
        job: the settings as given.
        sources: loaded GANs.
        target: listed images, or codes.
        device: where to compute.
        notes: what the sources assume and forbid, one sentence each.
    """

    job: AdaptJob
    sources: tuple[GAN, ...]
    target: ImageSet | Codes
    device: torch.device
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A job with its method chosen, and with the target's labels that will be learned; no image is decoded yet.

    Attributes:
        job: the settings, with method and labels chosen.
        sources: loaded GANs, with the job's objective and recipe.
        target: listed images, or codes, without labels if none are learned.
        method, config: the method with its settings.
        device: where to compute.
        notes: as gathered, and the reason of every choice.
    """

    job: AdaptJob
    sources: tuple[GAN, ...]
    target: ImageSet | Codes
    method: Method[MethodConfig]
    config: MethodConfig
    device: torch.device
    notes: tuple[str, ...]


def prepare(
    job: AdaptJob,
    sources: Sequence[GAN] | None = None,
    images: ImageSet | None = None,
    version: int = rules.NEWEST,
    names: Sequence[str] | None = None,
) -> Prepared:
    """Gather, choose and decode; write nothing.

    Args:
        job: the settings.
        sources: loaded sources that replace the job's references, or None.
        images: listed images that replace the job's path, or None.
        version: of the rules by which images are scaled and held out; a resumed run keeps its own.
        names: of the images that a resumed run began with, or None.

    Raises:
        ConfigError, SourceError, DataError, MissingCapability: naming what does not fit.
    """
    gathered = gather(job, sources, images, names)
    chosen = choose(gathered)
    return decode(chosen, version)


def gather(
    job: AdaptJob, sources: Sequence[GAN] | None, images: ImageSet | None, names: Sequence[str] | None = None
) -> Gathered:
    """Load the sources and list the target images; arguments are those of :func:`prepare`."""
    device = pick_device(job.device)
    loaded = tuple(sources if sources is not None else map(load, job.sources))
    notes = [f"{s.provenance.name}: {assumption}" for s in loaded for assumption in s.provenance.assumptions]
    notes += [
        f"{s.provenance.name}: its licence ({s.provenance.licence}) forbids commercial use, also of what is made from it"
        for s in loaded
        if s.provenance.noncommercial
    ]
    from_codes = images is None and codes_files.is_codes(job.images)
    target = codes_files.read(job.images) if from_codes else select_images(job, images, names)
    if isinstance(target, ImageSet):
        notes = [target.summary, *target.notes, *notes]
    return Gathered(job, loaded, target, device, tuple(notes))


def choose(gathered: Gathered) -> Chosen:
    """Choose method, labels and settings."""
    job, sources, target, notes = gathered.job, gathered.sources, gathered.target, list(gathered.notes)
    name, reason = _choose_method(gathered)
    notes += [reason] if reason else []
    job = job.model_copy(update={"method": name})
    method: Method[MethodConfig] = discover.plugin("methods", name, Method)
    config = settings.parse_settings(job, method)
    method.check(sources, name)
    if isinstance(target, Codes):
        job, target, reasons = codes.choose(job, target)
        config, sources = settings.complete(job, method, config, sources, target.n_classes)
        return Chosen(job, sources, target, method, config, gathered.device, (*notes, *reasons))
    job, target, reasons = labels.choose(job, target, method, config, sources)
    notes += reasons
    config, sources = settings.complete(job, method, config, sources, len(target.classes))
    lead = lead_of(method, sources, config)
    if job.labels and lead is not None and not method.labels:
        target, reasons = labels.number_as_source(target, lead)
        notes += reasons
    extractor(job.extractor, lead)  # a mistake must show now, not after hours of training
    return Chosen(job, sources, target, method, config, gathered.device, tuple(notes))


def decode(chosen: Chosen, version: int = rules.NEWEST) -> Prepared:
    """Decode the target images, hold some of them out, and choose whether to mirror the others; codes stay as they are.

    Args:
        chosen: the job, with its method chosen.
        version: of the rules by which images are scaled and held out.
    """
    job, target = chosen.job, chosen.target
    if isinstance(target, Codes):
        return _prepared(chosen, target, None, 0, ())
    size, channels = _image_shape(lead_of(chosen.method, chosen.sources, chosen.config), chosen.config)
    images = target.decode(size, channels, fit=job.fit, on_bad=job.on_bad, version=version)
    found = findings.look_at(images, target.where) if version > rules.FIRST else []
    split = split_images(images, job, target.where, version)
    train, held = split.train, split.held
    notes = [*images.notes, *found, *split.notes]
    if held is not None and held.n == 1:
        notes.append("1 image is held out: too few to measure on, so there will be no scores")
    flip, reason = _choose_flip(job, chosen.method, train)
    notes += [reason] if reason else []
    prepared = _prepared(chosen, dataclasses.replace(train, flip=flip), held, split.wanted, notes)
    prepared = dataclasses.replace(prepared, cautions=split.cautions, version=version)
    return _fit_batch(prepared) if job.batch == "auto" else prepared


def _choose_method(gathered: Gathered) -> tuple[str, str | None]:
    """Return the name of the method, and the reason if it was open."""
    job, sources, target = gathered.job, gathered.sources, gathered.target
    if isinstance(target, Codes):
        if job.method not in ("auto", CODES_METHOD):
            raise ConfigError(
                f"{job.images}: these are codes, which only {CODES_METHOD} trains on; {job.method} needs the images"
            )
        return CODES_METHOD, None
    with_critics = all(s.critic is not None for s in sources)
    only_encode = bool(sources) and all(s.critic is None and s.autoencoder is not None for s in sources)
    return choices.method(job.method, len(target), len(sources), with_critics, only_encode)


def _choose_flip(job: AdaptJob, method: Method[MethodConfig], train: Images) -> tuple[bool, str | None]:
    """Return whether to mirror training images at random, and the reason if that was open."""
    if not method.mirrors and job.flip == "on":
        raise ConfigError(
            f"--flip on: {job.method} ties each image to something of its own, and a mirrored one is another image"
        )
    drawn = train.select(subset(train.n, choices.MIRRORED, 0)).tensor()
    return choices.flip(job.flip if method.mirrors else "off", drawn)


def _image_shape(lead: GAN | None, config: MethodConfig) -> tuple[tuple[int, int], int]:
    """Return size (H, W) and channels of the images: the source's, or those among the method's settings."""
    if lead is not None:
        return lead.generator.size, lead.generator.channels
    side = getattr(config, "size", None)
    if side is None:
        raise ConfigError("without a source, say the side of the images: --set size=32")
    return (side, side), getattr(config, "channels", 3)


def _prepared(chosen: Chosen, train: Images | Codes, held: Images | None, held_out: int, notes: Sequence[str]) -> Prepared:
    """Write every choice into the job's settings.

    Args:
        chosen: the job, with its method chosen.
        train, held: images.
        held_out: how many images were to be held out; a resumed run must ask for as many.
        notes: what was done to the images.
    """
    choices_made: dict[str, Any] = {
        "settings": chosen.config.model_dump(mode="json"),
        "steps": None,  # now among the method's settings
        "held_out": held_out,
        "flip": "on" if isinstance(train, Images) and train.flip else "off",
    }
    job = chosen.job.model_copy(update=choices_made)
    return Prepared(job, chosen.sources, train, held, chosen.method, chosen.config, (*chosen.notes, *notes), chosen.device)


def _fit_batch(prepared: Prepared) -> Prepared:
    """Choose in how many parts a batch is computed, so that it fits in memory."""
    parts = parts_that_fit(prepared)
    note = f"batch computed in {parts} part{'s' if parts > 1 else ''}: that fits in memory"
    job = prepared.job.model_copy(update={"batch": None, "accumulate": parts})
    return dataclasses.replace(prepared, job=job, notes=(*prepared.notes, note))
