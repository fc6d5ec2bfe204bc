"""Stopping and going on: bit for bit with deterministic algorithms, and how far apart without them."""

import os
import pathlib
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import regraft
from gpu.families import as_set
from gpu.job import Job, difference, fresh_gan
from regraft.core.errors import Interrupted

CASES = (("dcgan", 32, {}), ("stylegan2", 64, {"width": 2048}))
TINY = (("dcgan", 8, {"width": 4, "latent_dim": 6}),)


def run(job: Job) -> None:
    """Break runs of two families, in both precisions, with and without deterministic algorithms."""
    for family, size, settings in TINY if job.tiny else CASES:
        for precision in ("float32",) if job.tiny else ("float32", "bfloat16"):
            for exact in (True, False):
                what = f"{family} {size} px, {precision}, {'deterministic' if exact else 'as usual'}"
                given = (family, size, settings, precision, exact)
                job.attempt(what, lambda given=given: broken(job, *given))  # type: ignore[misc]


def broken(job: Job, family: str, size: int, settings: dict[str, Any], precision: str, exact: bool) -> dict[str, Any]:
    """Train once without a break, once more the same, and once with a stop; compare the adapters' tensors."""
    gan = fresh_gan(family, size, **settings)
    every = 1 if job.tiny else 20
    given: dict[str, Any] = {"method": "transfergan", "steps": 3 * every, "seed": 0, "device": job.device.type}
    given |= {"precision": precision, "batch": 4 if job.tiny else 16, "evaluate_every": every, "keep": "last"}
    targets = as_set(24, size, 3)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "observation" and event["step"] == every:
            os.kill(os.getpid(), signal.SIGINT)

    with deterministic(exact), tempfile.TemporaryDirectory() as work:
        whole, again, parts = (pathlib.Path(work) / name for name in ("whole", "again", "parts"))
        for folder in (whole, again):
            regraft.adapt(targets, gan, out=folder, **given)
        try:
            regraft.adapt(targets, gan, out=parts, on_event=stop, **given)
            return {"result": "**off**: it did not stop"}
        except Interrupted:
            regraft.adapt(targets, gan, out=parts, resume=True)
        a, b, c = (tensors(folder) for folder in (whole, again, parts))
    resumed = max(difference(a[name], c[name]) for name in a)
    repeated = max(difference(a[name], b[name]) for name in a)
    result = "ok" if resumed == 0 or not exact else "**off**: not bit for bit"
    return {"result": result, "resumed_difference": resumed, "repeated_difference": repeated}


def tensors(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    """Return what an adapter holds."""
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch choose deterministic algorithms only, and refuse where an operator has none."""
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
