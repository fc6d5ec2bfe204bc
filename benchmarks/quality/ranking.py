"""Does `regraft rank` name the source that full runs do best with?  Twelve source-target pairs: three sources, four targets.

    python benchmarks/quality/ranking.py --data DATA

Sources are ranked for 25 images of each target, without training and with a probe of 200 mining steps; then the default method
is run on every source in full.  Runs are judged by the kernel discrepancy of their samples from 200 other images, in features
that the ranking does not use (CIFAR ResNet-20).  Sources are of 28 and 32 pixels, and resizing leaves marks that a judge sees;
judged at 28 or 32 they decided the order.  So samples and real images go the same way, by the source's side to 16.  The order
must correlate with the runs' (Spearman, mean over targets, at least 0.6), and the first choice must be within 20 % of the best
source's result.
"""

import functools
import statistics
from typing import Any

import torch
from cells import CACHE, arguments, cell, write
from safetensors.torch import load_file, save_file

import regraft
from regraft.data.images import ImageSet
from regraft.evaluation.compare import extractor
from regraft.metrics.kmmd import kmmd
from regraft.verbs.rank import common

SOURCES = {
    "MNIST DCGAN": "mnist_dcgan_G.pth",
    "CelebA DCGAN a": "celeba32_dcgan_a_G.pth",
    "CelebA DCGAN b": "celeba32_dcgan_b_G.pth",
}
TARGETS = {
    "anime faces": "anime_faces_64.zip",
    "clothes": "fashion_clothes_28.npz:x_train",
    "characters": "omniglot_small1_28.npz",
    "sketches": "face_sketch_128.zip",
}
N, UNSEEN, PROBE, SEEDS = 25, 200, 200, (0, 1)
SIDES = (16, 28)
"""The first counts; at the second, the smallest source's own, marks of resizing still tell."""


def target(options: Any, name: str) -> tuple[ImageSet, ImageSet]:
    """Images to adapt to, and others to judge with; drawn over the whole set, whose order may be by class."""
    listed = regraft.open_images(options.data / TARGETS[name]).without_labels()
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(0)).tolist()
    items = tuple(listed.items[k] for k in order)
    mixed = ImageSet(listed.where, items)
    return mixed.take(0, N), mixed.take(N, min(N + UNSEEN, len(items)))


def ranked(options: Any, name: str, probe: int) -> dict[str, Any]:
    """The ranking of all sources."""
    images, _ = target(options, name)
    rows = regraft.rank(images, [options.data / "weights" / file for file in SOURCES.values()], probe=probe)
    label = {str(options.data / "weights" / file): source for source, file in SOURCES.items()}
    return {label[row["source"]]: row["rank"] for row in rows}


def full(options: Any, name: str, source: str, seed: int) -> dict[str, Any]:
    """A full run's distance from unseen images; its samples are kept, so that another judge could be asked."""
    images, unseen = target(options, name)
    path = CACHE / "ranking" / f"{name}-{source}-{seed}.safetensors"
    if not path.exists():
        run = regraft.adapt(images, options.data / "weights" / SOURCES[source], seed=seed, write=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"samples": run.gan.sample(1000, seed).cpu().contiguous()}, path)
    samples = load_file(path)["samples"]
    features = extractor(f"classifier:{options.data / 'weights' / 'cifar10_resnet20.safetensors'}")
    side = (samples.shape[2], samples.shape[3])
    found = {}
    for judged in SIDES:
        real, fake = (features(shrunk(x, judged)) for x in (unseen.decode(side, 3).tensor(), samples))
        found[str(judged)] = float(kmmd(real, fake[: len(real)])[0])
    return found


def shrunk(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images by a side that is no larger than any source's, at the size that the judge was trained with."""
    return torch.nn.functional.interpolate(common(images, side), size=(32, 32), mode="bilinear")


def spearman(a: list[float], b: list[float]) -> float:
    """Rank correlation of lists without ties."""
    ranks = [[sorted(v).index(x) for x in v] for v in (a, b)]
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(*ranks, strict=True)) / (n * (n * n - 1))


def main() -> None:
    """Run and write."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    orders = {
        (kind, name): cell(
            "ranking", f"{kind}-{name}".replace(" ", "_"), options, functools.partial(ranked, options, name, steps)
        )
        for name in TARGETS
        for kind, steps in (("rank", 0), ("probe", PROBE))
    }
    runs = {
        (name, source, seed): cell(
            "ranking",
            f"full-{name}-{source}-{seed}".replace(" ", "_"),
            options,
            functools.partial(full, options, name, source, seed),
        )
        for name in TARGETS
        for source in SOURCES
        for seed in SEEDS
    }
    lines = ["# Ranking of sources against full runs", "", "Command: `python benchmarks/quality/ranking.py --data DATA`."]
    record: dict[str, Any] = {}
    for side in SIDES:
        made, record[str(side)] = judged_at(side, orders, runs)
        lines += ["", f"## Judged at {side}x{side}", "", *made]
    write("ranking", record, "\n".join(lines))


def judged_at(side: int, orders: dict[Any, Any], runs: dict[Any, Any]) -> tuple[list[str], dict[str, Any]]:
    """Table and figures with full runs judged at one side."""
    lines = ["| target | seeds | full runs (distance, mean of seeds) | rank | rank with probe |", "|---|---|---|---|---|"]
    correlations: dict[str, list[float]] = {"rank": [], "probe": []}
    behind: dict[str, list[float]] = {"rank": [], "probe": []}
    for name in TARGETS:
        seeds = [seed for seed in SEEDS if all(runs[name, source, seed] for source in SOURCES)]
        if not seeds or not orders["rank", name] or not orders["probe", name]:
            continue
        results = {s: statistics.mean(runs[name, s, seed][str(side)] for seed in seeds) for s in SOURCES}
        shown = []
        for kind in correlations:
            order = orders[kind, name]
            correlations[kind].append(spearman([order[s] for s in SOURCES], [results[s] for s in SOURCES]))
            first = min(SOURCES, key=lambda s: order[s])
            behind[kind].append(results[first] / min(results.values()) - 1)
            shown.append(f"{first} (+{behind[kind][-1]:.0%})")
        told = ", ".join(f"{s} {v:.3f}" for s, v in sorted(results.items(), key=lambda x: x[1]))
        lines.append(f"| {name} | {len(seeds)} | {told} | {shown[0]} | {shown[1]} |")
    lines.append("")
    lines += [
        f"- {kind}: mean rank correlation {statistics.mean(v):.2f}, first choice at most {max(behind[kind]):.0%} behind"
        for kind, v in correlations.items()
        if v
    ]
    return lines, {"correlations": correlations, "behind": behind}


if __name__ == "__main__":
    main()
