"""Mind2Mind against training in pixels: Fréchet distance against time, MNIST to clothes and to handwritten characters.

    python benchmarks/quality/mind2mind.py --data DATA --threads 1

Tier "plain", 28x28: the plain autoencoder, trained on MNIST; scratch is a WGAN-GP of the same layers (g1 after g0, c0 after
c1), TransferGAN starts from such a WGAN-GP trained on MNIST.  Tier "alae", 32x32: the StyleALAE of alae_mnist.py (run that
first); scratch is a WGAN-GP of its generator and critic, TransferGAN fine-tunes them as their family does.  All have the same
minutes of training on the same number of threads; measuring is not counted.  Floor: reconstructions of the target's training
images.  Random convolutions hardly tell digits from other characters; the end of each run is measured by LeNet's features too.
"""

import dataclasses
import functools
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from cells import CACHE, arguments, cell, spread, write
from PIL import Image

import regraft
from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.core.networks import Generator
from regraft.core.randomness import generator_at
from regraft.data import pictures
from regraft.data.images import Images, ImageSet, Item
from regraft.evaluation.compare import extractor
from regraft.metrics.frechet import frechet_distance
from regraft.training.observation import Observation
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import assemble
from regraft.verbs.encode import encode
from regraft.verbs.pretrain import pretrain

SEEDS = range(5)
TARGETS = {"clothes": "fashion_clothes_28.npz", "characters": "omniglot_small1_28.npz"}
SIDES = {"plain": 28, "alae": 32}
MINUTES = {"plain": 3.0, "alae": 3.0}
MOMENTS = 16  # measurements, closer together at the beginning
SAMPLES = 2000
UNSEEN = 0.25
ENDLESS = 10_000_000  # steps; the clock ends a run
LONGER = "scratch, 15 minutes"  # as long as the plain autoencoder's pretraining and Mind2Mind together take; two seeds
LENET = "weights/mnist_classifier_lenet.pth"
PRETRAINING = {"ae": {"backbone": "autoencoder", "steps": 6000}, "wgan": {"backbone": "autoencoder", "steps": 3000}}
SCRATCH = {"method": "scratch", "augment": [], "objective": "wgan-gp"}
METHODS: dict[str, dict[str, Any]] = {
    "Mind2Mind": {"method": "mind2mind"},
    "Mind2Mind, published widths": {"method": "mind2mind", "generator_widths": (512, 512)},
    "Mind2Mind, published training": {
        "method": "mind2mind",
        "preset": "28x28",
        "critic_data": "reuse",
        "recipe": {"ema_decay": 0.0},
    },
    "TransferGAN": {"method": "transfergan", "augment": []},
    "scratch": SCRATCH,
    LONGER: SCRATCH | {"minutes": 15.0},
}
ONLY_PLAIN = {LONGER, "Mind2Mind, published widths", "Mind2Mind, published training"}  # widths are those of 28x28 codes


def source_of(options: Any, kind: str) -> pathlib.Path:
    """A source trained on MNIST, made on first use; the WGAN-GP is trained as ``scratch`` trains it."""
    folder = CACHE / "mind2mind" / "sources" / kind
    if (folder / "source.json").is_file():
        return folder
    if kind == "alae":
        raise SystemExit("run alae_mnist.py first: it trains the StyleALAE of this tier")
    common: dict[str, Any] = {"size": 28, "channels": 1, "out": folder, "flip": "off", "device": "cpu", "batch": 64}
    settings = PRETRAINING[kind]
    started = time.perf_counter()
    if (folder / "config.yaml").is_file():
        pretrain(out=folder, resume=True)
    elif kind == "wgan":
        _pretrain_wgan(options, folder, settings["steps"])
    else:
        pretrain(f"{options.data / 'mnist_28.npz'}:x_train", **common, **settings)
    (folder / "seconds.json").write_text(json.dumps(time.perf_counter() - started))
    return folder


