"""Which of several sources is nearest to target images: by their random samples, and by a short mining probe."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import ConfigError, DataError, MissingCapability
from regraft.core.gan import GAN
from regraft.data import pictures
from regraft.data.images import ImageSet
from regraft.data.opening import open_images
from regraft.evaluation.compare import extractor
from regraft.metrics.frechet import frechet_distance
from regraft.metrics.kmmd import kernel_match
from regraft.verbs._arguments import Source
from regraft.verbs.adapt import adapt
from regraft.verbs.load import load

SIDE = 64  # at most; sources of different sizes are compared at the smallest of them
MOST_IMAGES = 2000
SHOWN = 10
AT_ONCE = 64


def rank(
    images: str | pathlib.Path | ImageSet,
    sources: Sequence[Source],
    *,
    n: int = 1000,
    probe: int = 0,
    seed: int = 0,
    extractor_name: str = "random_conv",
    out: str | pathlib.Path | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Order sources by how near they are to target images.

    Without a probe the order is that of ``nearest``: how far the sample nearest to a target is, against how far the nearest
    other target is; mining can reach such samples.  With one, it is the Fréchet distance after that much mining (the
    kernel discrepancy is nearly the same for all sources that are far).

    Args:
        images: target images; of more than 2,000 that many are drawn.
        sources: at least two GANs: loaded, or files, folders, cards, runs or names of bundled sources.
        n: samples per source.
        probe: steps of mining to try on each source; 0 for none.
        seed: of the samples, the probe and the images drawn.
        extractor_name: features that all sources are compared in.
        out: a ``.png`` with some targets and, per source, the sample nearest to each.
        on_event: told what is being done.

    Returns:
        One row per source, nearest first: ``source``, ``distance`` (kernel discrepancy), ``frechet``, ``nearest``,
        ``coverage`` (share of targets that have a sample as near as another target), ``probe`` with its steps, and
        ``tied``: without a probe, whether ``nearest`` differs from the first row's by less than two standard errors over
        the targets, so that other images of the kind may well order the two the other way round (None with a probe).

    Raises:
        ConfigError: if there are fewer than two sources, or ``out`` exists.
        DataError: if there are fewer than four images.
    """
    emit = on_event or (lambda event: None)
    path = None if out is None else pathlib.Path(out)
    if path is not None and (path.suffix.lower() != ".png" or path.exists()):
        raise ConfigError(f"{path}: {'exists, and nothing is overwritten' if path.exists() else 'the picture is a .png'}")
    if len(sources) < 2:
        raise ConfigError(f"rank compares sources, and {len(sources)} was given; name at least two with --source")
    gans = [s if isinstance(s, GAN) else load(s) for s in sources]
    names = _distinct([s.provenance.name if isinstance(s, GAN) else str(s) for s in sources])
    listed = images if isinstance(images, ImageSet) else open_images(images)
    listed = listed.without_labels().some(MOST_IMAGES, seed)
    side = min(SIDE, *(min(g.generator.size) for g in gans))
    if len(listed) < 4:
        raise DataError(f"{listed.where}: {len(listed)} images; at least 4 are needed to rank sources")
    features = extractor(extractor_name)
    # Resizing leaves marks that features see, so the target goes the way of each source's samples: by the source's own size.
    sizes = {gan.generator.size for gan in gans}
    targets = {size: features(_by_way_of(size, listed, side)) for size in sizes}
    samples = []
    for name, gan in zip(names, gans, strict=True):
        emit({"event": "note", "text": f"sampling {name}"})
        samples.append(common(gan.sample(n, seed).cpu(), side))
    made = [features(s) for s in samples]
    # Features differ in size by orders of magnitude; unscaled, overall brightness would decide.
    scale = torch.cat([*targets.values(), *made]).std(0).clamp_min(1e-6)
    rows, nearest, aparts = [], [], []
    for name, gan, images_of, found in zip(names, gans, samples, made, strict=True):
        wanted = targets[gan.generator.size] / scale
        row, apart, which = measured(wanted, found / scale)
        nearest.append(images_of[which[:SHOWN]])
        aparts.append(apart)
        row |= {"source": name, "probe": None, "probe_steps": probe}
        if probe:
            emit({"event": "note", "text": f"mining {name} for {probe} steps"})
            row["probe"] = probed(listed, gan, wanted, lambda x: features(x) / scale, side, n, probe, seed)
        rows.append(row)
    order = sorted(range(len(rows)), key=lambda k: _standing(rows[k], probe))
    if path is not None:
        target = listed.take(0, SHOWN).decode((side, side), 3).tensor()
        pictures.save_png(path, pictures.grid(torch.cat([target, *(nearest[k] for k in order)]), columns=len(target)))
    return [
        rows[k] | {"rank": place + 1, "tied": None if probe else place > 0 and tied(aparts[k] - aparts[order[0]])}
        for place, k in enumerate(order)
    ]


def tied(differences: Tensor) -> bool:
    """Whether the mean of differences (N,) is within two standard errors of zero."""
    return bool(differences.mean().abs() <= 2 * differences.std() / len(differences) ** 0.5)


def measured(target: Tensor, samples: Tensor) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Distances of one source's samples from the targets, each target's from its nearest sample over what is usual
    among targets, and which sample that is.

    Args:
        target: features, (N, D).
        samples: features, (M, D).
    """
    apart = torch.cdist(target.double(), samples.double())
    among = torch.cdist(target.double(), target.double()).fill_diagonal_(float("inf"))
    near, which = apart.min(1)
    usual = among.min(1).values
    ratios = near / usual.mean().clamp_min(1e-9)
    return (
        {
            "nearest": float(ratios.mean()),
            "coverage": float((near <= usual).double().mean()),
            "distance": kernel_match(target, samples).value,
            "frechet": float(frechet_distance(target, samples)),
        },
        ratios,
        which,
    )


def _by_way_of(size: tuple[int, int], listed: ImageSet, side: int) -> Tensor:
    """Images at a common side, decoded at another size first; a few at a time, for that size may be large."""
    parts = (listed.take(k, k + AT_ONCE) for k in range(0, len(listed), AT_ONCE))
    return torch.cat([common(part.decode(size, 3).tensor(), side) for part in parts])


def probed(
    listed: ImageSet, gan: GAN, target: Tensor, features: Callable[[Tensor], Tensor], side: int, n: int, steps: int, seed: int
) -> float | None:
    """Fréchet distance after a short mining run, or None where the source cannot be mined."""
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
    """Images brought to a square of ``side`` and three channels."""
    images = images.clamp(-1, 1)
    if images.shape[2:] != (side, side):
        images = torch.nn.functional.interpolate(images, size=(side, side), mode="area")
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _standing(row: dict[str, Any], probe: int) -> float:
    if probe:
        return float("inf") if row["probe"] is None else float(row["probe"])
    return float(row["nearest"])


def _distinct(names: list[str]) -> list[str]:
    """Names, with a number where one comes twice."""
    return [name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})" for k, name in enumerate(names)]
