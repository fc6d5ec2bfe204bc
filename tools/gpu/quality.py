"""A StyleGAN2-64 trained for minutes on faces, adapted with the default to 25 and 100 images of two targets."""

import json
import pathlib
import shutil
import time
from typing import Any

import safetensors.torch
import torch

import regraft
from gpu.families import as_set
from gpu.job import Job, pictures
from regraft.data import pictures as grids
from regraft.data.images import ImageSet

SETTINGS = {"width": 4096, "top_width": 256, "latent_dim": 256, "mapping_layers": 4}
TARGETS = {"anime": "anime_faces_64.zip", "cats": "afhq_cat_128.zip"}
SOURCE_SECONDS = 180
ADAPTING_STEPS = 400


def run(job: Job) -> None:
    """Train a source, keep it in half precision, adapt it."""
    data = None if job.data is None else job.data / "celeba_64.zip"
    if not job.tiny and (data is None or not data.is_file()):
        job.report("quality", result="not run: no celeba_64.zip (--data FOLDER)")
        return
    source = job.folder / "stylegan2-64"
    shutil.rmtree(source, ignore_errors=True)
    images = data if data is not None and data.is_file() else written(job.folder / "pictures", 64, 16)
    if job.attempt("source", lambda: trained(job, images, source)) is None or not (source / "source.json").is_file():
        return
    job.attempt("source in half precision", lambda: halved(source))
    for n in (25, 100):
        for name, file in TARGETS.items():
            path = None if job.data is None else job.data / file
            there = path is not None and path.is_file()
            listed = regraft.open_images(path) if there else as_set(n, 16, 3)  # type: ignore[arg-type]
            what = f"{n} {name}" if there else f"{n} pictures"
            job.attempt(what, lambda a=listed, n=n, w=what: adapted(job, a.take(0, n), source, w), needs=0 if job.tiny else 12)  # type: ignore[misc]
            if not there:
                break
        if job.tiny:
            break


def trained(job: Job, images: pathlib.Path, source: pathlib.Path) -> dict[str, Any]:
    """Train as many steps as the time allows, which a short training measures first."""
    size, batch, probe = (16, 4, 4) if job.tiny else (64, 64, 60)
    budget = min(SOURCE_SECONDS, 0.6 * job.left)
    small = {"width": 32, "top_width": 8, "latent_dim": 8, "mapping_layers": 2}
    common: dict[str, Any] = {"backbone": "stylegan2", "size": size, "device": job.device.type, "batch": batch, "seed": 0}
    common |= {"backbone_settings": small if job.tiny else SETTINGS, "licence": "CelebA: non-commercial research use"}
    common |= {"precision": "bfloat16" if job.device.type == "cuda" else "float32", "checkpoint_every": 10**6}
    ticks: list[tuple[float, int]] = []

    def tick(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            ticks.append((time.monotonic(), event["step"]))

    began = time.monotonic()
    first = source.with_name("probe")
    shutil.rmtree(first, ignore_errors=True)
    regraft.pretrain(images, out=first, steps=probe, on_event=tick, **common)
    shutil.rmtree(first)
    (early, a), (late, b) = (ticks[0], ticks[-1]) if len(ticks) > 1 else ((began, 0), ticks[-1])
    each = (late - early) / (b - a)
    steps = probe if job.tiny else max(probe, int((budget - (time.monotonic() - began)) / each))
    regraft.pretrain(images, out=source, steps=steps, **common)
    shutil.copy(source / "samples" / "final.png", job.folder / "source.png")
    return {
        "steps": steps,
        "batch": batch,
        "ms_step": round(1e3 * each, 2),
        "images": len(regraft.open_images(images)),
        "GiB": job.peak,
    }


def written(folder: pathlib.Path, n: int, size: int) -> pathlib.Path:
    """Write pictures as files."""
    shutil.rmtree(folder, ignore_errors=True)
    for k, image in enumerate(pictures(n, size).tensor()):
        grids.save_png(folder / f"{k:03d}.png", grids.to_picture(image, None))
    return folder


def halved(source: pathlib.Path) -> dict[str, Any]:
    """Store the source's numbers in 16 bits, and say how far its samples move."""
    before = regraft.load(source).sample(8, 0)
    path = source / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    size = path.stat().st_size
    half = {k: v.half() if v.dtype == torch.float32 else v for k, v in tensors.items()}
    safetensors.torch.save_file(half, path, {"format": "pt"})
    shutil.rmtree(source / "state", ignore_errors=True)
    after = regraft.load(source).sample(8, 0)
    return {
        "MB": round(path.stat().st_size / 1e6, 2),
        "MB_before": round(size / 1e6, 2),
        "error": float((before - after).abs().max()),
    }


def adapted(job: Job, images: ImageSet, source: pathlib.Path, what: str) -> dict[str, Any]:
    """Adapt with the default method, save a grid of samples, and report the verdict and held-out scores."""
    name = what.replace(" ", "-")
    out = job.folder / f"run-{name}"
    shutil.rmtree(out, ignore_errors=True)
    precision = "bfloat16" if job.device.type == "cuda" else "float32"
    steps = 4 if job.tiny else ADAPTING_STEPS
    run = regraft.adapt(images, source, out=out, steps=steps, seed=0, device=job.device.type, precision=precision, labels=False)
    grids.save_png(job.folder / f"{name}.png", grids.grid(run.gan.sample(48, 0), columns=12))
    scores = {s.name: round(s.value, 4) for s in run.scores}
    (job.folder / f"{name}.json").write_text(json.dumps({"scores": scores, "notes": run.notes, "step": run.step}, indent=1))
    shutil.rmtree(out)
    kept = {name: value for name, value in scores.items() if name.startswith(("frechet", "copies"))}
    return {
        "kept_step": run.step,
        "steps": steps,
        "verdict": run.verdict.word if run.verdict else None,
        **kept,
        "GiB": job.peak,
    }
