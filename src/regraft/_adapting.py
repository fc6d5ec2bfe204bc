"""The steps of one adaptation: gather sources and images, choose what was left open, train, keep the best, measure, save."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from regraft import _given_codes, _labels, advice, discover
from regraft import codes as codes_files
from regraft.codes import Codes
from regraft.config import OBJECTIVES, Objective, Recipe, merge, parse
from regraft.errors import ConfigError, DataError, OutOfMemory
from regraft.evaluation import HeldOut, extractor
from regraft.gan import GAN, tensor_digest
from regraft.images import Images, ImageSet, open_images
from regraft.jobs import AdaptJob
from regraft.loading import load
from regraft.methods.base import Adaptation, Method, MethodConfig
from regraft.randomness import generator_at, subset
from regraft.store import RunStore
from regraft.train import Loop, Plan

SAMPLES_MEASURED = 1000
Emit = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything that an adaptation needs, with nothing written yet.

    Attributes:
        job: settings with every open choice made.
        sources: loaded, with the job's objective and recipe.
        train, held: images (or their codes) to train on, and images kept to measure on (None if there are none).
        method, config: the method with its settings.
        notes: what was converted, assumed or chosen, one sentence each.
        device: where to compute.
    """

    job: AdaptJob
    sources: tuple[GAN, ...]
    train: Images | Codes
    held: Images | None
    method: Method
    config: MethodConfig
    notes: tuple[str, ...]
    device: torch.device

    @property
    def lead(self) -> GAN | None:
        """The source whose image size, critic and way of training are taken."""
        return self.method.lead(self.sources, self.config) if self.sources else None

    @property
    def image(self) -> dict[str, Any]:
        """Size, channels, fit and aspect, as the adapter keeps them."""
        if isinstance(self.train, Codes):
            (height, width), channels = self.sources[0].generator.size, self.sources[0].generator.channels
            return {"size": [height, width], "channels": channels, "fit": self.train.record.get("fit"), "aspect": None}
        channels, height, width = self.train.pixels.shape[1:]
        undo = self.train.aspect if self.job.fit in ("pad", "stretch") else None
        return {"size": [height, width], "channels": channels, "fit": self.job.fit, "aspect": undo}

    @property
    def data(self) -> dict[str, Any]:
        """Digest and counts of the target images."""
        held = 0 if self.held is None else self.held.n
        named = {"classes": list(self.train.classes)} if self.train.classes else {}
        return {"digest": self.train.digest, "n": self.train.n + held, "held_out": held, **named}

    @property
    def identity(self) -> dict[str, Any]:
        """What a resumed run must find unchanged."""
        return {"data": self.data, "sources": [tensor_digest(s.generator) for s in self.sources]}

    def attach(self) -> Adaptation:
        """Put the method on sources and images; the last phase is as much longer as is asked for."""
        made = self.method.attach(self.sources, self.train, self.config, generator_at(self.job.seed, "init"))
        if not self.job.more:
            return made
        if not any(phase.steps for phase in made.phases):
            raise ConfigError(f"--more {self.job.more}: {self.job.method} trains nothing")
        *before, last = made.phases
        return dataclasses.replace(made, phases=[*before, dataclasses.replace(last, steps=last.steps + self.job.more)])


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
    listed = codes_files.read(job.images) if images is None and codes_files.is_codes(job.images) else _listed(job, images)
    with_critics = all(s.critic is not None for s in sources)
    given_codes = isinstance(listed, Codes)
    only_encode = bool(sources) and all(s.critic is None and s.autoencoder is not None for s in sources)
    chosen = ("mind2mind", None) if given_codes else None
    name, reason = chosen or advice.method(job.method, len(listed), len(sources), with_critics, only_encode)
    if given_codes and job.method not in ("auto", name):
        raise ConfigError(f"{job.images}: these are codes, which only mind2mind trains on; {job.method} needs the images")
    notes += [reason] if reason else []
    method: Method = discover.plugin("methods", name)
    config = _settings(method, name, job)
    method.check(sources, name, config)
    config = method.settle(sources, config, job.seed)
    sources = [s.trained_with(*_overridden(job, *method.training(s, config))) for s in sources]
    config = config if sources else _trained_with(method, name, config, job)
    if isinstance(listed, Codes):
        return _with_codes(job, sources, listed, method, config, notes)
    lead = method.lead(sources, config) if sources else None
    obstacle = _labels.obstacle(method, name, config, sources, listed, job.labels)
    labelled, reason = advice.labels(job.labels, listed.classes, listed.counts, obstacle)
    notes += [reason] if reason else []
    listed = listed if labelled else listed.without_labels()
    if labelled and lead is not None and not method.labels:
        listed, reason = _labels.as_in_source(listed, lead)
        notes += [reason] if reason else []
    extractor(job.extractor, lead)  # a mistake must show now, not after hours of training
    decoded = listed.decode(*_shape(lead, config), fit=job.fit, on_bad=job.on_bad)
    notes += decoded.notes
    train, held = _split(decoded, job, listed.where)
    notes += ["1 image is held out: too few to measure on, so there will be no scores"] if held and held.n == 1 else []
    config = method.fitted(config, sources, train)
    if not method.mirrors and job.flip == "on":
        raise ConfigError(f"--flip on: {name} ties each image to something of its own, and a mirrored one is another image")
    some = train.select(subset(train.n, advice.MIRRORED, 0)).tensor()
    flip, reason = advice.flip(job.flip if method.mirrors else "off", some)
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
    job: AdaptJob, sources: Sequence[GAN], data: Codes, method: Method, config: MethodConfig, notes: list[str]
) -> Prepared:
    """Training from codes alone: no image is read, so none can be held out."""
    data, made, said = _given_codes.chosen(job, data)
    config = method.fitted(config, sources, data)
    made |= {"method": "mind2mind", "settings": config.model_dump(mode="json"), "steps": None}
    return Prepared(
        job.model_copy(update=made), tuple(sources), data, None, method, config, (*notes, *said), pick_device(job.device)
    )  # fmt: skip