def _pretrain_wgan(options: Any, folder: pathlib.Path, steps: int) -> None:
    """The pair of the plain autoencoder's layers and Mind2Mind's, as a WGAN-GP on MNIST."""
    images = regraft.open_images(f"{options.data / 'mnist_28.npz'}:x_train").without_labels()
    gan = regraft.adapt(
        images,
        method="scratch",
        backbone="autoencoder",
        size=28,
        channels=1,
        steps=steps,
        augment=[],
        flip="off",
        held_out=0,
        device="cpu",
        backbone_settings={"hidden": (512, 512, 512)},
        write=False,
    ).gan
    # To be trained further as it was trained.
    regraft.convert(gan.trained_with(*discover.plugin("backbones", "autoencoder", Backbone).training(28)), folder)


def target(options: Any, name: str, side: int) -> tuple[Images, torch.Tensor]:
    """Training images, and unseen ones to measure on."""
    images = regraft.open_images(options.data / TARGETS[name]).without_labels().decode((side, side), 1, fit="pad")
    order = torch.randperm(images.n, generator=generator_at(0, "benchmark"))
    unseen = int(images.n * UNSEEN)
    return images.select(order[unseen:].sort().values), images.select(order[:unseen]).tensor()


def moments(minutes: float) -> list[float]:
    """Seconds of training after which to measure."""
    return [60 * minutes * (k / MOMENTS) ** 2 for k in range(1, MOMENTS + 1)]


class Clock:
    """Measures at given moments; its own time does not count."""

    def __init__(self, options: Any, unseen: torch.Tensor, minutes: float, seed: int) -> None:
        self.features = extractor(options.extractor)
        self.real, self.seed, self.due = self.features(unseen), seed, moments(minutes)
        self.curve: list[tuple[float, float]] = []
        self.spent, self.since = 0.0, time.perf_counter()
        self.steps = 0

    def prepared(self, prepare: Callable[[], Generator]) -> Generator | None:
        """Called every few steps, before the other; the time until now was training.  A generator is made when one is due."""
        self.spent += time.perf_counter() - self.since
        return prepare() if self.due and self.spent >= self.due[0] else None

    def __call__(self, step: int, generator: Generator | None) -> Observation:
        """Measures what was prepared; none of it counts as training."""
        self.steps = step
        if generator is not None:
            fake = self.features(GAN(generator).sample(SAMPLES, self.seed))
            self.curve.append((round(self.spent, 2), float(frechet_distance(self.real, fake))))
            self.due = [d for d in self.due if d > self.spent]
        self.since = time.perf_counter()
        return Observation({}, stop=None if self.due else "out of time")

    def load(self, state: dict[str, Any]) -> None:
        """These runs are not resumed."""


def trained(options: Any, tier: str, name: str, method: str, seed: int) -> dict[str, Any]:
    """Train one method for its minutes."""
    side, settings = SIDES[tier], dict(METHODS[method])
    train, unseen = target(options, name, side)
    kinds = {"plain": {"mind2mind": "ae", "transfergan": "wgan", "scratch": "wgan"}}
    kind = kinds[tier][settings["method"]] if tier == "plain" else "alae"
    folder = source_of(options, kind)
    source = regraft.load(folder)
    encoding = 0.0
    started = time.perf_counter()
    minutes = settings.pop("minutes", MINUTES[tier])
    job = AdaptJob(
        images=TARGETS[name],
        method=settings.pop("method"),
        steps=ENDLESS,
        seed=seed,
        held_out=0,
        flip="off",
        device="cpu",
        objective=settings.pop("objective", None),
        recipe=settings.pop("recipe", {}),
        settings=settings,
    )
    listed = _as_set(train)
    prepared = prepare.prepare(job, [source], listed)
    loop = assemble(prepared, None, lambda event: None)
    if job.method == "mind2mind":
        encoding = time.perf_counter() - started
    clock = Clock(options, unseen, options.minutes or minutes, seed)
    every = 20 if job.method == "mind2mind" else 5
    loop.observer, loop.plan = clock, dataclasses.replace(loop.plan, observe_every=every)
    adapted = loop.generator
    loop.generator = functools.partial(clock.prepared, adapted)  # type: ignore[method-assign]
    clock.since = time.perf_counter()
    loop.run()
    made = GAN(adapted()).sample(SAMPLES, seed)
    pictures.save_png(_picture(tier, name, f"{method}-{seed}"), pictures.grid(made[:64]))
    lenet = extractor(f"classifier:{options.data / LENET}")
    apart = float(frechet_distance(lenet(unseen), lenet(made)))
    seconds = json.loads((folder / "seconds.json").read_text()) if (folder / "seconds.json").is_file() else None
    return {
        "curve": clock.curve,
        "steps": clock.steps,
        "encoding_seconds": encoding,
        "pretraining_seconds": seconds,
        "frechet_lenet": apart,
    }


