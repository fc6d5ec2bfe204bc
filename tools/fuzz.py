"""Damage tiny files of every format in many ways and read them under limits of memory and time; write what came of it.

    python tools/fuzz.py --cases 10000 --out benchmarks/reliability/fuzz.json
    python tools/fuzz.py --what containers --cases 10000 --each --out benchmarks/reliability/fuzz-containers.json

Sources are loaded; containers of images are listed, and their images decoded.  ``--each`` takes as many cases of each kind of
file, ``--only`` takes one kind: a format or container, or a writer in ``tests/support``.

Cases run in worker processes, each with a limit on its address space and an alarm per case; a worker that dies names its case.
"""

import argparse
import collections
import json
import multiprocessing
import pathlib
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import regraft  # noqa: E402
from regraft.core.errors import RegraftError  # noqa: E402
from support import container_files, fuzz_sources  # noqa: E402
from support.fuzz_containers import damaged_container, outcome  # noqa: E402
from support.fuzz_files import Canary, damaged_source, hostile_files, seeded  # noqa: E402

SECONDS = 10
SPARE_BYTES = {"sources": 512 << 20, "containers": 1 << 30}
CHUNK = 100


class Late(BaseException):
    """A case took too long."""


def limited(what: str) -> None:
    """Bound a worker's memory, a moment after its imports."""
    torch.set_num_threads(1)
    regraft.load("digits").sample(2)
    if what == "containers":
        with tempfile.TemporaryDirectory() as folder:
            for _, own, opened in container_files.templates(pathlib.Path(folder)):
                assert outcome(own / opened, own.name) == "loaded"
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES[what], used + SPARE_BYTES[what]))
    signal.signal(signal.SIGALRM, late)


def late(number: int, frame: Any) -> None:
    raise Late


def judged(opened: pathlib.Path, folder: str, what: str = "sources") -> str:
    """What came of one source or set of images: loaded, refused, or what should not happen."""
    signal.alarm(SECONDS)
    try:
        if what == "containers":
            return outcome(opened, folder)
        regraft.load(opened)
        return "loaded"
    except RegraftError as error:
        return "refused" if folder in str(error) and len(str(error)) < 3000 else f"unclear: {str(error)[:200]}"
    except (Exception, Late) as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)


def chunk(work: tuple[pathlib.Path, list[Any], range, str]) -> list[dict[str, Any]]:
    """Judge some seeds."""
    base, valid, seeds, what = work
    damaged = damaged_container if what == "containers" else damaged_source
    rows = []
    for seed in seeds:
        folder = base / f"case{seed}"
        template = valid[seed % len(valid)]
        opened, how = damaged(template, seeded(seed), folder)
        started = time.perf_counter()
        came = judged(opened, folder.name, what)
        rows.append(
            {
                "seed": seed,
                "format": template[0],
                "source": template[1].name,
                "how": how,
                "came": came,
                "seconds": time.perf_counter() - started,
                "ran": Canary.sung,
            }
        )
        shutil.rmtree(folder)
    return rows


def hostile(work: pathlib.Path) -> list[dict[str, Any]]:
    """Judge the hand-made files."""
    rows = []
    for path in sorted(work.iterdir()):
        started = time.perf_counter()
        came = judged(path, path.name)
        rows.append({"file": path.name, "came": came, "seconds": time.perf_counter() - started, "ran": Canary.sung})
    return rows


def main() -> int:
    """Run, write, and say how many cases came out as they must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=("sources", "containers"), default="sources")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--each", action="store_true", help="as many cases of each kind of file")
    parser.add_argument("--only", help="one kind of file")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "reliability" / "fuzz.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base = pathlib.Path(name)
        made = {"sources": fuzz_sources.templates, "containers": container_files.templates}[given.what](base / "valid")
        valid = [t for t in made if given.only is None or given.only in (t[0], t[1].name.removeprefix("write_"))]
        (base / "hostile").mkdir()
        if given.what == "sources":
            hostile_files(base / "hostile")
        last = given.first + given.cases * (len(valid) if given.each else 1)
        work = [(base, valid, range(s, min(s + CHUNK, last)), given.what) for s in range(given.first, last, CHUNK)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(given.jobs, limited, (given.what,)) as pool:
            rows = [row for part in pool.imap(chunk, work) for row in part]
            enemies = pool.apply(hostile, (base / "hostile",))
    options = f"--what {given.what} " * (given.what != "sources") + f"--cases {given.cases}" + " --each" * given.each
    command = f"python tools/fuzz.py {options}" + f" --only {given.only}" * bool(given.only) + f" --first {given.first}"
    report = summary(rows, enemies, given.what) | {"command": command}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    given.out.with_suffix(".md").write_text(table(report))
    print(table(report))
    return 1 if report["wrong"] else 0


def summary(rows: list[dict[str, Any]], enemies: list[dict[str, Any]], what: str) -> dict[str, Any]:
    """Counts by format and damage, and every case that came out as it must not."""
    by_format: dict[str, collections.Counter[str]] = {}
    for row in rows:
        kind = row["came"] if row["came"] in ("loaded", "refused") else "wrong"
        by_format.setdefault(row["source"].removeprefix("write_"), collections.Counter())[kind] += 1
    wrong = [row for row in rows + enemies if row["came"] not in ("loaded", "refused")]
    slowest = max(rows + enemies, key=lambda row: float(row["seconds"]))
    return {
        "cases": len(rows),
        "formats": {name: dict(counts) for name, counts in sorted(by_format.items())},
        "hostile": {row["file"]: row["came"] for row in enemies},
        "wrong": wrong,
        "code_run": max((row["ran"] for row in rows + enemies), default=0),
        "slowest_seconds": round(slowest["seconds"], 2),
        "slowest": slowest.get("file")
        or f"seed {slowest['seed']}, {slowest['source'].removeprefix('write_')}: {slowest['how']}",
        "limits": {"seconds": SECONDS, "extra_mb": SPARE_BYTES[what] >> 20},
        "versions": {"regraft": regraft.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# Damaged and hostile files",
        "",
        f"{report['cases']} damaged files, at most {report['limits']['seconds']} s and {report['limits']['extra_mb']} MB",
        "beyond the process each.  Loaded: the damage changed values that may be anything.  Refused: an error of regraft's",
        "own that names the file.  Wrong: anything else.",
        "",
        f"    {report['command']}",
        "",
        "| written by | loaded | refused | wrong |",
        "|---|---|---|---|",
    ]
    for name, counts in report["formats"].items():
        lines.append(f"| {name} | {counts.get('loaded', 0)} | {counts.get('refused', 0)} | {counts.get('wrong', 0)} |")
    enemies = collections.Counter(report["hostile"].values())
    lines += [
        "",
        f"Hand-made hostile files: {', '.join(f'{n} {what}' for what, n in sorted(enemies.items())) or 'none'}.  "
        f"Calls of code from files: {report['code_run']}.  Slowest: {report['slowest_seconds']} s ({report['slowest']}).  "
        f"torch {report['versions']['torch']}, Python {report['versions']['python']}.",
        "",
    ]
    lines += [f"- seed {row.get('seed')}, {row.get('how', row.get('file'))}: {row['came']}" for row in report["wrong"]]
    return "\n".join(lines) + ("\n" if report["wrong"] else "")


if __name__ == "__main__":
    sys.exit(main())
