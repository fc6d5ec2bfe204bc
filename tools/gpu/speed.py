"""Time of a step, images a second and peak memory: sampling, mining, fine-tuning and BSA, in float32 and bfloat16."""

import dataclasses
import time
from typing import Any

import torch

from gpu.job import Job, fresh_gan, pictures
from regraft.core import discover
from regraft.core.build import build_fresh
from regraft.core.config import parse
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Autoencoder, Description, evaluating
from regraft.core.randomness import generator_at
from regraft.methods.base import Method
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan

WINDOW = 16
"""Steps of one time: lazy penalties come every 16 steps."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What is measured.

    Attributes:
        name: of the row.
        family, size, settings: of the networks.
        batch: images per step.
        codes: whether it is an autoencoder whose codes are trained on.
    """

    name: str
    family: str
    size: int
    batch: int
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    codes: bool = False
    n_classes: int = 0


NETWORKS = (
    Network("StyleGAN2 256 px (width 16384)", "stylegan2", 256, 16, {"width": 16384}),
    Network("DCGAN 32 px", "dcgan", 32, 64),
    Network("StyleGAN2 1024 px (width 32768)", "stylegan2", 1024, 4, {"width": 32768}),
    Network("StyleGAN2 64 px (width 16384)", "stylegan2", 64, 32, {"width": 16384}),
    Network("StyleGAN3-t 256 px", "stylegan3", 256, 16),
    Network("BigGAN 128 px", "biggan", 128, 16, n_classes=10),
    Network("ALAE codes of 1024 px", "alae", 1024, 128, codes=True),
)
TINY = (
    Network("DCGAN 8 px", "dcgan", 8, 4, {"width": 4, "latent_dim": 6}),
    Network("ALAE codes of 8 px", "alae", 8, 4, {"width": 4, "latent_dim": 6, "mapping_layers": 2}, codes=True),
)


def run(job: Job) -> None:
    """Measure the most used first, so that what is left out at the end of the time matters least."""
    networks = TINY if job.tiny else NETWORKS
    kinds = ("sampling", "fine-tuning", "mining", "BSA")
    for precision in ("float32",) if job.tiny else ("float32", "bfloat16"):
        for network in networks:
            for kind in ("codes",) if network.codes else kinds:
                what = f"{network.name}: {kind}, {precision}"
                given = (network, kind, precision)
                job.attempt(what, lambda given=given: measured(job, *given), needs=0.5 if job.tiny else 2.5)  # type: ignore[misc]


def measured(job: Job, network: Network, kind: str, precision: str) -> dict[str, Any]:
    """Time one kind of work on one network."""
    if network.codes:
        return training(job, autoencoder_gan(network), network, "mind2mind", {}, precision)
    gan = fresh_gan(network.family, network.size, n_classes=network.n_classes, **network.settings)
    if kind == "sampling":
        return sampling(job, gan, network.batch, precision)
    method, settings = {
        "fine-tuning": ("transfergan", {"augment": []}),
        "mining": ("minegan", {"augment": []}),
        "BSA": ("bsa", {}),
    }[kind]
    return training(job, gan, network, method, settings, precision)


def sampling(job: Job, gan: GAN, batch: int, precision: str) -> dict[str, Any]:
    """Time forward passes of the generator alone."""
    generator = gan.generator.to(job.device)
    z = generator.latent.sample(batch, generator_at(0, "speed")).to(job.device)
    y = torch.zeros(batch, dtype=torch.long, device=job.device) if generator.n_classes else None
    passes = 2 if job.tiny else 16
    with torch.no_grad(), evaluating(generator), torch.autocast(job.device.type, torch.bfloat16, precision == "bfloat16"):
        for _ in range(3):
            generator(z, y)
        job.wait()
        began = time.perf_counter()
        for _ in range(passes):
            generator(z, y)
        job.wait()
    seconds = (time.perf_counter() - began) / passes
    return {"batch": batch, "ms_pass": round(1e3 * seconds, 2), "images_s": round(batch / seconds, 1), "GiB": job.peak}


def training(job: Job, gan: GAN, network: Network, name: str, settings: dict[str, Any], precision: str) -> dict[str, Any]:
    """Time steps of the loop, the first window left out."""
    method = discover.plugin("methods", name, Method)
    windows, window = (1, 2) if job.tiny else (2, WINDOW)
    steps = (windows + 1) * window
    settings |= {"mining_steps": steps, "finetuning_steps": 0} if name == "minegan" else {"steps": steps}
    config = parse(method.Config, settings, name)
    gan = gan.trained_with(gan.objective, gan.recipe.model_copy(update={"batch": network.batch}))
    data = pictures(32, network.size, gan.generator.channels)
    adaptation = method.attach([gan], data, config, generator_at(0, "init"))
    if name == "minegan":
        adaptation = dataclasses.replace(adaptation, phases=adaptation.phases[:1])
    ticks: list[float] = []

    def tick(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            job.wait()
            ticks.append(time.perf_counter())

    plan = Plan(device=job.device, precision=precision, log_every=window, checkpoint_every=10**9)
    Loop(adaptation, data, plan, RunStore(None), emit=tick).run()
    seconds = (ticks[-1] - ticks[0]) / (window * (len(ticks) - 1))
    values = {"batch": adaptation.batch, "ms_step": round(1e3 * seconds, 2), "images_s": round(adaptation.batch / seconds, 1)}
    return values | {"GiB": job.peak}


def autoencoder_gan(network: Network) -> GAN:
    """Make a StyleALAE with random weights."""
    from regraft.backbones.alae import default_configs

    roles = ("generator", "critic", "autoencoder")
    made: dict[str, Any] = {}
    for role, config in zip(roles, default_configs(network.size, 3, **network.settings), strict=True):
        description = Description("alae", role, config.model_dump(mode="json"))  # type: ignore[arg-type]
        made[role] = build_fresh(description, 0).requires_grad_(False).eval()
    autoencoder = made["autoencoder"]
    assert isinstance(autoencoder, Autoencoder)
    return GAN(made["generator"], made["critic"], autoencoder=autoencoder, provenance=Provenance(name="alae"))
