"""Do the intervals of metrics cover what they should?

    python benchmarks/quality/intervals.py

Each trial draws new features (or images) from known Gaussians and measures.  A nominal 95 % interval must hold the metric's
expectation at these numbers of images (its mean over all trials) in 90 to 99 % of the trials; that of unbiased KMMD and of the
kernel distance must hold the population value too, which is known in closed form.  Needs no data; about five minutes, and
fifteen for the independent critic.
"""

import argparse
import json
import math
import pathlib
import time
from typing import Any

import torch

import regraft
from regraft.core import discover
from regraft.metrics.base import Comparison, Metric, Samples

HERE = pathlib.Path(__file__).parent
CACHE = HERE / ".cells"
LOW, HIGH = 0.90, 0.99
SETTINGS = [(100, 16, 0.0), (100, 16, 0.3), (500, 64, 0.0), (500, 64, 0.3)]
QUICK = (
    "frechet",
    "kid",
    "kmmd",
    "mean_variance",
    "inception_score",
    "class_accuracy",
    "copies",
)
GROUPS = {
    "quick": (QUICK, SETTINGS),
    "clusters": (("intra_cluster",), SETTINGS),
    "neighbours": (("precision_recall",), SETTINGS),
    "critic": (("wasserstein",), SETTINGS[:2]),
}
SIDE = 8  # of the images that the critic sees; they are features of 64 numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--only", choices=list(GROUPS), help="run only these metrics; finished ones are kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for group, (names, settings) in GROUPS.items():
        for n, dim, shift in settings:
            path = CACHE / "intervals" / f"{group}-{n}-{dim}-{shift}-{options.trials}.json"
            if not path.exists() and options.only in (None, group):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(study(list(names), n, dim, shift, options.trials)))
            rows += json.loads(path.read_text()) if path.exists() else []
    text = table(rows, options.trials)
    print(text)
    bad = [r for r in rows if not all(LOW <= r[k] <= HIGH for k in ("expectation", "population") if r[k] is not None)]
    record = {"trials": options.trials, "versions": {"regraft": regraft.__version__, "torch": torch.__version__}, "rows": rows}
    if options.trials >= 300:
        (HERE / "intervals.json").write_text(json.dumps(record, indent=1) + "\n")
        (HERE / "intervals.md").write_text(text)
    return 1 if bad else 0


def study(names: list[str], n: int, dim: int, shift: float, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Coverage of each score of some metrics.

    Args:
        names: metrics.
        n: images on each side.
        dim: numbers of a feature.
        shift: of the generated images' mean, in each feature; their spread is 1 - shift / 2.
        trials: how many.
        seed: of the trials.
    """
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {}
    seconds = dict.fromkeys(names, 0.0)
    owner = {}
    rng = torch.Generator().manual_seed(seed)
    side = SIDE if dim >= SIDE * SIDE else math.isqrt(dim)
    training = gaussian(10, dim, 0.0, 1.0, side, torch.Generator().manual_seed(seed + 1))
    for trial in range(trials):
        real, fake = gaussian(n, dim, 0.0, 1.0, side, rng), gaussian(n, dim, shift, 1 - shift / 2, side, rng)
        comparison = Comparison(fake, real, training, "features", None, trial)
        for name in names:
            start = time.perf_counter()
            for score in discover.plugin("metrics", name, Metric).measure(comparison):
                assert score.interval is not None, score.name
                found.setdefault(score.name, []).append((score.value, score.interval))
                owner[score.name] = name
            seconds[name] += time.perf_counter() - start
    return [
        {
            "metric": label,
            "n": n,
            "dim": dim,
            "shift": shift,
            "mean": mean(values),
            "sd": (mean([(v - mean(values)) ** 2 for v in values])) ** 0.5,
            "expectation": covers(found[label], mean(values)),
            "population": None if (truth := population(label, dim, shift)) is None else covers(found[label], truth),
            "seconds": seconds[owner[label]] / trials,
        }
        for label in found
        for values in [[value for value, _ in found[label]]]
    ]


def gaussian(n: int, dim: int, mean: float, scale: float, side: int, rng: torch.Generator) -> Samples:
    """Features with class probabilities and labels that depend on them."""
    x = torch.randn(n, dim, generator=rng, dtype=torch.float64) * scale + mean
    labels = torch.randint(5, (n,), generator=rng)
    logits = x[:, :5] + 1.5 * torch.nn.functional.one_hot(labels, 5)
    return Samples(x[:, : side * side].float().view(n, 1, side, side), x, logits.softmax(1), labels)


def population(label: str, dim: int, shift: float) -> float | None:
    """The discrepancy of the two Gaussians themselves, where the estimate is unbiased."""
    scale, length = (1 - shift / 2) ** 2, dim * shift**2
    if label.startswith("kmmd_unbiased"):
        bandwidth = 2.0 * dim

        def expected(spread: float, gap: float) -> float:
            return (1 + spread / bandwidth) ** (-dim / 2) * math.exp(-gap / (2 * (bandwidth + spread)))

        return expected(2, 0) + expected(2 * scale, 0) - 2 * expected(1 + scale, length)
    if label.startswith("kid"):
        within_real = 1 + 3 / dim
        across = 1 + 3 * (length + dim * scale) / dim**2
        second = length**2 + 2 * scale * length + dim * scale**2
        third = length**3 + 3 * scale * length**2 + 3 * scale * length * (length + scale * (dim + 2))
        within_fake = 1 + 3 * length / dim + 3 * second / dim**2 + third / dim**3
        return within_real + within_fake - 2 * across
    return None


def covers(trials: list[tuple[float, tuple[float, float]]], truth: float) -> float:
    """Share of intervals that hold a number."""
    return mean([float(low <= truth <= high) for _, (low, high) in trials])


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def table(rows: list[dict[str, Any]], trials: int) -> str:
    """Markdown."""
    lines = [
        "# Coverage of nominal 95 % intervals",
        "",
        f"{trials} trials; Gaussian features, the generated ones shifted and narrowed; wanted: {LOW:.0%} to {HIGH:.0%}.",
        '"Expectation" is the mean of the metric at these numbers of images, "population" the value of the two distributions',
        "themselves.",
        "",
        "| metric | n | dimensions | shift | mean | sd | expectation | population | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        truth = "" if r["population"] is None else f"{r['population']:.1%}"
        name = r["metric"].replace("[features]", "")
        lines.append(
            f"| {name} | {r['n']} | {r['dim']} | {r['shift']} | {r['mean']:.4g} | {r['sd']:.2g} | {r['expectation']:.1%} "
            f"| {truth} | {r['seconds']:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
