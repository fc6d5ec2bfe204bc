"""Every family on the device: outputs against the authors', six steps of each method, the adapter reloaded on the CPU."""

import json
import pathlib
import tempfile
from typing import Any

import conformance
import numpy as np
import torch

import regraft
from gpu.job import Job, difference, full_precision, pictures
from regraft.core.gan import GAN
from regraft.data.images import ImageSet, Item

STEPS = 6
METHODS = ("transfergan", "freezed", "minegan", "bsa", "mind2mind")
KINDS: dict[str, dict[str, Any]] = {"float32": {}, "bfloat16": {"precision": "bfloat16"}, "accumulate 2": {"accumulate": 2}}


def run(job: Job) -> None:
    """Compare all families first, then try methods: of each family the first kinds before any family's last."""
    if job.reference is None or not job.reference.is_dir():
        job.report("families", result="not run: no folder of reference checkpoints (--reference)")
        return
    sources = {}
    for folder in sorted(p.parent for p in job.reference.glob("*/io.npz")):
        gan, path = conformance.opened(folder)
        if gan is None:
            job.report(f"{folder.name}: outputs", result="not readable", why=path[:200])
            continue
        sources[folder.name] = folder if path == folder.name else folder / path
        job.attempt(f"{folder.name}: outputs", lambda gan=gan, folder=folder: outputs(job, gan, folder))  # type: ignore[misc]
    trials = [(method, kind) for kind in KINDS for method in METHODS]
    if job.tiny:
        sources = dict(list(sources.items())[:1])
        trials = [("transfergan", "bfloat16")]
    for method, kind in trials:
        for name, path in sources.items():
            what = f"{name}: {method}, {kind}"
            job.attempt(what, lambda m=method, k=kind, p=path: six_steps(job, p, m, k), needs=2)  # type: ignore[misc]


def outputs(job: Job, gan: GAN, folder: pathlib.Path) -> dict[str, Any]:
    """Return the largest error of images and of critic scores against the recorded ones, without TF32."""
    about = json.loads((folder / "about.json").read_text())
    for network in (gan.generator, gan.critic, gan.autoencoder):
        if network is not None:
            network.to(job.device)
    arrays = {k: torch.from_numpy(np.asarray(v)).to(job.device) for k, v in np.load(folder / "io.npz").items()}
    case = conformance.Case(gan, {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()})
    with full_precision():
        rows = [row for name, value in case.io.items() if (row := conformance.compared(case, name, value)) is not None]
    scores = conformance.largest([r for r in rows if r.setting.startswith("d_")])
    images = conformance.largest([r for r in rows if not r.setting.startswith("d_")])
    # A GPU adds up in another order than the CPU that the numbers were recorded on.
    wide = 10
    off = [r.setting for r in rows if r.error is not None and not r.error <= wide * r.tolerance]
    for network in (gan.generator, gan.critic, gan.autoencoder):
        if network is not None:
            network.cpu()
    result = "ok" if rows and not off else f"**off**: {', '.join(off) or 'nothing compared'}"
    return {"result": result, "family": str(about.get("family", "")), "image_error": images, "score_error": scores}


def six_steps(job: Job, path: pathlib.Path, method: str, kind: str) -> dict[str, Any]:
    """Train six steps with a measurement in between, save, load on the CPU, and compare samples."""
    gan = regraft.load(path)
    if method == "mind2mind" and gan.autoencoder is None:
        return {"result": "not offered: no autoencoder"}
    if method == "freezed" and gan.critic is None:
        return {"result": "not offered: no critic"}
    size = gan.generator.size[0]
    targets = as_set(24, size, gan.generator.channels)
    steps = {"mining_steps": STEPS // 2, "finetuning_steps": STEPS // 2} if method == "minegan" else {"steps": STEPS}
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work) / "run"
        settings = steps | KINDS[kind] | {"batch": 4 if job.tiny else 8, "evaluate_every": 3, "labels": False}
        run = regraft.adapt(targets, gan, method=method, out=out, seed=0, device=job.device.type, **settings)
        here = run.gan.sample(4, 3)
        there = regraft.load_adapter(out, sources=[path]).sample(4, 3)
        error = difference(here, there)
    finite = bool(torch.isfinite(here).all())
    return {"result": "ok" if finite and error < 2e-2 else "**off**", "reload_error": error, "finite": finite, "GiB": job.peak}


def as_set(n: int, size: int, channels: int) -> ImageSet:
    """Pictures as a listed set, as a folder of files would be."""
    pixels = pictures(n, size, channels).pixels.permute(0, 2, 3, 1).numpy()
    return ImageSet("pictures", tuple(Item(f"{k:03d}", lambda k=k: pixels[k]) for k in range(n)))  # type: ignore[misc]
