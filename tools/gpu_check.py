"""Prove regraft on one GPU in eight minutes: families, resume, speed, the authors' code beside it, waiting, quality.

    python tools/gpu_check.py --reference ../shared/reference --data ../shared/data

What must be there: Python 3.11 or newer and a CUDA build of torch, with numpy, pillow and safetensors, which machines with a
GPU usually have; and typer, rich, pydantic, pyyaml, jinja2 and what they need.  ``benchmarks/README.md`` says how to carry
their wheels to a machine without network.  regraft itself is taken from ``src`` beside this file.  Where data are missing,
their section is left out and the table says so.

Each section runs in a process of its own, so that a fault or a time limit ends that section alone.  Rows are written as they
come; ``gpu.json`` and ``gpu.md`` are made anew after each.  ``--tiny`` runs everything at the smallest sizes, also on a CPU.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
# Names and seconds; together under eight minutes with the start of each process.
SECTIONS = {"families": 95, "resume": 30, "speed": 85, "peer": 40, "waiting": 20, "quality": 190}
TITLES = {
    "families": "Every family: outputs against the authors', six steps of each method, the adapter reloaded on the CPU",
    "resume": "Stop and resume",
    "speed": "Speed and memory",
    "peer": "Beside the authors' code (NVlabs/stylegan3)",
    "waiting": "How long the GPU waits for the host, and the ten longest operators",
    "quality": "A StyleGAN2-64 trained here, and adapted with the default",
}
GRACE = 10.0
"""Seconds that a section has beyond its time to end by itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections one after the other; 1 if anything failed or was off."""
    given = options().parse_args(arguments)
    if given.section:
        return run_section(given)
    unknown = [name for name in given.only if name not in SECTIONS]
    if unknown:
        raise SystemExit(f"{unknown[0]}: no such section; there are: {', '.join(SECTIONS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    folder = given.out / "gpu"
    folder.mkdir(exist_ok=True)
    began, facts = time.monotonic(), machine(given)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in given.only or SECTIONS:
        limit = given.limit or SECTIONS[name]
        print(f"{name}: at most {limit} s", flush=True)
        results[name] = supervise(
            name, limit, folder, given, lambda rows, name=name: write(given, facts, results | {name: rows})
        )
        facts["seconds"] = round(time.monotonic() - began)
        write(given, facts, results)
        counts = [row["result"] for row in results[name]]
        print(f"{name}: {counts.count('ok')} of {len(counts)} ok", flush=True)
    bad = [row for rows in results.values() for row in rows if str(row["result"]).startswith("**")]
    for row in bad:
        print(f"{row['what']}: {row['result']} {row.get('why', '')}", file=sys.stderr)
    print(f"written: {given.out / 'gpu.md'} ({facts['seconds']} s)")
    return 1 if bad else 0


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=[], metavar="SECTION", help=f"some of: {', '.join(SECTIONS)}")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="where to compute")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes and few steps, to see that everything runs")
    parser.add_argument("--limit", type=float, help="seconds for each section, instead of its own number")
    parser.add_argument("--reference", type=pathlib.Path, help="folder of reference checkpoints with recorded outputs")
    parser.add_argument("--data", type=pathlib.Path, help="folder with celeba_64.zip and targets")
    parser.add_argument("--peer", type=pathlib.Path, help="checkout of NVlabs/stylegan3, which is no part of this project")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "speed", help="where the table goes")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    return parser


def supervise(name: str, limit: float, folder: pathlib.Path, given: argparse.Namespace, update: Any) -> list[dict[str, Any]]:
    """Run one section in a process of its own; rewrite the table as its rows come, and end it when its time is over."""
    log, rows = folder / f"{name}.log", folder / f"{name}.jsonl"
    rows.unlink(missing_ok=True)
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--section", name, "--folder", str(folder)]
    command += ["--device", given.device, "--limit", str(limit), *(["--tiny"] if given.tiny else [])]
    for option in ("reference", "data", "peer"):
        if getattr(given, option) is not None:
            command += [f"--{option}", str(getattr(given, option).resolve())]
    paths = [str(ROOT / "src"), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Deterministic matrix products need this before CUDA starts; it costs nothing elsewhere.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    began, seen = time.monotonic(), 0
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            if time.monotonic() - began > limit + GRACE:
                process.kill()
                process.wait()
                return [*read(rows), {"what": name, "result": "**stopped**", "why": f"it did not end within {limit:.0f} s"}]
            time.sleep(0.2)
            found = read(rows)
            if len(found) > seen:
                seen = len(found)
                update(found)
    found = read(rows)
    if process.returncode:
        last = " ".join(log.read_text(errors="replace").split())[-300:]
        found.append({"what": name, "result": "**failed**", "why": f"the section ended with {process.returncode}: {last}"})
    return found


def run_section(given: argparse.Namespace) -> int:
    """Be the process of one section."""
    import importlib

    import torch
    from gpu.job import Job

    torch.manual_seed(0)
    if given.device == "cpu":
        torch.set_num_threads(1)
    rows = given.folder / f"{given.section}.jsonl"
    job = Job(
        torch.device(given.device),
        given.tiny,
        time.monotonic() + given.limit,
        rows,
        given.folder,
        given.reference,
        given.data,
        given.peer,
    )
    importlib.import_module(f"gpu.{given.section}").run(job)
    return 0


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows that are there; a line that is being written is left for later."""
    lines = path.read_text().split("\n") if path.is_file() else []
    return [{"result": "ok"} | json.loads(line) for line in lines[:-1]]


