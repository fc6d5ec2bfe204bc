"""How near KMMD of large sets comes to the machine's own matrix-multiply rate, and how much memory it takes.

    python benchmarks/speed/kmmd.py --threads 2

The rate counts the multiplications that KMMD needs: one product between the sets, half a product within each.  The machine's
own rate is that of one square single-precision product of the same depth, and the two take turns.  Fails below ``--least`` or
above ``--most-gb``.
"""

import argparse
import json
import resource
import statistics
import time

import torch

from regraft.metrics._kernels import discrepancy
from regraft.metrics.kmmd import gaussian, kmmd


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.6)
    parser.add_argument("--most-gb", type=float, default=2.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(args.n, args.dim, generator=rng).relu_() for _ in range(2))
    side = min(args.n, 4096)
    kmmd(real[:4096], fake[:4096])
    times: dict[str, list[float]] = {"product": [], "kmmd": []}
    for _ in range(args.rounds):
        start = time.perf_counter()
        torch.mm(real[:side], fake[:side].T)
        times["product"].append(time.perf_counter() - start)
        start = time.perf_counter()
        biased, unbiased = kmmd(real, fake)
        times["kmmd"].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    rates = {
        "product": 2 * side**2 * args.dim / seconds["product"] / 1e9,
        "kmmd": 2 * (2 * args.n**2) * args.dim / seconds["kmmd"] / 1e9,
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    part = slice(0, min(args.n, 1500))
    report = {
        "n": args.n,
        "dim": args.dim,
        "threads": args.threads,
        "torch": torch.__version__,
        "seconds": {k: round(v, 3) for k, v in seconds.items()},
        "gflops": {k: round(v, 1) for k, v in rates.items()},
        "ratio": round(rates["kmmd"] / rates["product"], 3),
        "peak_gb": round(peak, 2),
        "kmmd": float(biased),
        "kmmd_unbiased": float(unbiased),
        "error_of_single_precision": error(real[part], fake[part]),
    }
    print(json.dumps(report, indent=1))
    return 0 if report["ratio"] >= args.least and peak < args.most_gb else 1


def error(real: torch.Tensor, fake: torch.Tensor) -> float:
    """How far the unbiased estimate in single precision is from that in double, at numbers where both are affordable."""
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    bandwidth = 2 * float(real.square().sum()) / len(real)
    values = [
        discrepancy(real, fake, gaussian(bandwidth), lambda rows: rows.new_ones(len(rows)), exact).unbiased()
        for exact in (False, True)
    ]
    return abs(values[0] - values[1])


if __name__ == "__main__":
    raise SystemExit(main())
