"""Load each file named on the command line under a limit of memory and time; prints one line of JSON per file.

Memory is the growth of the process's peak; a child is made for each file, so that peaks do not add up.
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import sys
import time

import regraft
from regraft.formats.base import load_torch

ADDRESS_SPACE = 4 << 30
PROCESSOR_SECONDS = 20
HANGING_SECONDS = 200


def peak_mb():
    """Peak resident memory of this process since it was cleared, in MB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def judged(path):
    """What came of one file."""
    from support.fuzz_files import Canary

    # Time of the processor, which does not depend on what else the machine does.
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
    signal.alarm(HANGING_SECONDS)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, used + ADDRESS_SPACE))
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, started = peak_mb(), time.process_time()
    error, message = None, ""
    try:
        regraft.load(path)
    except BaseException as caught:  # noqa: BLE001 - whatever it is, it is judged
        error, message = type(caught).__name__, str(caught)
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {
        "file": path.name,
        "error": error,
        "message": message[:2000],
        "seconds": round(time.process_time() - started, 3),
        "grown_mb": round(peak_mb() - before, 1),
        "file_mb": sum(f.stat().st_size for f in files) / 1e6,
        "sung": Canary.sung,
    }


def main():
    """Judge each file in a child of its own."""
    assert load_torch  # everything that loading imports is here before memory is measured
    warm_up()
    for path in map(pathlib.Path, sys.argv[1:]):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print(json.dumps(judged(path)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            row = {"file": path.name, "error": f"killed by {status}", "message": "", "seconds": 0, "grown_mb": 0, "file_mb": 0}
            print(json.dumps(row | {"sung": 0}), flush=True)


def warm_up():
    """Import plug-ins and build one source, so that children measure files and not imports."""
    regraft.load("digits").sample(2)


if __name__ == "__main__":
    main()