def _picture(tier: str, name: str, kind: str) -> pathlib.Path:
    return CACHE / "mind2mind" / f"{tier}-{name}-{kind}.png"


def _as_set(images: Images) -> ImageSet:

    array = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return ImageSet("target", tuple(Item(f"{k:06d}", functools.partial(array.__getitem__, k)) for k in range(images.n)))


def floor(options: Any, tier: str, name: str) -> dict[str, Any]:
    """Reconstructions of training images as samples: as good as Mind2Mind can be with this autoencoder."""
    train, unseen = target(options, name, SIDES[tier])
    autoencoder = regraft.load(source_of(options, "ae" if tier == "plain" else "alae")).autoencoder
    with torch.no_grad():
        images = train.tensor(slice(0, SAMPLES))
        made = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(64)]).clamp(-1, 1)
    for kind, some in (("real", images), ("reconstructions", made)):
        pictures.save_png(_picture(tier, name, kind), pictures.grid(some[:64]))
    found = {}
    for key, features in (("", extractor(options.extractor)), ("_lenet", extractor(f"classifier:{options.data / LENET}"))):
        real = features(unseen)
        found[f"frechet{key}"] = float(frechet_distance(real, features(made)))
        found[f"real_vs_real{key}"] = float(frechet_distance(real, features(images)))
    return found


def encoding_time(options: Any, tier: str, name: str) -> dict[str, Any]:
    """One `regraft encode` of the target, start to end."""
    source = source_of(options, "ae" if tier == "plain" else "alae")
    out = CACHE / "mind2mind" / f"{tier}-{name}.safetensors"
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    made = encode(source, f"{options.data / TARGETS[name]}", out, device="cpu", fit="pad")
    return {"n": made.codes.n, "encode_seconds": time.perf_counter() - started}