def machine(given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers were made on."""
    code = (
        "import json, torch; c = torch.cuda.is_available(); p = torch.cuda.get_device_properties(0) if c else None; "
        "print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': p.name if c else None, "
        "'GiB': round(p.total_memory / 2**30, 1) if c else None}))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(asked.stdout)
    if given.device == "cuda" and facts["gpu"] is None:
        raise SystemExit("torch sees no GPU here; --device cpu --tiny tries the script itself")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    words = [f"--{name} {name.upper()}" for name in ("reference", "data", "peer") if getattr(given, name) is not None]
    words += ["--tiny"] if given.tiny else []
    words += ["--only", *given.only] if given.only else []
    command = " ".join(["python tools/gpu_check.py", f"--device {given.device}", *words])
    return facts | {
        "device": given.device,
        "command": command,
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
    }


def write(given: argparse.Namespace, facts: dict[str, Any], results: dict[str, list[dict[str, Any]]]) -> None:
    """Write the table, as JSON and for readers."""
    for name, text in (
        ("gpu.json", json.dumps({"machine": facts, "sections": results}, indent=1) + "\n"),
        ("gpu.md", page(facts, results)),
    ):
        part = given.out / f".{name}.part"
        part.write_text(text)
        part.replace(given.out / name)


def page(facts: dict[str, Any], results: dict[str, list[dict[str, Any]]]) -> str:
    """The table as Markdown."""
    where = f"{facts['gpu']}, {facts['GiB']} GiB" if facts["device"] == "cuda" else "a CPU, to try the script itself"
    lines = [
        "# regraft on one GPU",
        "",
        f"On {where}; torch {facts['torch']}" + (f", CUDA {facts['cuda']}" if facts["cuda"] else "") + ".",
        f"Command: `{facts['command']}`; commit {(facts['commit'] or 'unknown')[:12]}; {facts.get('seconds', '?')} s.",
        "",
        "`float32` in speed, waiting and peer is torch's default (TF32 in convolutions); outputs are compared without TF32.",
        "`GiB`: most memory of the GPU in use.  `waits`: share of a step's time in which no kernel runs.",
    ]
    for name, rows in results.items():
        names = list(dict.fromkeys(key for row in rows for key in row if key not in ("what", "result", "why", "operators")))
        columns = [name for name in names if any(row.get(name) is not None for row in rows)]
        lines += ["", f"## {TITLES[name]}", "", f"| | {' | '.join(columns)} | |", "|---|" + "---|" * (len(columns) + 1)]
        for row in rows:
            said = row["result"] + (f": {row['why']}" if row.get("why") else "")
            lines.append(f"| {row['what']} | {' | '.join(cell(row.get(c)) for c in columns)} | {said.replace('|', '/')} |")
        for row in rows:
            if row.get("operators"):
                longest = "; ".join(f"`{operator}` {share:.0%}" for operator, share in row["operators"])
                lines += ["", f"{row['what']}: {longest}."]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """One value as text."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and (abs(value) < 0.01 or abs(value) >= 1e5) and value else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
