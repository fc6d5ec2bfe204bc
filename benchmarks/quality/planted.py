"""Planted failures: does the verdict call them by name, and does it leave real images alone?

    python benchmarks/quality/planted.py --data DATA

Image-level plants on three targets (25 anime faces, 25 MNIST digits of one class, 25 of all classes) and twenty seeds: training
images handed back (as they are; with noise, shifts and mirroring), three images repeated (training images; unseen ones with
noise), real unseen images.  Overfitting is real: TransferGAN without augmentation on the MNIST DCGAN, 25 images of one digit,
400 steps, the last generator kept; and the same with the best one kept, which must raise no alarm of copying or collapse.
"""

import collections
import functools
import json
import pathlib
import tempfile
from typing import Any

import torch
from cells import arguments, cell, write

import regraft
from regraft.evaluation.verdict import judge

SEEDS = range(20)
N = 25
PLANTS = {
    "training images replayed": "copying",
    "replayed, noisy, shifted, mirrored": "copying",
    "three training images": "collapsed",
    "three unseen images, noisy": "collapsed",
    "real unseen images": "no alarm",
}
ALARMS = {"copying", "collapsed", "overfitting"}


@functools.cache
def pool(data: pathlib.Path, target: str) -> torch.Tensor:
    """All images of a target."""
    if target == "anime faces":
        return regraft.open_images(data / "anime_faces_64.zip").decode((32, 32), 3).tensor()
    digits = regraft.open_images(f"{data / 'mnist_28.npz'}:x_train")
    digits = digits.only("3") if target == "one digit" else digits.without_labels()
    return digits.take(0, 1500).decode((28, 28), 1).tensor()


def planted(options: Any, target: str, plant: str, seed: int) -> dict[str, Any]:
    """One plant."""
    images = pool(options.data, target)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=rng)
    training, held, unseen = images[order[:20]], images[order[20:25]], images[order[25:525]]
    repeated = training[torch.randint(len(training), (500,), generator=rng)]
    noise = 0.05 * torch.randn(repeated.shape, generator=rng)
    if plant == "training images replayed":
        samples = repeated
    elif plant == "replayed, noisy, shifted, mirrored":
        moved = torch.roll(repeated, (1, -1), (2, 3))
        flips = torch.rand(500, 1, 1, 1, generator=rng) < 0.5
        samples = torch.where(flips, moved.flip(3), moved) + noise
    elif plant == "three training images":
        samples = training[torch.randint(3, (500,), generator=rng)]
    elif plant == "three unseen images, noisy":
        samples = unseen[torch.randint(3, (500,), generator=rng)] + noise
    else:
        samples = unseen
    verdict = judge(samples, training, held, seed=seed)
    return {"word": verdict.word} | {f.name: f.value for f in verdict.findings}


def overfitted(options: Any, seed: int, keep: str) -> dict[str, Any]:
    """A real run without augmentation, much too long."""
    target = regraft.open_images(f"{options.data / 'mnist_28.npz'}:x_train").only(str(seed % 10))
    start = N * (seed // 10)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        run = regraft.adapt(
            target.take(start, start + N),
            options.data / "weights" / "mnist_dcgan_G.pth",
            method="transfergan",
            augment=[],
            steps=400,
            evaluate_every=50,
            patience=0,
            keep=keep,
            seed=seed,
            out=out,
        )
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        verdict = json.loads((out / "verdict.json").read_text())
    course = [line["held_out"] | {"step": line["step"]} for line in lines if "held_out" in line]
    return {"word": verdict["word"], "step": run.step, "course": course} | {f["name"]: f["value"] for f in verdict["findings"]}


def main() -> None:
    """Run and write."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    wanted: dict[str, str] = {}
    for target in ("anime faces", "one digit", "all digits"):
        for plant, word in PLANTS.items():
            for seed in SEEDS:
                run = functools.partial(planted, options, target, plant, seed)
                found = cell("planted", f"{target}-{plant}-{seed}".replace(" ", "_"), options, run)
                if found:
                    rows[f"{target}: {plant}"][found["word"]] += 1
                    wanted[f"{target}: {plant}"] = word
    for keep, word in (("last", "overfitting"), ("best", "no alarm")):
        for seed in SEEDS:
            found = cell("planted", f"overfitted-{keep}-{seed}", options, functools.partial(overfitted, options, seed, keep))
            if found:
                rows[f"MNIST DCGAN without augmentation, {keep} step kept"][found["word"]] += 1
                wanted[f"MNIST DCGAN without augmentation, {keep} step kept"] = word
    right = {
        name: sum(
            n for word, n in counts.items() if (word not in ALARMS if wanted[name] == "no alarm" else word == wanted[name])
        )
        for name, counts in rows.items()
    }
    lines = ["| planted | should be called | was | right |", "|---|---|---|---|"]
    for name, counts in rows.items():
        said = ", ".join(f"{word} {n}" for word, n in counts.most_common())
        lines.append(f"| {name} | {wanted[name]} | {said} | {right[name]} of {sum(counts.values())} |")
    record = {"rows": {k: dict(v) for k, v in rows.items()}, "right": right, "seeds": len(SEEDS)}
    write("planted", record, "# Planted failures\n\n" + "\n".join(lines) + "\n\n" + (__doc__ or "").split("\n\n", 2)[2])


if __name__ == "__main__":
    main()
