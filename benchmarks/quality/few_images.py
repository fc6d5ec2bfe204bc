"""Twenty-five images, on and off the source's manifold: every method with equal budgets, augmentation on and off, five seeds.

    python benchmarks/quality/few_images.py --data DATA

On: MNIST DCGAN to one digit (3, 7 or 9, by seed), LeNet features, measured on the last 500 or so unseen test images of it.
Off: CelebA DCGAN to the first 25 anime faces, CIFAR ResNet-20 features, measured on files 851 to 1,500.
KMMD with 25 generated against 25 unseen images, as in the paper's table (mean over 20 draws), and with 500; MV as the ratio to
the unseen images'.  Recipes were chosen on files 201 to 850, on the digits' first 500 test images, and on other seeds.
"""

import functools
import statistics
from typing import Any

import torch
from cells import CACHE, arguments, cell, spread, write

import regraft
from regraft.data import pictures
from regraft.evaluation.compare import compare, extractor
from regraft.extractors.classifier import class_logits
from regraft.metrics.kmmd import kmmd

SEEDS = range(100, 105)
DIGITS = {100: "3", 101: "7", 102: "9", 103: "3", 104: "7"}
IMAGES = 25
STEPS = 1000
MINING = 200
READING = """## Reading it

The paper's table, which is of source networks and images other than these, has more variety (MV) with BSA than with
TransferGAN, and more with MineGAN than with BSA. Off the manifold the first holds here; MineGAN has more than BSA as
long as it only mines, with augmentation. Fine-tuned on all 25 images it comes down to TransferGAN's. On the manifold
BSA is above TransferGAN, too, but because a seventh of its samples are other digits (last column), which vary more than
one digit does; MineGAN is below it and nearer to 1. A ratio over 1 is no virtue: the untouched source, with all ten
digits, has the highest.

KMMD differs by 3 % between the methods of the paper's table, of 25 images and without error bars. Here, at the same
25 images and with augmentation, MineGAN and mining alone are lower than TransferGAN and BSA off the manifold; BSA is
within a standard deviation of TransferGAN there, and on the manifold above what trains with augmentation, for its other
digits.

Augmentation matters more than the method: without it TransferGAN's and MineGAN's Fréchet distances off the manifold are
three times as large, and training on one digit can collapse. `statistics=target` normalises by the 25 latents, which
are all zero at the start; on digits it keeps making others. The training images replayed have the least KMMD of
all on 500 images, and a copy rate of 100 %.
"""

METHODS: dict[str, dict[str, Any]] = {
    "scratch": {"method": "scratch", "steps": STEPS},
    "TransferGAN": {"method": "transfergan", "steps": STEPS},
    "FreezeD": {"method": "freezed", "steps": STEPS},
    "BSA": {"method": "bsa", "steps": STEPS},
    "BSA, target statistics": {"method": "bsa", "steps": STEPS, "statistics": "target"},
    "MineGAN w/o FT": {"method": "minegan", "mining_steps": STEPS, "finetuning_steps": 0},
    "MineGAN": {"method": "minegan", "mining_steps": MINING, "finetuning_steps": STEPS - MINING},
    "untouched source": {"method": "untouched"},
}
WITHOUT_CRITIC = ("BSA", "BSA, target statistics", "untouched source")
"""Nothing to augment: one row each."""


def rows() -> list[tuple[str, str]]:
    """Methods with and without augmentation."""
    return [(name, a) for name in METHODS for a in (("-",) if name in WITHOUT_CRITIC else ("on", "off"))]


def scores(samples: torch.Tensor, unseen: torch.Tensor, training: torch.Tensor, features: Any, seed: int) -> dict[str, float]:
    """Fréchet distance, MV ratios, copies and KMMD on 500, and KMMD with as many images as the paper's table."""
    found = {
        s.name.split("[")[0]: s.value for s in compare(samples, unseen, training, features, seed=seed) if "pixel" not in s.name
    }
    fake, real = features(samples), features(unseen)
    small = []
    for draw in range(20):
        rng = torch.Generator().manual_seed(1000 * seed + draw)
        ours, theirs = (torch.randperm(len(x), generator=rng)[:IMAGES] for x in (fake, real))
        small.append(float(kmmd(real[theirs], fake[ours])[0]))
    return found | {"kmmd_25": statistics.mean(small)}


