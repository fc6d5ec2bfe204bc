"""Make the pictures of a page, small enough to be embedded in it."""

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from regraft.composites.mixed import interpolate_latents, pick_source
from regraft.data import pictures
from regraft.data.pixels import UnreadableImage, decode
from regraft.evaluation.copying import COPY_RADIUS, NeighbourScale
from regraft.runs.folder import RunFolder
from regraft.verbs.report.subject import Subject

MAX_FRAMES = 41
WALK_STEPS = 16
PIXEL_SIDE = 96
"""Pictures no larger than this are shown pixel by pixel."""


def embed(picture: Image.Image, side: int) -> dict[str, Any]:
    """Encode a picture as a data URI, shrunk to sides of at most ``side`` pixels; small and grey ones are stored exactly."""
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    exact = max(picture.size) <= PIXEL_SIDE or picture.mode == "L"
    picture.save(buffer, "WEBP", lossless=exact, quality=80, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"uri": uri, "width": picture.width, "height": picture.height, "pixel": max(picture.size) <= PIXEL_SIDE}


def step_grids(subject: Subject, side: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the grids saved in training, at most 41 and the kept step's, and a note on each that cannot be read."""
    grids = RunFolder(subject.folder).sampled_steps()
    steps = sorted(grids)
    if len(steps) > MAX_FRAMES:
        spaced = {steps[round(k * (len(steps) - 1) / (MAX_FRAMES - 1))] for k in range(MAX_FRAMES)}
        steps = sorted(spaced | ({subject.record["step"]} & set(steps)))
    frames, notes = [], []
    for step in steps:
        try:
            picture = decode(grids[step].read_bytes(), str(grids[step]), lambda note: None)
        except (UnreadableImage, OSError) as error:
            notes.append(f"Samples of step {step} are not shown: {error}")
            continue
        frames.append({"step": step, "picture": embed(picture, side)})
    return frames, notes


def source_pairs(subject: Subject, samples: Tensor, side: int) -> list[dict[str, Any]]:
    """Return what source and adapted generator make of the same latents; empty unless both take the same latents."""
    source = subject.source
    if source is None or source.generator.latent != subject.gan.generator.latent or len(subject.record["sources"]) != 1:
        return []
    before = source.sample(len(samples), subject.job.seed).cpu()
    small = min(side, 192)
    return [
        {"before": _embed_image(original, subject, small), "after": _embed_image(adapted, subject, small)}
        for original, adapted in zip(before, samples, strict=True)
    ]


def nearest_pairs(subject: Subject, samples: Tensor, side: int, with_training: bool) -> list[dict[str, Any]]:
    """Return samples with their nearest training images and relative distances; empty without training images."""
    training = subject.training
    if training is None or len(training) < 3 or training.shape[1:] != samples.shape[1:]:
        return []
    distances, nearest = NeighbourScale(training, None).relative_distances(samples)
    small = min(side, 128)
    return [
        {
            "sample": _embed_image(samples[k], subject, small),
            "copied": bool(distances[k] < COPY_RADIUS),
            "share": f"{float(distances[k]):.0%}" if distances[k].isfinite() else "?",
            "training": _embed_image(training[nearest[k]], subject, small) if with_training else None,
        }
        for k in range(len(samples))
    ]


def walk(subject: Subject, side: int) -> list[dict[str, Any]]:
    """Return images on a walk between three latents, of the likeliest source if several were mined."""
    gan = pick_source(subject.gan, None)
    ends = gan.generator.latent.at(subject.job.seed, range(3))
    latents = [interpolate_latents(gan.generator, ends[k // 8], ends[k // 8 + 1], (k % 8) / 8) for k in range(WALK_STEPS)]
    label = torch.zeros(1, dtype=torch.long) if gan.generator.n_classes else None  # one class serves the whole walk
    return [_embed_image(image, subject, min(side, 160)) for image in gan.at(torch.stack(latents), label).cpu()]


def _embed_image(image: Tensor, subject: Subject, side: int) -> dict[str, Any]:
    """Embed an image (C, H, W), at the aspect ratio of the run's target images."""
    return embed(pictures.to_picture(image, subject.record["image"]["aspect"]), side)
