"""The verb ``rank``: order sources by how near they are to target images, from samples or after a short mining."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import ConfigError, DataError, MissingCapability
from regraft.core.gan import GAN
from regraft.data import pictures
from regraft.data.images import ImageSet
from regraft.evaluation.compare import extractor
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import kernel_match
from regraft.verbs._arguments import Emit, ImagesArgument, Source, ignore_event, list_images, teller
from regraft.verbs.adapt import adapt
from regraft.verbs.load import load

MAX_SIDE = 64
"""Sources are compared at the side of the smallest of them, or at this one if it is smaller."""
MOST_IMAGES = 2000
SHOWN = 10
AT_ONCE = 64
"""Images that are decoded at a time."""


@dataclasses.dataclass(frozen=True)
class _Ranked:
    """One source, measured.

    Attributes:
        row: the facts that :func:`rank` returns.
        ratios: each target's distance to its nearest sample, relative to what is usual among targets, (N,).
        nearest: the samples nearest to the first targets, (n, 3, H, W).
    """

    row: dict[str, Any]
    ratios: Tensor
    nearest: Tensor


def rank(
    images: ImagesArgument,
    sources: Sequence[Source],
    *,
    n: int = 1000,
    probe: int = 0,
    seed: int = 0,
    extractor_name: str = "random_conv",
    out: str | pathlib.Path | None = None,
    on_event: Emit | None = None,
) -> list[dict[str, Any]]:
    """Order sources by how near they are to target images.

    Without a probe they are ordered by ``nearest``: each target's distance to its nearest sample, relative to its nearest other
    target; mining can reach such samples.  With a probe they are ordered by the Fréchet distance after that much mining, for
    the kernel discrepancy is nearly the same for all sources that are far.

    Args:
        images: target images; of more than 2,000 that many are drawn.
        sources: at least two GANs: loaded, or files, folders, cards, runs or names of bundled sources.
        n: samples per source.
        probe: steps of mining to try on each source; 0 for none.
        seed: seed of the samples, of the probe and of the images drawn.
        extractor_name: extractor whose features all sources are compared in.
        out: a ``.png`` to write, with some targets and, for each source, the sample nearest to each of them.
        on_event: called with a note on each source as it is measured.

    Returns:
        One row per source, nearest first: ``source``, ``distance`` (kernel discrepancy), ``frechet``, ``nearest``,
        ``coverage`` (share of targets that have a sample as near as another target), ``probe`` (the Fréchet distance after
        mining) and ``probe_steps``, ``rank``, and ``tied``: whether ``nearest`` differs from the first row's by less than
        two standard errors over the targets, so that other images of the kind could reverse the two; None with a probe.

    Raises:
        ConfigError: if there are fewer than two sources, or ``out`` exists.
        DataError: if there are fewer than four images.
    """
    emit = on_event or ignore_event
    path = None if out is None else pathlib.Path(out)
    if path is not None and (path.suffix.lower() != ".png" or path.exists()):
        raise ConfigError(f"{path}: {'exists, and nothing is overwritten' if path.exists() else 'the picture is a .png'}")
    if len(sources) < 2:
        raise ConfigError(f"rank compares sources, and {len(sources)} was given; name at least two with --source")
    gans = [s if isinstance(s, GAN) else load(s) for s in sources]
    names = _number_repeats([s.provenance.name if isinstance(s, GAN) else str(s) for s in sources])
    listed = list_images(images, teller(emit)).without_labels().some(MOST_IMAGES, seed).measured()
    side = min(MAX_SIDE, *(min(g.generator.size) for g in gans))
    if len(listed) < 4:
        raise DataError(f"{listed.where}: {len(listed)} images; at least 4 are needed to rank sources")
    features = extractor(extractor_name)
    # Resizing leaves marks in the features, so the targets are resized by way of each source's own size, as its samples are.
    sizes = {gan.generator.size for gan in gans}
    targets = {size: features(_decode_by_way_of(size, listed, side)) for size in sizes}
    samples = []
    for name, gan in zip(names, gans, strict=True):
        emit({"event": "note", "text": f"sampling {name}"})
        samples.append(common(gan.sample(n, seed).cpu(), side))
    sampled = [features(s) for s in samples]
    # Features differ in size by orders of magnitude; unscaled, overall brightness would decide.
    scale = torch.cat([*targets.values(), *sampled]).std(0).clamp_min(1e-6)
    ranked = []
    for name, gan, sample_images, sample_features in zip(names, gans, samples, sampled, strict=True):
        target = targets[gan.generator.size] / scale
        row, ratios, nearest = measured(target, sample_features / scale)
        row |= {"source": name, "probe": None, "probe_steps": probe}
        if probe:
            emit({"event": "note", "text": f"mining {name} for {probe} steps"})
            row["probe"] = probed(listed, gan, target, lambda x: features(x) / scale, side, n, probe, seed)
        ranked.append(_Ranked(row, ratios, sample_images[nearest[:SHOWN]]))
    ranked.sort(key=lambda source: _sort_key(source.row, probe))
    if path is not None:
        shown = listed.take(0, SHOWN).decode((side, side), 3).tensor()
        pictures.save_png(path, pictures.grid(torch.cat([shown, *(s.nearest for s in ranked)]), columns=len(shown)))
    first = ranked[0].ratios
    return [
        s.row | {"rank": place + 1, "tied": None if probe else place > 0 and tied(s.ratios - first)}
        for place, s in enumerate(ranked)
    ]


def tied(differences: Tensor) -> bool:
    """Return whether the mean of differences (N,) is within two standard errors of zero."""
    return bool(differences.mean().abs() <= 2 * differences.std() / len(differences) ** 0.5)


def measured(target: Tensor, samples: Tensor) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Measure one source: kernel and Fréchet distance, and each target's distance to its nearest sample.

    Args:
        target: features, (N, D).
        samples: features, (M, D).

    Returns:
        ``nearest``, ``coverage``, ``distance`` and ``frechet`` of :func:`rank`; each target's distance to its nearest sample,
        relative to the mean distance of targets to their nearest other one, (N,); and the indices of these samples, (N,).
    """
    to_samples = torch.cdist(target.double(), samples.double())
    to_others = torch.cdist(target.double(), target.double()).fill_diagonal_(float("inf"))
    near, nearest = to_samples.min(1)
    usual = to_others.min(1).values
    ratios = near / usual.mean().clamp_min(1e-9)
    return (
        {
            "nearest": float(ratios.mean()),
            "coverage": float((near <= usual).double().mean()),
            "distance": kernel_match(target, samples).value,
            "frechet": float(frechet_distance(target, samples)),
        },
        ratios,
        nearest,
    )


