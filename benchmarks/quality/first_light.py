"""The main job on real weights: what `regraft adapt` does by default, against baselines, five seeds.

    python benchmarks/quality/first_light.py --data DATA

Digits: MNIST DCGAN, 25 images of one digit (3, 7, 9), mining alone for 1,000 steps; LeNet says what the samples are.
Anime: CelebA DCGAN to the first 25 and 100 anime faces; Fréchet distance of 1,000 samples, CIFAR ResNet-20 features, from files
851 to 1,500.  Recipes were chosen on files 201 to 850, on the digits' first 500 test images, and on other seeds.
"""

import functools
import pathlib
import shutil
from typing import Any

import torch
from cells import CACHE, arguments, cell, spread, write

import regraft
from regraft.data import pictures
from regraft.data.nearest import nearest_in_pixels
from regraft.evaluation.compare import compare, extractor
from regraft.extractors.classifier import class_logits

SEEDS = range(100, 105)
DIGITS = (3, 7, 9)
SIZES = (25, 100)
HERE = pathlib.Path(__file__).parent
DEFAULT = "regraft adapt (default)"
MINING = {"method": "minegan", "finetuning_steps": 0, "mining_steps": 1500}
METHODS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "TransferGAN, no augmentation": {"method": "transfergan", "augment": []},
    "scratch": {"method": "scratch"},
    "TransferGAN": {"method": "transfergan"},
    "untouched source": {"method": "untouched"},
    "MineGAN, first critic stage fixed": {"method": "minegan", "freeze": 1},
    "MineGAN": {"method": "minegan"},
    "mining alone, residual miner": MINING,
    "mining alone, mlp miner": MINING | {"miner": {"form": "mlp"}},
    "mining alone, affine miner": MINING | {"miner": {"form": "affine"}},
    "scratch, no augmentation": {"method": "scratch", "augment": []},
}


def digits(options: Any, digit: int, seed: int) -> dict[str, Any]:
    """Mine one digit."""
    weights, data = options.data / "weights", options.data / "mnist_28.npz"
    lenet = weights / "mnist_classifier_lenet.pth"
    target = regraft.open_images(f"{data}:x_train").only(str(digit)).take(0, 25)
    run = regraft.adapt(
        target, weights / "mnist_dcgan_G.pth", method="minegan", mining_steps=1000, finetuning_steps=0, seed=seed, write=False
    )
    samples = run.gan.sample(1000, seed)
    unseen = regraft.open_images(f"{data}:x_test").only(str(digit)).take(500, 1000).decode((28, 28), 1).tensor()
    scores = compare(samples, unseen, None, extractor(f"classifier:{lenet}"), ("frechet", "mean_variance"), seed)
    found = class_logits(lenet, samples).argmax(1)
    return {s.name: s.value for s in scores} | {"right": float((found == digit).float().mean()), "n_unseen": len(unseen)}


def anime(options: Any, n: int, seed: int, settings: dict[str, Any], picture: pathlib.Path | None) -> dict[str, Any]:
    """Adapt the CelebA DCGAN to n anime faces."""
    weights = options.data / "weights"
    listed = regraft.open_images(options.data / "anime_faces_64.zip")
    run = regraft.adapt(listed.take(0, n), weights / "celeba32_dcgan_b_G.pth", seed=seed, write=False, **settings)
    samples = run.gan.sample(1000, seed)
    decoded = listed.decode((32, 32), 3).tensor()
    training = decoded[:n]
    features = extractor(f"classifier:{weights / 'cifar10_resnet20.safetensors'}")
    scores = compare(samples, decoded[850:1500], training, features, seed=seed)
    if picture is not None:
        _picture(picture, samples[:48], training)
    return {s.name: s.value for s in scores} | {"step": run.step}


