"""The same steps with the authors' networks and losses (a checkout of NVlabs/stylegan3), in turns, in one process.

The checkout is given by path and is no part of this project; its licence allows non-commercial use only.
"""

import copy
import sys
import time
import types
import warnings
from typing import Any

import torch

from gpu.job import Job, fresh_gan
from gpu.speed import Network, sampling, training

SIZES = (
    ("256 px, width 16384", 256, 16384, 16),
    ("64 px, width 16384", 64, 16384, 32),
    ("1024 px, width 32768", 1024, 32768, 4),
)
TINY = (("16 px, width 512", 16, 512, 4),)


def run(job: Job) -> None:
    """Measure regraft and its peer one after the other at each size."""
    if job.peer is None or not (job.peer / "training" / "networks_stylegan2.py").is_file():
        job.report("peer", result="not run: no checkout of the authors' code (--peer FOLDER)")
        return
    sys.path.insert(0, str(job.peer))
    sys.modules.setdefault("pkg_resources", stand_in())
    job.attempt("operators", lambda: operators(job))
    for name, size, width, batch in TINY if job.tiny else SIZES:
        network = Network(name, "stylegan2", size, batch, {"width": width})
        for half in (True, False):
            precision = "half" if half else "float32"
            needs = 1 if job.tiny else 6
            given = (size, width, batch, half)
            job.attempt(f"{name}, {precision}: peer", lambda given=given: peer(job, *given), needs=needs)  # type: ignore[misc]
            ours = "bfloat16" if half else "float32"
            job.attempt(f"{name}, {precision}: regraft", lambda n=network, p=ours: regraft_step(job, n, p), needs=needs)  # type: ignore[misc]


def stand_in() -> types.ModuleType:
    """Make the one thing of ``pkg_resources`` that the authors' code asks for: a version that compares."""
    module = types.ModuleType("pkg_resources")

    def parse_version(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdecimal())

    module.parse_version = parse_version  # type: ignore[attr-defined]
    return module


def operators(job: Job) -> dict[str, Any]:
    """Compile the authors' operators where that works; else their plain ones are used, and it is said."""
    from torch_utils.ops import bias_act, upfirdn2d  # type: ignore[import-not-found]

    try:
        if job.device.type != "cuda":
            raise RuntimeError("there is no GPU")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bias_act._init()
            upfirdn2d._init()
    except Exception as error:  # noqa: BLE001 - a compiler can fail in any way
        bias_act._init = upfirdn2d._init = lambda: False
        return {"operators_used": "plain", "why": " ".join(str(error).split())[-200:]}
    return {"operators_used": "compiled"}


def regraft_step(job: Job, network: Network, precision: str) -> dict[str, Any]:
    """Time sampling and fine-tuning."""
    gan = fresh_gan(network.family, network.size, **network.settings)
    passed = sampling(job, gan, network.batch, precision)
    gan.generator.cpu()
    trained = training(job, gan, network, "transfergan", {"augment": []}, precision)
    return trained | {"sampled_images_s": passed["images_s"]}


def peer(job: Job, size: int, width: int, batch: int, half: bool) -> dict[str, Any]:
    """Time the authors' generator and their training step: loss, lazy penalties, averages."""
    from training.loss import StyleGAN2Loss  # type: ignore[import-not-found]

    from training import networks_stylegan2 as networks  # type: ignore[import-not-found]

    common = {"channel_base": width, "channel_max": 512, "num_fp16_res": 4 if half else 0, "conv_clamp": 256 if half else None}
    generator = networks.Generator(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=size, img_channels=3, mapping_kwargs={"num_layers": 8}, **common
    )
    critic = networks.Discriminator(
        c_dim=0, img_resolution=size, img_channels=3, epilogue_kwargs={"mbstd_group_size": 4}, **common
    )
    for network in (generator, critic):
        network.to(job.device).train().requires_grad_(False)
    average = copy.deepcopy(generator).eval()
    no_class = torch.zeros(batch, 0, device=job.device)
    passes = 2 if job.tiny else 16
    with torch.no_grad():
        z = torch.randn(batch, 512, device=job.device)
        for _ in range(3):
            average(z, no_class, noise_mode="const")
        job.wait()
        began = time.perf_counter()
        for _ in range(passes):
            average(z, no_class, noise_mode="const")
        job.wait()
    images_s = passes * batch / (time.perf_counter() - began)
    loss = StyleGAN2Loss(job.device, generator, critic, r1_gamma=1, style_mixing_prob=0.9, pl_weight=2)
    phases = []
    for name, network, interval in (("G", generator, 4), ("D", critic, 16)):
        share = interval / (interval + 1)
        adam = torch.optim.Adam(network.parameters(), lr=0.0025 * share, betas=(0.0, 0.99**share), eps=1e-8)
        phases += [(f"{name}main", network, adam, 1), (f"{name}reg", network, adam, interval)]
    real = torch.randn(batch, 3, size, size, device=job.device).clamp(-1, 1)
    steps = 2 if job.tiny else 32
    for k in range(steps + 16):
        if k == 16:
            job.wait()
            began = time.perf_counter()
        authors_step(k, phases, loss, real, no_class)
        follow(average, generator)
    job.wait()
    seconds = (time.perf_counter() - began) / steps
    values = {"batch": batch, "ms_step": round(1e3 * seconds, 2), "images_s": round(batch / seconds, 1), "GiB": job.peak}
    return values | {"sampled_images_s": round(images_s, 1)}


def authors_step(k: int, phases: list[Any], loss: Any, real: torch.Tensor, no_class: torch.Tensor) -> None:
    """Do what the authors' loop does in one step."""
    for name, network, adam, interval in phases:
        if k % interval:
            continue
        adam.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        z = torch.randn(len(real), 512, device=real.device)
        loss.accumulate_gradients(name, real, no_class, z, no_class, interval, 0)
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        adam.step()


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module) -> None:
    """Move the average towards the network."""
    for ours, theirs in zip(average.parameters(), network.parameters(), strict=True):
        ours.copy_(theirs.lerp(ours, 0.998))
    for ours, theirs in zip(average.buffers(), network.buffers(), strict=True):
        ours.copy_(theirs)
