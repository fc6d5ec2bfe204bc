"""The steps of one adaptation: gather sources and images, choose what was left open, train, keep the best, measure, save."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from regraft.core import discover
from regraft.core.config import OBJECTIVES, Objective, Recipe, merge, parse
from regraft.core.device import pick_device
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import subset
from regraft.data import codes as codes_files
from regraft.data.codes import Codes
from regraft.data.images import ImageSet
from regraft.data.split import select_images, split_images
from regraft.evaluation.compare import extractor
from regraft.methods.base import Method, MethodConfig
from regraft.verbs.adapting import choices, codes, labels
from regraft.verbs.adapting.assemble import parts_that_fit
from regraft.verbs.adapting.prepared import Prepared
from regraft.verbs.load import load


def prepare(job: AdaptJob, given: Sequence[GAN] | None = None, images: ImageSet | None = None) -> Prepared:
    """Gather and choose.

    Args:
        job: the settings.
        given: loaded sources, in place of the job's references.
        images: listed images, in place of the job's path.

    Raises:
        ConfigError, SourceError, DataError, MissingCapability: naming what does not fit.
    """
    device = pick_device(job.device)
    sources = list(given if given is not None else map(load, job.sources))
    notes = [f"{s.provenance.name}: {said}" for s in sources for said in s.provenance.assumptions]
    notes += [
        f"{s.provenance.name}: its licence ({s.provenance.licence}) forbids commercial use, also of what is made from it"
        for s in sources
        if s.provenance.noncommercial
    ]
    listed = codes_files.read(job.images) if images is None and codes_files.is_codes(job.images) else select_images(job, images)
    with_critics = all(s.critic is not None for s in sources)
    given_codes = isinstance(listed, Codes)
    only_encode = bool(sources) and all(s.critic is None and s.autoencoder is not None for s in sources)
    chosen = ("mind2mind", None) if given_codes else None
    name, reason = chosen or choices.method(job.method, len(listed), len(sources), with_critics, only_encode)
    if given_codes and job.method not in ("auto", name):
        raise ConfigError(f"{job.images}: these are codes, which only mind2mind trains on; {job.method} needs the images")
    notes += [reason] if reason else []
    method: Method[MethodConfig] = discover.plugin("methods", name, Method)
    config = _settings(method, name, job)
    method.check(sources, name)
    if isinstance(listed, Codes):
        return _with_codes(job, sources, listed, method, config, notes)
    obstacle = labels.obstacle(method, name, config, sources, listed, job.labels)
    labelled, reason = choices.labels(job.labels, listed.classes, listed.counts, obstacle)
    notes += [reason] if reason else []
    listed = listed if labelled else listed.without_labels()
    config, sources = _completed(job, sources, len(listed.classes), method, name, config)
    lead = method.lead(sources, config) if sources else None
    if labelled and lead is not None and not method.labels:
        listed, reason = labels.as_in_source(listed, lead)
        notes += [reason] if reason else []
    extractor(job.extractor, lead)  # a mistake must show now, not after hours of training
    decoded = listed.decode(*_shape(lead, config), fit=job.fit, on_bad=job.on_bad)
    notes += decoded.notes
    train, held = split_images(decoded, job, listed.where)
    notes += ["1 image is held out: too few to measure on, so there will be no scores"] if held and held.n == 1 else []
    if not method.mirrors and job.flip == "on":
        raise ConfigError(f"--flip on: {name} ties each image to something of its own, and a mirrored one is another image")
    some = train.select(subset(train.n, choices.MIRRORED, 0)).tensor()
    flip, reason = choices.flip(job.flip if method.mirrors else "off", some)
    notes += [reason] if reason else []
    made: dict[str, Any] = {"method": name, "flip": "on" if flip else "off", "held_out": 0 if held is None else held.n}
    made |= {"settings": config.model_dump(mode="json"), "steps": None, "labels": labelled}
    train = dataclasses.replace(train, flip=flip)
    prepared = Prepared(job.model_copy(update=made), tuple(sources), train, held, method, config, tuple(notes), device)
    if job.batch != "auto":
        return prepared
    parts = parts_that_fit(prepared)
    note = f"batch computed in {parts} part{'s' if parts > 1 else ''}: that fits in memory"
    whole = prepared.job.model_copy(update={"batch": None, "accumulate": parts})
    return dataclasses.replace(prepared, job=whole, notes=(*prepared.notes, note))


def _with_codes(
    job: AdaptJob, sources: Sequence[GAN], data: Codes, method: Method[MethodConfig], config: MethodConfig, notes: list[str]
) -> Prepared:
    """Training from codes alone: no image is read, so none can be held out."""
    data, made, said = codes.chosen(job, data)
    config, sources = _completed(job, sources, data.n_classes, method, "mind2mind", config)
    made |= {"method": "mind2mind", "settings": config.model_dump(mode="json"), "steps": None}
    return Prepared(
        job.model_copy(update=made), tuple(sources), data, None, method, config, (*notes, *said), pick_device(job.device)
    )


def _completed(
    job: AdaptJob, sources: Sequence[GAN], n_classes: int, method: Method[MethodConfig], name: str, config: MethodConfig
) -> tuple[MethodConfig, list[GAN]]:
    """Complete the method's settings, and give each source the objective and recipe that it is trained with."""
    config = method.complete_config(config, sources, n_classes, job.seed)
    sources = [s.trained_with(*_overridden(job, *method.training(config, s))) for s in sources]
    return config if sources else _trained_with(method, name, config, job), sources


def _overridden(job: AdaptJob, objective: Objective, recipe: Recipe) -> tuple[Objective, Recipe]:
    if isinstance(job.objective, str):
        objective = OBJECTIVES[job.objective]
    elif job.objective:
        objective = parse(Objective, merge(objective.model_dump(), job.objective), "objective")
    changes = dict(job.recipe) | ({"batch": job.batch} if isinstance(job.batch, int) else {})
    if changes:
        recipe = parse(Recipe, merge(recipe.model_dump(), changes), "recipe")
    return objective, recipe


def _trained_with(method: Method[MethodConfig], name: str, config: MethodConfig, job: AdaptJob) -> MethodConfig:
    """Without a source that carries them, objective and recipe are settings of the method, if it has such."""
    wanted = {"objective": bool(job.objective), "recipe": bool(job.recipe) or isinstance(job.batch, int)}
    fields = type(config).model_fields
    strange = [what for what, asked in wanted.items() if asked and what not in fields]
    if strange:
        raise ConfigError(
            f"{name} without a source has no {' or '.join(strange)} that could be set; its own settings are: "
            + ", ".join(field for field in fields if field not in wanted)
        )
    if not wanted.keys() & fields.keys():
        return config
    made = dict(zip(wanted, _overridden(job, *method.training(config, None)), strict=True))
    return config.model_copy(update={what: made[what] for what in made if what in fields})


def _settings(method: Method[MethodConfig], name: str, job: AdaptJob) -> MethodConfig:
    settings = dict(job.settings)
    if job.steps is not None:
        if "steps" not in method.Config.model_fields:
            raise ConfigError(f"--steps {job.steps}: {name} trains nothing")
        settings["steps"] = job.steps
    return parse(method.Config, settings, f"settings of {name}")


def _shape(lead: GAN | None, config: MethodConfig) -> tuple[tuple[int, int], int]:
    if lead is not None:
        return lead.generator.size, lead.generator.channels
    size = getattr(config, "size", None)
    if size is None:
        raise ConfigError("without a source, say the side of the images: --set size=32")
    return (size, size), getattr(config, "channels", 3)
