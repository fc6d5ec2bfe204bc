"""How long the GPU waits for the host within a step, and the ten operators that take most time."""

import dataclasses
import time
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu.job import Job, fresh_gan, pictures
from regraft.core import discover
from regraft.core.config import parse
from regraft.core.randomness import generator_at
from regraft.methods.base import Method
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan

CASES = (("DCGAN 32 px", "dcgan", 32, 64, {}), ("StyleGAN2 256 px", "stylegan2", 256, 16, {"width": 16384}))
TINY = (("DCGAN 8 px", "dcgan", 8, 4, {"width": 4, "latent_dim": 6}),)


def run(job: Job) -> None:
    """Profile fine-tuning steps of a small and of a large network."""
    for name, family, size, batch, settings in TINY if job.tiny else CASES:
        for precision in ("float32",) if job.tiny else ("float32", "bfloat16"):
            given = (family, size, batch, settings, precision)
            job.attempt(f"{name}, {precision}", lambda given=given: profiled(job, *given), needs=0.5 if job.tiny else 5)  # type: ignore[misc]


def profiled(job: Job, family: str, size: int, batch: int, settings: dict[str, Any], precision: str) -> dict[str, Any]:
    """Profile one window of steps after a first one, which compiles and allocates.

    Returns:
        ``waits``, the share of the time in which no kernel ran, and ``operators``: name, share of all time of operators.
    """
    gan = fresh_gan(family, size, **settings)
    gan = gan.trained_with(gan.objective, gan.recipe.model_copy(update={"batch": batch}))
    method = discover.plugin("methods", "transfergan", Method)
    window = 2 if job.tiny else 16
    config = parse(method.Config, {"steps": 2 * window, "augment": []}, "transfergan")
    data = pictures(32, size, gan.generator.channels)
    adaptation = dataclasses.replace(method.attach([gan], data, config, generator_at(0, "init")))
    on_gpu = job.device.type == "cuda"
    profiler = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])])
    ticks: list[float] = []

    def tick(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            job.wait()
            ticks.append(time.perf_counter())
            if len(ticks) == 1:
                profiler.start()
                ticks[0] = time.perf_counter()

    Loop(
        adaptation, data, Plan(device=job.device, precision=precision, log_every=window, checkpoint_every=10**9),
        RunStore(None), emit=tick,
    ).run()  # fmt: skip
    profiler.stop()
    wall = ticks[1] - ticks[0]
    events = profiler.key_averages()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spent = {
        e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6 for e in events if e.device_type == kind
    }
    total = sum(spent.values())
    longest = sorted(spent.items(), key=lambda pair: -pair[1])[:10]
    values: dict[str, Any] = {"ms_step": round(1e3 * wall / window, 2)}
    values["waits"] = round(max(0.0, 1 - total / wall), 3) if on_gpu else None
    return values | {"operators": [[name[:80], round(seconds / total, 3)] for name, seconds in longest]}
