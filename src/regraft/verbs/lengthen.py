"""The verb ``lengthen``: continue a finished run for more steps, in a new run folder."""

import os
import pathlib
import shutil
import tempfile
from typing import Any

from regraft.core.errors import ConfigError
from regraft.core.names import storable
from regraft.runs import folder as run_folder
from regraft.runs.store import RunStore


def to_resume(run: pathlib.Path, out: pathlib.Path | None, options: dict[str, Any]) -> pathlib.Path:
    """Return the folder that ``--resume RUN`` trains in: the run's own or, with ``--more`` and ``--out``, a lengthened copy.

    Args:
        run: the run to resume.
        out: folder to make, or None.
        options: settings given beside ``--resume``, by name.

    Raises:
        ConfigError: if other options are given, or only one of --more and --out.
    """
    if not options and out is None:
        return run
    if out is None or options.keys() != {"more"}:
        raise ConfigError("--resume goes on with a run's own settings; beside it stand --more STEPS and --out NEW, together")
    lengthen(run, out, options["more"])
    return out


def lengthen(run: str | pathlib.Path, out: str | pathlib.Path, more: int) -> None:
    """Make a new run folder that, once resumed, trains a finished run for more steps; the old folder stays as it is.

    The networks then become those of a run that had so many steps from its start.  The step that is kept can differ, because
    the old run was also measured at its end.

    Args:
        run: a finished run of ``adapt`` or ``pretrain``.
        out: folder to make.
        more: steps to add to the last phase, at least 1.

    Raises:
        ConfigError: if the run has no saved state, has changed settings or was stopped early, or if ``out`` is not empty.
    """
    old, new = pathlib.Path(run), pathlib.Path(out)
    if more < 1:
        raise ConfigError(f"--more {more}: for how many steps shall {old} go on?")
    job, record = run_folder.read_job(old), run_folder.read_record(old)
    state = RunStore(old).load_state(cut=False)
    if state is None:
        raise ConfigError(f"{old}: has no saved state to go on from; begin a run of more steps instead")
    reason = state["position"]["stopped"]
    if reason is not None:
        raise ConfigError(
            f"{old}: was stopped before its last step ({reason}), and more steps would change nothing; change settings"
        )
    run_folder.check_out(new)
    new.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=new.parent, prefix=f".{new.name}.") as work:
        copy = pathlib.Path(work) / "run"
        _copy_unfinished(old, copy)
        run_folder.write_run(copy, job.model_copy(update={"more": job.more + more, "out": storable(str(new))}), record)
        os.replace(copy, new)


def _copy_unfinished(run: pathlib.Path, copy: pathlib.Path) -> None:
    """Copy state, log and samples of a run, without its results, which are made anew."""
    files = run_folder.RunFolder(run)
    copied = {files.state.name, files.log.name, files.samples.name}
    shutil.copytree(run, copy, ignore=lambda folder, names: set(names) - copied if folder == str(run) else ())