def _listed(job: AdaptJob, images: ImageSet | None) -> ImageSet:
    listed = images if images is not None else open_images(job.images)
    if job.only_class is not None:
        listed = listed.only(job.only_class)
    if job.labels is False:
        listed = listed.without_labels()
    return listed.take(0, job.taken(len(listed), listed.where))


def pick_device(name: str) -> torch.device:
    """The device that a setting means.

    Raises:
        ConfigError: if it is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    if not there[name]:
        raise ConfigError(
            f"--device {name}: this machine's torch has no {name}; there are: {', '.join(d for d in there if there[d])}"
        )
    return torch.device(name)


def _overridden(job: AdaptJob, objective: Objective, recipe: Recipe) -> tuple[Objective, Recipe]:
    if isinstance(job.objective, str):
        objective = OBJECTIVES[job.objective]
    elif job.objective:
        objective = parse(Objective, merge(objective.model_dump(), job.objective), "objective")
    changes = dict(job.recipe) | ({"batch": job.batch} if isinstance(job.batch, int) else {})
    if changes:
        recipe = parse(Recipe, merge(recipe.model_dump(), changes), "recipe")
    return objective, recipe


def _trained_with(method: Method, name: str, config: MethodConfig, job: AdaptJob) -> MethodConfig:
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
    made = dict(zip(wanted, _overridden(job, *method.training_anew(config)), strict=True))
    return config.model_copy(update={what: made[what] for what in made if what in fields})


def _settings(method: Method, name: str, job: AdaptJob) -> MethodConfig:
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


def _split(images: Images, job: AdaptJob, where: str) -> tuple[Images, Images | None]:
    """Keep some images from training, chosen by the seed."""
    if images.n < advice.LEAST:
        raise DataError(f"{where}: {images.n} usable images; at least {advice.LEAST} are needed, and 25 or more are advised")
    keep = advice.held_out(images.n) if job.held_out is None else job.held_out
    if images.n - keep < advice.LEAST - 1:
        raise DataError(f"{where}: holding {keep} of {images.n} images out leaves too few to train on; lower --held-out")
    if keep == 0:
        return images, None
    order = torch.randperm(images.n, generator=generator_at(job.seed, "held out"))
    if images.labels is not None:
        order = _spread(order, images.labels)
    return images.select(order[keep:].sort().values), images.select(order[:keep].sort().values)


def _spread(order: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same order with classes mixed evenly, so that a share of its beginning holds the same share of each class."""
    rank = torch.empty(len(order))
    for label in range(int(labels.max()) + 1):
        rows = (labels[order] == label).nonzero().flatten()
        rank[rows] = (torch.arange(len(rows)) + 0.5) / len(rows)
    return order[rank.argsort(stable=True)]


def parts_that_fit(prepared: Prepared) -> int:
    """In how many parts a batch must be computed to fit in memory, found by one trial step of each phase.

    Raises:
        OutOfMemory: if not even single images fit.
    """
    parts = 1
    while True:
        adaptation = prepared.attach()
        phases = [dataclasses.replace(phase, steps=1) for phase in adaptation.phases]
        trial = dataclasses.replace(adaptation, phases=phases)
        plan = Plan(device=prepared.device, accumulate=parts, precision=prepared.job.precision)
        try:
            Loop(trial, prepared.train, plan, RunStore(None)).run()
        except OutOfMemory:
            if parts >= adaptation.batch:
                raise
            parts = min(2 * parts, adaptation.batch)
            if prepared.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        return parts


def augmented(settings: dict[str, Any]) -> bool:
    """Whether the critic is shown augmented images; adaptive augmentation may well show some."""
    return settings.get("augment") != [] and settings.get("augment_probability") != 0


def assemble(prepared: Prepared, folder: pathlib.Path | None, emit: Emit) -> Loop:
    """Put method, data, observer and store together; nothing is written yet."""
    job = prepared.job
    adaptation = prepared.attach()
    store = RunStore(folder)
    observer = None
    # Of the steps without those added: a longer run goes on measuring at the same steps.
    steps = sum(phase.steps for phase in adaptation.phases) - job.more
    every = job.evaluate_every if job.evaluate_every is not None else max(50, min(500, steps // 20 // 50 * 50))
    if prepared.held is not None and isinstance(prepared.train, Images) and every and steps:
        first = prepared.lead
        with_critic = first is not None and first.critic is not None
        watching = [extractor(name, first) for name in (("critic", "random_conv") if with_critic else ("random_conv",))]
        critic = adaptation.critic if adaptation.space == "image" else None
        observer = HeldOut(
            prepared.train, prepared.held, watching, job.seed, folder, critic=critic, patience=job.patience,
            not_before=sum(phase.steps for phase in adaptation.phases[:-1]), augmented=augmented(job.settings),
        )  # fmt: skip
    plan = Plan(
        seed=job.seed, device=prepared.device, accumulate=job.accumulate, precision=job.precision, observe_every=every,
        checkpoint_every=job.checkpoint_every,
    )  # fmt: skip
    loop = Loop(adaptation, prepared.train, plan, store, observer, emit)
    if observer is not None:
        loop.on_load = observer.load
    return loop
