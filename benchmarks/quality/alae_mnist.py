"""A StyleALAE trained on MNIST at 32x32: are its samples digits, do reconstructions keep the digit, are codes found again?

    python benchmarks/quality/alae_mnist.py --data DATA --threads 1

The recipe below is what `regraft pretrain mnist --backbone alae --size 32 --channels 1` does with these settings; training
stops and goes on.  Judge: LeNet trained on MNIST by others, on 8,000 test images; settings were chosen on the first 2,000.
The folder is the source of mind2mind.py's tier "alae".
"""

import functools
import json
import pathlib
import time
from typing import Any

import torch
from cells import CACHE, arguments, cell, write

import regraft
from regraft.data import pictures
from regraft.extractors.classifier import class_logits
from regraft.verbs import diagnose
from regraft.verbs.pretrain import pretrain

RECIPE: dict[str, Any] = {
    "backbone": "alae",
    "size": 32,
    "channels": 1,
    "batch": 32,
    "flip": "off",
    "fit": "pad",
    "seed": 0,
    "level_steps": [2666, 2666, 2666, 22002],
    "transition": 4001,
    "encoder_steps": 4000,
    "objective": {"penalty_weight": 0.1},
    "mixing": 0.0,
    "backbone_settings": {"latent_dim": 32, "width": 16, "max_width": 128, "mapping_layers": 4},
}
FOLDER = CACHE / "mind2mind" / "sources" / "alae"
KNOWN = 0.9  # probability from which LeNet is said to know a digit


def train(options: Any) -> dict[str, Any]:
    """Train, or go on."""
    clock = FOLDER.with_suffix(".seconds")
    before = float(clock.read_text()) if clock.is_file() else 0.0
    started = time.perf_counter()
    try:
        if (FOLDER / "config.yaml").is_file() and not (FOLDER / "source.json").is_file():
            pretrain(out=FOLDER, resume=True, on_event=_said)
        elif not (FOLDER / "source.json").is_file():
            pretrain(f"{options.data / 'mnist_28.npz'}:x_train", out=FOLDER, device="cpu", on_event=_said, **RECIPE)
    finally:
        clock.parent.mkdir(parents=True, exist_ok=True)
        clock.write_text(str(before + time.perf_counter() - started))
    (FOLDER / "seconds.json").write_text(json.dumps(float(clock.read_text())))
    return {"pretraining_seconds": float(clock.read_text())}


def _said(event: dict[str, Any]) -> None:
    if event["event"] == "step" and event["step"] % 500 == 0:
        print(
            {k: event[k] for k in ("step", "phase", "critic_loss", "generator_loss", "reciprocity") if k in event}, flush=True
        )


def judge(options: Any) -> dict[str, Any]:
    """Samples, reconstructions and round trips."""
    gan, lenet = regraft.load(FOLDER), options.data / "weights" / "mnist_classifier_lenet.pth"
    test = regraft.open_images(f"{options.data / 'mnist_28.npz'}:x_test").take(2000, 10_000).decode((32, 32), 1, fit="pad")
    images = test.tensor()
    samples = gan.sample(2000, 0)
    with torch.no_grad():
        autoencoder = gan.require("autoencoder", "this benchmark")
        again = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(64)]).clamp(-1, 1)
        # The critic's encoder is as the game left it.
        played = gan.require("critic", "this benchmark").encoder
        before = torch.cat([autoencoder.decode(played(part)) for part in images.split(64)]).clamp(-1, 1)
    sure = class_logits(lenet, samples).softmax(1)
    kept = class_logits(lenet, again).argmax(1) == test.labels
    kept_by_lenet = class_logits(lenet, again).argmax(1) == class_logits(lenet, images).argmax(1)
    real = class_logits(lenet, images).softmax(1).max(1).values
    facts = diagnose.diagnose(gan, f"{options.data / 'mnist_28.npz'}:x_test", n=512)
    pictures.save_png(pathlib.Path(__file__).parent / "alae_mnist-samples.png", pictures.grid(samples[:64]))
    return {
        "samples_known": float((sure.max(1).values > KNOWN).float().mean()),
        "test_images_known": float((real > KNOWN).float().mean()),
        "classes": int((sure.argmax(1).bincount(minlength=10) > 20).sum()),
        "digit_kept_before": float((class_logits(lenet, before).argmax(1) == test.labels).float().mean()),
        "digit_kept": float(kept.float().mean()),
        "test_images": len(kept),
        "digit_kept_by_lenet": float(kept_by_lenet.float().mean()),
        "latent_correlation": facts["latent_correlation_generated"],
    }


def main() -> None:
    """Train, judge, write."""
    options = arguments(__doc__)
    torch.set_num_threads(options.threads)
    trained = cell("alae_mnist", "train", options, functools.partial(train, options))
    judged = cell("alae_mnist", "judge", options, functools.partial(judge, options)) if trained else None
    if not judged or not trained:
        return
    kept = judged["digit_kept"]
    error = 1.96 * (kept * (1 - kept) / judged["test_images"]) ** 0.5
    lines = [
        "# StyleALAE on MNIST, 32x32",
        "",
        f"Command: `python benchmarks/quality/alae_mnist.py --data DATA --threads {options.threads}`, "
        f"{sum(RECIPE['level_steps']):,} steps of {RECIPE['batch']} images, {RECIPE['encoder_steps']:,} more for the encoder; "
        "one seed. The steps were added in parts (16,000, 26,000 and 30,000, then the encoder's, begun where the game had "
        "ended), which is the same training: tests compare lengthened and resumed runs with unbroken ones bit for bit.",
        "",
        "![samples](alae_mnist-samples.png)",
        "",
        "| measure | value | wanted |",
        "|---|---|---|",
        f"| samples that LeNet knows (p > {KNOWN}), % | {100 * judged['samples_known']:.1f} | |",
        f"| test images that LeNet knows, % | {100 * judged['test_images_known']:.1f} | |",
        f"| digits among the samples (over 1 %) | {judged['classes']} | 10 |",
        f"| reconstructions that keep the digit, % (95 % interval) | {100 * kept:.1f} ± {100 * error:.1f} | 90 |",
        f"| the same by the encoder as the game left it, % | {100 * judged['digit_kept_before']:.1f} | |",
        f"| latent round trip, correlation | {judged['latent_correlation']:.3f} | 0.9 |",
        f"| hours of training, {options.threads} threads | {trained['pretraining_seconds'] / 3600:.2f} | |",
    ]
    write("alae_mnist", {"recipe": RECIPE, "train": trained, "judge": judged}, "\n".join(lines))


if __name__ == "__main__":
    main()