def run(options: Any, target: str, name: str, augment: str, seed: int) -> dict[str, float]:
    """One adaptation: ``target`` is a digit, or ``anime``."""
    weights = options.data / "weights"
    settings = METHODS[name] | ({"augment": []} if augment == "off" else {})
    # All 25 images train; the last generator counts, for every method alike.
    settings |= {"seed": seed, "write": False, "held_out": 0, "keep": "last"}
    if target == "anime":
        listed = regraft.open_images(options.data / "anime_faces_64.zip")
        made = regraft.adapt(listed.take(0, IMAGES), weights / "celeba32_dcgan_b_G.pth", **settings)
        decoded = listed.decode((32, 32), 3).tensor()
        training, unseen = decoded[:IMAGES], decoded[850:1500]
        file = weights / "cifar10_resnet20.safetensors"
    else:
        data = options.data / "mnist_28.npz"
        listed = regraft.open_images(f"{data}:x_train").only(target).take(0, IMAGES)
        made = regraft.adapt(listed, weights / "mnist_dcgan_G.pth", **settings)
        training = listed.decode((28, 28), 1).tensor()
        unseen = regraft.open_images(f"{data}:x_test").only(target).take(500, 1000).decode((28, 28), 1).tensor()
        file = weights / "mnist_classifier_lenet.pth"
    samples = made.gan.sample(1000, seed)
    result = scores(samples, unseen, training, extractor(f"classifier:{file}"), seed)
    if target != "anime":
        result["right"] = float((class_logits(file, samples).argmax(1) == int(target)).float().mean())
    picture = CACHE / "few_images" / f"{target}-{name}-{augment}-{seed}.png".replace("/", "")
    pictures.save_png(picture, pictures.grid(samples[:32]))
    return result


def replayed(options: Any, target: str) -> dict[str, float]:
    """The cheat that every table shows: the training images themselves as samples."""
    weights = options.data / "weights"
    if target == "anime":
        decoded = regraft.open_images(options.data / "anime_faces_64.zip").decode((32, 32), 3).tensor()
        training, unseen, file = decoded[:IMAGES], decoded[850:1500], weights / "cifar10_resnet20.safetensors"
    else:
        data = options.data / "mnist_28.npz"
        training = regraft.open_images(f"{data}:x_train").only(target).take(0, IMAGES).decode((28, 28), 1).tensor()
        unseen = regraft.open_images(f"{data}:x_test").only(target).take(500, 1000).decode((28, 28), 1).tensor()
        file = weights / "mnist_classifier_lenet.pth"
    return scores(training.repeat(40, 1, 1, 1), unseen, training, extractor(f"classifier:{file}"), 0)


def main() -> None:
    """Run all cells and write the tables."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {"off": {}, "on": {}}
    for kind, by_row in results.items():
        for name, augment in rows():
            for seed in SEEDS:
                target = "anime" if kind == "off" else DIGITS[seed]
                job = functools.partial(run, options, target, name, augment, seed)
                found = cell("few_images", f"{kind}-{name}-augmentation {augment}-{seed}".replace("/", ""), options, job)
                by_row.setdefault(f"{name} | {augment}", []).extend([found] if found else [])
        for target in ["anime"] if kind == "off" else sorted(set(DIGITS.values())):
            found = cell("few_images", f"{target}-replayed", options, functools.partial(replayed, options, target))
            by_row.setdefault("training images replayed | -", []).extend([found] if found else [])
    lines = [
        "# 25 images",
        "",
        f"Command: `python benchmarks/quality/few_images.py --data DATA`. Seeds 100 to 104, {STEPS} steps.",
        "",
    ]
    titles = {"on": "On-manifold: MNIST DCGAN to a digit (3, 7 or 9)", "off": "Off-manifold: CelebA DCGAN to anime faces"}
    for kind, title in titles.items():
        lines += [
            f"## {title}",
            "",
            "| method | augmentation | seeds | KMMD, n = 25 | KMMD | MV ratio | Fréchet | copies, % | LeNet agrees, % |",
        ]
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for label, found in results[kind].items():
            if not found:
                continue
            right = spread([100 * r["right"] for r in found if "right" in r])
            values = [_shown(found, key) for key in ("kmmd_25", "kmmd", "mv_ratio_feature", "frechet")]
            copied = spread([100 * r["copies"] for r in found])
            lines.append(f"| {label} | {len(found)} | {' | '.join(values)} | {copied} | {right} |")
        lines.append("")
    write("few_images", {"results": results}, "\n".join([*lines, READING]))


def _shown(found: list[dict[str, Any]], key: str) -> str:
    values = [r[key] for r in found]
    more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{more}"


if __name__ == "__main__":
    main()
