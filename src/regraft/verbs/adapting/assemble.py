"""Put method, data, observer and store together."""

import dataclasses
import pathlib
from typing import Any

import torch

from regraft.core.errors import OutOfMemory
from regraft.data.images import Images
from regraft.evaluation.compare import extractor
from regraft.evaluation.held_out import HeldOut
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.verbs.adapting.prepared import Emit, Prepared


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
            prepared.train,
            prepared.held,
            watching,
            job.seed,
            folder,
            critic=critic,
            patience=job.patience,
            not_before=sum(phase.steps for phase in adaptation.phases[:-1]),
            augmented=augmented(job.settings),
        )
    plan = Plan(
        seed=job.seed,
        device=prepared.device,
        accumulate=job.accumulate,
        precision=job.precision,
        observe_every=every,
        checkpoint_every=job.checkpoint_every,
    )
    return Loop(adaptation, prepared.train, plan, store, observer, emit)
