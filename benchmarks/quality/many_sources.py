"""Mining several sources, and the classes of a conditional one, on sources whose right answers are known; five seeds.

    python benchmarks/quality/many_sources.py --data DATA

Shares: 200 digits, a share of them from 0 to 4, mined from the two bundled sources (0 to 4, 5 to 9), under both selector rules.
Critic: the same with share 0.3 and each critic by name, and a new one.
Near and far: digits, clothes, characters and colour faces as sources (small GANs are trained first), targets near two of them.
Classes: the bundled conditional source, unlabelled targets of one digit and of two.
Sparse: the share 0.3 with fine-tuning of the most important half of the filters, and of all.
Settings were chosen on seeds 0 to 9.
"""

import functools
import statistics
from typing import Any

import torch
from cells import CACHE, arguments, cell, spread, write

import regraft
from regraft.core.gan import GAN
from regraft.data.images import ImageSet
from regraft.evaluation.compare import compare, extractor
from regraft.extractors.classifier import class_logits

SEEDS = range(100, 105)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
BASE: dict[str, Any] = {"method": "minegan", "write": False, "held_out": 0, "evaluate_every": 0, "keep": "last", "flip": "off"}
PAIR: dict[str, Any] = {"mining_steps": 800, "finetuning_steps": 400}
FOUR: dict[str, Any] = {"mining_steps": 800, "finetuning_steps": 0}
CLASSES: dict[str, Any] = {"mining_steps": 800, "finetuning_steps": 2000}
TARGETS = {"digits and clothes": ("digits", "clothes"), "clothes and characters": ("clothes", "characters")}
TRAINED = {"digits": "mnist_28.npz", "clothes": "fashion_clothes_28.npz", "characters": "omniglot_small1_28.npz"}
WITHIN = {3: 0.3, 7: 0.7}


def mixed(options: Any, counts: dict[tuple[int, ...], int], seed: int, part: str = "x_train") -> ImageSet:
    """So many images of each group of digits, drawn at random, without labels."""
    listed = regraft.open_images(f"{options.data / 'mnist_28.npz'}:{part}")
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[Any] = []
    for digits, count in counts.items():
        of_group = [listed.items[k] for k in order if int(listed.classes[listed.items[k].label]) in digits]
        chosen += of_group[:count]
    return ImageSet(listed.where, tuple(chosen), ())


def histogram(options: Any, images: torch.Tensor) -> torch.Tensor:
    """Shares of the ten digits, by LeNet."""
    found = class_logits(options.data / "weights" / "mnist_classifier_lenet.pth", images).argmax(1)
    return torch.bincount(found, minlength=10) / len(found)


def two(options: Any, share: float, seed: int, **settings: Any) -> dict[str, Any]:
    """Mine both halves of the digits."""
    low, high = tuple(range(5)), tuple(range(5, 10))
    target = mixed(options, {low: round(200 * share), high: 200 - round(200 * share)}, seed)
    run = regraft.adapt(target, ["digits-low", "digits-high"], seed=seed, fit="pad", **(BASE | PAIR | settings))
    samples = run.gan.sample(1000, seed)
    shown = target.decode((32, 32), 1, "pad").tensor()
    found, wanted = histogram(options, samples), histogram(options, shown)
    unseen = mixed(options, {low: round(1000 * share), high: 1000 - round(1000 * share)}, seed, "x_test")
    features = extractor(f"classifier:{options.data / 'weights' / 'mnist_classifier_lenet.pth'}")
    measured = compare(samples, unseen.decode((32, 32), 1, "pad").tensor(), shown, features, seed=seed)
    scores = {score.name.partition("[")[0]: score.value for score in measured if "[pixels]" not in score.name}
    return scores | {
        "p": float(run.gan.generator.p[0]),
        "low": float(found[:5].sum()),
        "variation": float((found - wanted).abs().sum() / 2),
    }


def trained(options: Any, name: str) -> GAN:
    """A small GAN of one data set, trained once and kept beside the cells."""
    folder = CACHE / "sources" / name
    if not folder.exists():
        listed = regraft.open_images(f"{options.data / TRAINED[name]}{':x_train' if name != 'characters' else ''}")
        run = regraft.adapt(
            ImageSet(listed.where, listed.items[:25_000], ()),
            method="scratch",
            write=False,
            steps=6000,
            size=32,
            channels=1,
            fit="pad",
            flip="off",
            backbone_settings={"width": 24, "latent_dim": 64},
            augment=[],
            held_out=0,
            evaluate_every=0,
            keep="last",
        )
        regraft.convert(run.gan, folder)
    gan = regraft.load(folder)
    fresh = regraft.load("digits-low")
    return gan.trained_with(fresh.objective, fresh.recipe)


def four(options: Any, target: tuple[str, str], seed: int) -> dict[str, Any]:
    """Mine four sources for images near two of them."""
    sources = [trained(options, name) for name in TRAINED]
    sources.append(regraft.load(options.data / "weights" / "celeba32_dcgan_b_G.pth"))
    items: list[Any] = []
    for name in target:
        part = {"digits": ":x_test", "clothes": ":x_test", "characters": ""}[name]
        listed = regraft.open_images(f"{options.data / TRAINED[name]}{part}")
        order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(seed)).tolist()
        items += [listed.items[k] for k in order[:100]]
    run = regraft.adapt(ImageSet("two sets", tuple(items), ()), sources, seed=seed, fit="pad", **(BASE | FOUR))
    p = run.gan.generator.p.tolist()
    names = [*TRAINED, "faces"]
    return {f"p of {name}": share for name, share in zip(names, p, strict=True)} | {
        "near": sum(share for name, share in zip(names, p, strict=True) if name in target)
    }


