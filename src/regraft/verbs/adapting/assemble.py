"""Assemble the training loop of a prepared adaptation."""

import dataclasses
import pathlib
from typing import Any

import torch

from regraft.core.errors import OutOfMemory
from regraft.core.networks import Critic
from regraft.data.images import Images
from regraft.evaluation.compare import extractor
from regraft.evaluation.held_out import HeldOut
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.verbs._arguments import Emit
from regraft.verbs.adapting.prepared import Prepared


def parts_that_fit(prepared: Prepared) -> int:
    """Find in how many parts a batch must be computed to fit in memory, by one trial step of each phase.

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
    """Return whether a method's settings let the critic see augmented images; adaptive augmentation counts as yes."""
    return settings.get("augment") != [] and settings.get("augment_probability") != 0


def assemble(prepared: Prepared, folder: pathlib.Path | None, emit: Emit) -> Loop:
    """Assemble the training loop: method, data, observer and store; write nothing yet.

    Args:
        prepared: the adaptation.
        folder: the run folder, or None to write nothing.
        emit: told of every event.
    """
    job = prepared.job
    adaptation = prepared.attach()
    steps = [phase.steps for phase in adaptation.phases]
    # Steps added by --more do not count: a longer run goes on measuring at the same steps.
    total = sum(steps) - job.more
    every = job.evaluate_every if job.evaluate_every is not None else max(50, min(500, total // 20 // 50 * 50))
    observer = None
    if every and total:
        observer = _observer(prepared, folder, adaptation.critic if adaptation.space == "image" else None, sum(steps[:-1]))
    plan = Plan(
        seed=job.seed,
        device=prepared.device,
        accumulate=job.accumulate,
        precision=job.precision,
        observe_every=every,
        checkpoint_every=job.checkpoint_every,
    )
    return Loop(adaptation, prepared.train, plan, RunStore(folder), observer, emit)


def _observer(prepared: Prepared, folder: pathlib.Path | None, critic: Critic | None, not_before: int) -> HeldOut | None:
    """Return the observer that measures the generator on held-out images; None if there are none.

    Args:
        prepared: the adaptation.
        folder: the run folder, or None to write nothing.
        critic: the critic in training, if it scores images.
        not_before: step up to which a bad measurement does not end the run.
    """
    job, lead = prepared.job, prepared.lead
    if prepared.held is None or not isinstance(prepared.train, Images):
        return None
    with_critic = lead is not None and lead.critic is not None
    names = ("critic", "random_conv") if with_critic else ("random_conv",)
    return HeldOut(
        prepared.train,
        prepared.held,
        [extractor(name, lead) for name in names],
        job.seed,
        folder,
        critic=critic,
        patience=job.patience,
        not_before=not_before,
        augmented=augmented(job.settings),
    )