def _decode_by_way_of(size: tuple[int, int], listed: ImageSet, side: int) -> Tensor:
    """Decode images at a size, a few at a time for it may be large, and shrink them to a common side."""
    parts = (listed.take(k, k + AT_ONCE) for k in range(0, len(listed), AT_ONCE))
    return torch.cat([common(part.decode(size, 3).tensor(), side) for part in parts])


def probed(
    listed: ImageSet, gan: GAN, target: Tensor, features: Callable[[Tensor], Tensor], side: int, n: int, steps: int, seed: int
) -> float | None:
    """Return the Fréchet distance after a short mining run, or None if the source cannot be mined."""
    try:
        run = adapt(
            listed,
            gan,
            method="minegan",
            mining_steps=steps,
            finetuning_steps=0,
            seed=seed,
            held_out=0,
            evaluate_every=0,
            write=False,
        )
    except MissingCapability:
        return None
    return float(frechet_distance(target, features(common(run.gan.sample(n, seed).cpu(), side))))


def common(images: Tensor, side: int) -> Tensor:
    """Resize images to a square of ``side`` pixels and three channels."""
    images = images.clamp(-1, 1)
    if images.shape[2:] != (side, side):
        images = torch.nn.functional.interpolate(images, size=(side, side), mode="area")
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _sort_key(row: dict[str, Any], probe: int) -> float:
    if probe:
        return float("inf") if row["probe"] is None else float(row["probe"])
    return float(row["nearest"])


def _number_repeats(names: list[str]) -> list[str]:
    """Return names, with a number behind those that come twice."""
    return [name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})" for k, name in enumerate(names)]