def main() -> None:
    """Run all cells and write the table."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    for tier in options.tiers.split(","):
        for name in TARGETS:
            label = f"{tier}-{name}"
            results[f"{label}-floor"] = cell(
                "mind2mind", f"{label}-floor", options, functools.partial(floor, options, tier, name)
            )
            timed = functools.partial(encoding_time, options, tier, name)
            results[f"{label}-encode"] = cell("mind2mind", f"{label}-encode", options, timed)
            for method in METHODS:
                if tier != "plain" and method in ONLY_PLAIN:
                    continue
                for seed in SEEDS[:2] if method == LONGER else SEEDS:
                    run = functools.partial(trained, options, tier, name, method, seed)
                    key = f"{label}-{method}-{seed}"
                    results[key] = cell("mind2mind", key, options, run)
    _write(options, results)


def _arguments() -> Any:
    import sys

    extra = {"--minutes": None, "--extractor": "random_conv", "--tiers": "plain,alae"}
    for flag in extra:
        if flag in sys.argv:
            at = sys.argv.index(flag)
            extra[flag] = sys.argv[at + 1]
            del sys.argv[at : at + 2]
    options = arguments(__doc__)
    options.minutes = float(extra["--minutes"]) if extra["--minutes"] else None
    options.extractor, options.tiers = extra["--extractor"], extra["--tiers"]
    return options


def at(curve: list[list[float]], seconds: float) -> float:
    """The distance last measured by a time; before the first measurement that one counts, which flatters a slow method."""
    known = [value for when, value in curve if when <= seconds]
    return known[-1] if known else curve[0][1]


def plateau(curve: list[list[float]]) -> tuple[float, float]:
    """The least distance of a curve, and when it first came within 5 % of it."""
    least = min(value for _, value in curve)
    return least, next(when for when, value in curve if value <= 1.05 * least)


def _write(options: Any, results: dict[str, Any]) -> None:
    minutes = ", ".join(f"{options.minutes or MINUTES[tier]:g} ({tier})" for tier in options.tiers.split(","))
    lines = [
        "# Mind2Mind against time",
        "",
        "Command: `python benchmarks/quality/mind2mind.py --data DATA --threads 1`, four at once.",
        "",
        f"Fréchet distance ({options.extractor}); minutes of training on one thread, where a name says no other: "
        f"{minutes}. "
        "Mind2Mind's plateau is when it first comes within 5 % of its best; what others have then stands beside it, and after "
        "as much longer as encoding takes; before its first measurement a method counts with that one. Pretraining is made "
        "once for all targets, and is counted in the row of 15 minutes only: the plain autoencoder's twelve, and three.",
        "",
    ]
    for tier in options.tiers.split(","):
        for name in TARGETS:
            lines += [f"## {tier}, MNIST to {name}", ""]
            lowest, encoded = results.get(f"{tier}-{name}-floor"), results.get(f"{tier}-{name}-encode")
            if lowest:
                lines += [
                    f"Floor (reconstructions): {lowest['frechet']:.3f}, by LeNet {lowest['frechet_lenet']:.1f}; real against "
                    f"real: {lowest['real_vs_real']:.3f}, {lowest['real_vs_real_lenet']:.1f}.",
                    "",
                ]
            if encoded:
                lines += [f"Encoding {encoded['n']} images: {encoded['encode_seconds']:.1f} s.", ""]
            lines += [
                "| method | seeds | at Mind2Mind's plateau | ratio | with its encoding time | best | over the floor, end "
                "| by LeNet, end | steps | pretraining, s |"
            ]
            lines.append("|---|---|---|---|---|---|---|---|---|---|")
            for method in METHODS:
                lines += _row(results, f"{tier}-{name}", method, lowest)
            lines += ["", *_look(tier, name)]
    write("mind2mind", results, "\n".join(lines))


def _look(tier: str, name: str) -> list[str]:
    """The first eight images of each kind as one picture beside the table."""
    rows = [(kind, _picture(tier, name, kind)) for kind in ("real", "reconstructions")]
    rows += [(f"{method}, seed 0", _picture(tier, name, f"{method}-0")) for method in ("Mind2Mind", "TransferGAN", "scratch")]
    there = [(kind, Image.open(path)) for kind, path in rows if path.is_file()]
    if not there:
        return []
    height = (there[0][1].height + 2) // 8
    sheet = Image.new("L", (there[0][1].width, height * len(there)), 255)
    for k, (_, picture) in enumerate(there):
        sheet.paste(picture.crop((0, 0, picture.width, height)), (0, k * height))
    out = pathlib.Path(__file__).with_name(f"mind2mind-{tier}-{name}.png")
    sheet.save(out)
    return [f"![rows of images]({out.name})", "", f"Rows: {'; '.join(kind for kind, _ in there)}.", ""]


def _row(results: dict[str, Any], label: str, method: str, lowest: dict[str, Any] | None) -> list[str]:
    pairs = [(results.get(f"{label}-{method}-{s}"), results.get(f"{label}-Mind2Mind-{s}")) for s in SEEDS]
    pairs = [(mine, theirs) for mine, theirs in pairs if mine and theirs and mine["curve"] and theirs["curve"]]
    if not pairs:
        return []
    there, ratios, late, best = [], [], [], []
    for mine, theirs in pairs:
        _, when = plateau(theirs["curve"])
        reached = at(theirs["curve"], when)
        there.append(at(mine["curve"], when))
        ratios.append(there[-1] / reached)
        late.append(at(mine["curve"], when + (0.0 if mine is theirs else theirs["encoding_seconds"])))
        best.append(min(value for _, value in mine["curve"]))
    shown = [spread(values) for values in (there, ratios, late, best)]
    over = f"{statistics.mean(mine['curve'][-1][1] for mine, _ in pairs) / lowest['frechet']:.2f}" if lowest else "-"
    steps = statistics.mean(mine["steps"] for mine, _ in pairs)
    seconds = pairs[0][0]["pretraining_seconds"]
    made = "-" if METHODS[method]["method"] == "scratch" or seconds is None else f"{seconds:.0f}"
    seen = [mine["frechet_lenet"] for mine, _ in pairs if "frechet_lenet" in mine]
    return [f"| {method} | {len(pairs)} | {' | '.join(shown)} | {over} | {spread(seen)} | {steps:.0f} | {made} |"]


if __name__ == "__main__":
    main()