def replay(options: Any, n: int) -> dict[str, Any]:
    """The cheat that every table shows: the training images themselves as samples."""
    decoded = regraft.open_images(options.data / "anime_faces_64.zip").decode((32, 32), 3).tensor()
    features = extractor(f"classifier:{options.data / 'weights' / 'cifar10_resnet20.safetensors'}")
    fake = decoded[:n].repeat(1000 // n, 1, 1, 1)
    return {s.name: s.value for s in compare(fake, decoded[850:1500], decoded[:n], features)}


def _picture(path: pathlib.Path, samples: torch.Tensor, training: torch.Tensor) -> None:
    """Samples, each above its nearest training image; the latter at half resolution, because the data may not be passed on."""
    _, which = nearest_in_pixels(samples, training)
    near = torch.nn.functional.interpolate(training[which], size=(12, 12), mode="area")
    near = torch.nn.functional.interpolate(near, size=(32, 32), mode="nearest")
    rows = [part for k in range(0, len(samples), 16) for part in (samples[k : k + 16], near[k : k + 16])]
    pictures.save_png(path, pictures.grid(torch.cat(rows), columns=16))


def main() -> None:
    """Run all cells and write the tables."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    mined = {
        (d, s): cell("first_light", f"digit-{d}-{s}", options, functools.partial(digits, options, d, s))
        for d in DIGITS
        for s in SEEDS
    }
    faces: dict[str, dict[int, dict[int, Any]]] = {}
    for name, settings in METHODS.items():
        for n in SIZES:
            for seed in SEEDS:
                label = f"anime-{n}-{name}-{seed}"
                picture = CACHE / "first_light" / f"{n}-{seed}.png" if name == DEFAULT else None
                run = functools.partial(anime, options, n, seed, settings, picture)
                result = cell("first_light", label, options, run)
                faces.setdefault(name, {}).setdefault(n, {})[seed] = result
    cheat = {n: cell("first_light", f"replay-{n}", options, functools.partial(replay, options, n)) for n in SIZES}
    _write(mined, faces, cheat)


def _write(mined: dict[Any, Any], faces: dict[str, Any], cheat: dict[int, Any]) -> None:
    frechet, ratio = (
        "frechet[classifier:cifar10_resnet20.safetensors]",
        "mv_ratio_feature[classifier:cifar10_resnet20.safetensors]",
    )
    copies = "copies[classifier:cifar10_resnet20.safetensors]"
    lines = ["# First light", "", "Command: `python benchmarks/quality/first_light.py --data DATA`. Seeds 100 to 104.", ""]
    lines += [
        "## Digits: MNIST DCGAN, 25 images, mining alone, 1,000 steps",
        "",
        "| digit | LeNet agrees, % | worst seed, % | MV ratio |",
    ]
    lines.append("|---|---|---|---|")
    every = []
    for d in DIGITS:
        rows = [mined[d, s] for s in SEEDS if mined[d, s]]
        right = [100 * r["right"] for r in rows]
        every += right
        name = next((k for r in rows for k in r if k.startswith("mv_ratio_feature")), "")
        shown = f"| {d} | {spread(right)} | {min(right, default=0):.1f} | {spread([r[name] for r in rows])} |"
        lines.append(shown)
    lines += [f"| all | {spread(every)} | {min(every, default=0):.1f} | |", ""]
    for n in SIZES:
        lines += [f"## Anime: CelebA DCGAN, {n} images", ""]
        lines += ["| method | Fréchet | worst seed | MV ratio | copies in features, % | copies in pixels, % | seeds |"]
        lines.append("|---|---|---|---|---|---|---|")
        for name, sizes in faces.items():
            rows = [r for r in sizes[n].values() if r]
            if rows:
                values = [r[frechet] for r in rows]
                if name == DEFAULT:
                    ranked = sorted(SEEDS, key=lambda seed: sizes[n][seed][frechet] if sizes[n][seed] else 0)
                    for which, seed in {"best": ranked[0], "worst": ranked[-1]}.items():
                        shutil.copy(CACHE / "first_light" / f"{n}-{seed}.png", HERE / f"first_light-{n}-{which}.png")
                lines.append(
                    f"| {name} | {spread(values)} | {max(values):.2f} | {spread([r[ratio] for r in rows])} "
                    f"| {spread([100 * r[copies] for r in rows])} | {spread([100 * r['copies[pixels]'] for r in rows])} "
                    f"| {len(rows)} |"
                )
        if cheat[n]:
            lines.append(f"| training images replayed | {cheat[n][frechet]:.2f} | | {cheat[n][ratio]:.2f} | 100 | 100 | |")
        lines.append("")
    # Cells are computed side by side, so their times say nothing.
    for result in [*mined.values(), *(r for sizes in faces.values() for cells in sizes.values() for r in cells.values())]:
        if result:
            result.pop("seconds", None)
    record = {"digits": {f"{d}-{s}": r for (d, s), r in mined.items()}, "anime": faces, "replay": cheat}
    write("first_light", record, "\n".join(lines))


if __name__ == "__main__":
    main()
