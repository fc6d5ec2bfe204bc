"""A run made longer: a new run folder that goes on where the old one is."""

import os
import pathlib
import shutil
import tempfile
from typing import Any

from regraft.core.errors import ConfigError
from regraft.runs import folder as run_folder
from regraft.runs.store import RunStore


def to_resume(run: pathlib.Path, out: pathlib.Path | None, given: dict[str, Any]) -> pathlib.Path:
    """The folder that ``--resume RUN`` trains in: the run's own, or a new one for ``--more`` steps.

    Raises:
        ConfigError: if there is more beside it, or half of what lengthening needs.
    """
    if not given and out is None:
        return run
    if out is None or given.keys() != {"more"}:
        raise ConfigError("--resume goes on with a run's own settings; beside it stand --more STEPS and --out NEW, together")
    lengthen(run, out, given["more"])
    return out


def lengthen(run: str | pathlib.Path, out: str | pathlib.Path, more: int) -> None:
    """Make a folder that, resumed, trains a run further than it was set to; the old one stays as it is.

    What it trains is what a run trains that has these steps from the beginning.  Which step it keeps can differ, for it has
    also measured where the old one ended.

    Args:
        run: a run of ``adapt`` or ``pretrain``.
        out: folder to make.
        more: steps to add to the last phase.

    Raises:
        ConfigError: if ``run`` has no saved state, was changed or was stopped early, or ``out`` exists.
    """
    old, new = pathlib.Path(run), pathlib.Path(out)
    if more < 1:
        raise ConfigError(f"--more {more}: for how many steps shall {old} go on?")
    job, record = run_folder.read_job(old), run_folder.read_record(old)
    state = RunStore(old).load_state(cut=False)
    if state is None:
        raise ConfigError(f"{old}: has no saved state to go on from; begin a run of more steps instead")
    if state["position"]["stopped"] is not None:
        why = state["position"]["stopped"]
        raise ConfigError(
            f"{old}: was stopped before its last step ({why}), and more steps would change nothing; change settings"
        )
    files = run_folder.RunFolder(old)
    taken_over = {files.state.name, files.log.name, files.samples.name}  # results are made anew
    run_folder.check_out(new)
    new.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=new.parent, prefix=f".{new.name}.") as work:
        made = pathlib.Path(work) / "run"
        shutil.copytree(old, made, ignore=lambda folder, names: set(names) - taken_over if folder == str(old) else ())
        run_folder.write_run(made, job.model_copy(update={"more": job.more + more, "out": str(new)}), record)
        os.replace(made, new)
