"""What holds FreezeD in place with 25 images: ADA, elastic weight consolidation, correspondence; five seeds.

    python benchmarks/quality/stabilisers.py --data DATA

CelebA DCGAN to the first 25 anime faces, all of them trained on; the last generator, measured on files 851 to 1,500 with CIFAR
ResNet-20 features.  Weights were chosen on files 201 to 850 and on other seeds.
"""

import functools
from typing import Any

import torch
from cells import CACHE, arguments, cell, spread, write

import regraft
from regraft.data import pictures
from regraft.evaluation.compare import compare, extractor

SEEDS = range(100, 105)
IMAGES = 25
STEPS = 1500
FREEZED = {"method": "freezed", "steps": STEPS}
ROWS: dict[str, dict[str, Any]] = {
    "FreezeD, no augmentation": {"augment": []},
    "FreezeD": {},
    "FreezeD + ADA": {"augment_probability": "ada"},
    "FreezeD + EWC": {"regularizer": "ewc"},
    "FreezeD + CDC": {"regularizer": "cdc"},
    "FreezeD + EWC, no augmentation": {"augment": [], "regularizer": "ewc"},
    "FreezeD + CDC, no augmentation": {"augment": [], "regularizer": "cdc"},
}


def run(options: Any, name: str, seed: int) -> dict[str, Any]:
    """One adaptation."""
    weights = options.data / "weights"
    listed = regraft.open_images(options.data / "anime_faces_64.zip")
    seen: dict[str, Any] = {}

    def note(event: dict[str, Any]) -> None:
        for key in ("real_sign", "augment_probability"):
            if key in event:
                seen.setdefault(key, []).append(event[key])

    made = regraft.adapt(
        listed.take(0, IMAGES),
        weights / "celeba32_dcgan_b_G.pth",
        seed=seed,
        write=False,
        held_out=0,
        keep="last",
        on_event=note,
        **FREEZED,
        **ROWS[name],
    )
    samples = made.gan.sample(1000, seed)
    result = measured(options, samples, seed)
    # The last third of the run: once the probability has settled.
    result |= {key: sum(v[-len(v) // 3 :]) / len(v[-len(v) // 3 :]) for key, v in seen.items()}
    pictures.save_png(CACHE / "stabilisers" / f"{name}-{seed}.png", pictures.grid(samples[:32]))
    return result | {"digest": float(samples.double().sum())}


def measured(options: Any, samples: torch.Tensor | None, seed: int) -> dict[str, Any]:
    """Against unseen faces; without samples, the training images themselves."""
    decoded = regraft.open_images(options.data / "anime_faces_64.zip").decode((32, 32), 3).tensor()
    training, unseen = decoded[:IMAGES], decoded[850:1500]
    features = extractor(f"classifier:{options.data / 'weights' / 'cifar10_resnet20.safetensors'}")
    shown = training.repeat(40, 1, 1, 1) if samples is None else samples
    scores = compare(shown, unseen, training, features, seed=seed)
    return {s.name.split("[")[0]: s.value for s in scores if "pixel" not in s.name}


def main() -> None:
    """Run all cells and write the table."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in ROWS:
        for seed in SEEDS:
            found = cell("stabilisers", f"{name}-{seed}", options, functools.partial(run, options, name, seed))
            if found:
                results.setdefault(name, []).append(found)
    found = cell("stabilisers", "replayed", options, functools.partial(measured, options, None, 0))
    if found:
        results["training images replayed"] = [found]
    lines = [
        "# Stabilisers",
        "",
        f"Command: `python benchmarks/quality/stabilisers.py --data DATA`. Seeds 100 to 104, {STEPS} steps.  At weight 0 "
        "(probability 0) each is the base bit for bit (tests/regularizers).",
        "",
    ]
    lines += ["| method | Fréchet | KMMD | MV ratio | copies, % | sign of real scores | augmentation probability | minutes |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, found in results.items():
        shown = [spread([r[k] for r in found]) for k in ("frechet", "kmmd", "mv_ratio_feature")]
        shown.append(spread([100 * r["copies"] for r in found]))
        shown += [spread([r[k] for r in found if k in r]) for k in ("real_sign", "augment_probability")]
        shown.append(spread([r["seconds"] / 60 for r in found if name in ROWS]))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    write("stabilisers", {"results": results}, "\n".join(lines))


if __name__ == "__main__":
    main()