def classes(options: Any, digits: dict[int, float], n: int, mode: str, seed: int) -> dict[str, Any]:
    """Mine classes of the conditional digit source."""
    target = mixed(options, {(d,): round(n * share) for d, share in digits.items()}, seed)
    run = regraft.adapt(target, "digits", seed=seed, fit="pad", miner={"classes": mode}, **(BASE | CLASSES))
    found = histogram(options, run.gan.sample(1000, seed))
    result = {f"share of {d}": float(found[d]) for d in digits}
    return result | {"right": sum(result.values())}


def main() -> None:
    """Run all cells and write the tables."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)

    def cells(name: str, function: Any, *given: Any, **settings: Any) -> list[dict[str, Any]]:
        made = (
            cell("many_sources", f"{name}-{seed}", options, functools.partial(function, options, *given, seed=seed, **settings))
            for seed in SEEDS
        )
        return [result for result in made if result]

    pairs = {
        (rule, share): cells(f"two-{rule}-{share}", two, share, selector={"rule": rule})
        for rule in ("matched", "published")
        for share in (SHARES if rule == "matched" else (0.1, 0.5, 0.9))
    }
    judges = {critic: cells(f"critic-{critic}", two, 0.3, critic=critic) for critic in (0, 1, "fresh")}
    # Without the setting it is the pair of the share 0.3 again.
    sparse = {None: pairs["matched", 0.3], 0.5: cells("sparse-0.5", two, 0.3, sparse=0.5)}
    near = {name: cells(f"four-{name}", four, pair) for name, pair in TARGETS.items()}
    mined = {
        (mode, what): cells(f"classes-{mode}-{what}", classes, digits, n, mode)
        for mode in ("onehot", "embedding")
        for what, digits, n in (("one digit", {7: 1.0}, 500), ("two digits", WITHIN, 200))
    }
    _write(pairs, judges, sparse, near, mined)


def _of(rows: list[dict[str, Any]], name: str) -> str:
    return spread([row[name] for row in rows])


def _write(pairs: Any, judges: Any, sparse: Any, near: Any, mined: Any) -> None:
    lines = ["# Several sources and classes", "", "Command: `python benchmarks/quality/many_sources.py --data DATA`. "]
    lines[-1] += "Seeds 100 to 104."
    for rule in ("matched", "published"):
        made = [len(rows) for (its, _), rows in pairs.items() if its == rule]
        if not any(made):
            continue
        lines += [
            "",
            f"## Two sources, selector rule `{rule}`, {min(made)} seeds",
            "",
            "| share of 0 to 4 | p | samples in 0 to 4 | total variation |",
        ]
        lines.append("|---|---|---|---|")
        gaps = []
        for share in SHARES:
            if (rule, share) not in pairs:
                continue
            rows = pairs[rule, share]
            gaps += [abs(row["p"] - share) for row in rows]
            lines.append(f"| {share} | {_of(rows, 'p')} | {_of(rows, 'low')} | {_of(rows, 'variation')} |")
        if gaps:
            lines += ["", f"Mean of |p - share|: {statistics.mean(gaps):.3f}."]
    lines += ["", "## Which critic, share 0.3", "", "| critic | p | total variation |", "|---|---|---|"]
    names = {0: "of 0 to 4", 1: "of 5 to 9", "fresh": "new"}
    lines += [f"| {names[c]} | {_of(rows, 'p')} | {_of(rows, 'variation')} |" for c, rows in judges.items()]
    lines += ["", "## Sparse fine-tuning, share 0.3", "", "| filters that move | p | total variation | Fréchet | copies, % |"]
    lines.append("|---|---|---|---|---|")
    for share, rows in sparse.items():
        copies = spread([100 * row["copies"] for row in rows])
        shown = "all" if share is None else f"{share:.0%}"
        lines.append(f"| {shown} | {_of(rows, 'p')} | {_of(rows, 'variation')} | {_of(rows, 'frechet')} | {copies} |")
    lines += [
        "",
        "## Four sources, two near",
        "",
        "| target | digits | clothes | characters | faces | near |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in near.items():
        shown = " | ".join(_of(rows, f"p of {source}") for source in [*TRAINED, "faces"])
        lines.append(f"| {name} | {shown} | {_of(rows, 'near')} |")
    lines += [
        "",
        "## Classes of a conditional source",
        "",
        "| mode | target | seeds | right, % | share of 3 | share of 7 |",
        "|---|---|---|---|---|---|",
    ]
    for (mode, what), rows in mined.items():
        right = spread([100 * row["right"] for row in rows])
        three = _of(rows, "share of 3") if what == "two digits" else ""
        lines.append(f"| {mode} | {what} | {len(rows)} | {right} | {three} | {_of(rows, 'share of 7')} |")
    record = {
        "two": {f"{rule} {share}": rows for (rule, share), rows in pairs.items()},
        "critic": judges,
        "sparse": sparse,
        "four": near,
        "classes": {f"{mode}, {what}": rows for (mode, what), rows in mined.items()},
    }
    write("many_sources", _named(record), "\n".join(lines))


def _named(record: Any) -> Any:
    return {str(k): _named(v) for k, v in record.items()} if isinstance(record, dict) else record


if __name__ == "__main__":
    main()
