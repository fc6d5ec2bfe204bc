"""A benchmark as named cells, each run once: finished cells are kept beside the results, so that a stopped run goes on."""

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import regraft

HERE = pathlib.Path(__file__).parent
CACHE = HERE / ".cells"


def arguments(doc: str | None) -> argparse.Namespace:
    """Options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of images and weights (see its README)")
    parser.add_argument("--only", help="run only cells whose name contains this")
    parser.add_argument("--threads", type=int, default=2, help="threads of this process; several may fill different cells")
    parser.add_argument("--table", action="store_true", help="write the tables from finished cells, run nothing")
    return parser.parse_args()


def cell(benchmark: str, name: str, options: argparse.Namespace, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Result of a cell, run now if it was not run before."""
    path = CACHE / benchmark / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    if options.table or (options.only and options.only not in name):
        return None
    started = time.perf_counter()
    result = run() | {"seconds": round(time.perf_counter() - started, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    print(name, {k: v for k, v in result.items() if isinstance(v, int | float)}, flush=True)
    return result


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return "-"
    more = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{more}"


def write(name: str, record: dict[str, Any], markdown: str) -> None:
    """Write a benchmark's JSON and table, with what made them."""
    record = {
        "command": f"python benchmarks/quality/{pathlib.Path(sys.argv[0]).name} --data DATA",
        "versions": {"regraft": regraft.__version__, "torch": torch.__version__, "python": platform.python_version()},
        **record,
    }
    (HERE / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (HERE / f"{name}.md").write_text(markdown.rstrip() + "\n")
    print(markdown)
