"""A run made longer: a new run folder that goes on where the old one ended."""

import json
import pathlib
import shutil
from typing import Any

import yaml

from regraft import _adapting
from regraft.config import parse, read_yaml
from regraft.errors import ConfigError
from regraft.jobs import AdaptJob
from regraft.store import RunStore, write_json, write_text


def to_resume(run: pathlib.Path, out: pathlib.Path | None, given: dict[str, Any]) -> pathlib.Path:
    """The folder that ``--resume RUN`` trains in: the run's own, or a new one for ``--more`` steps.

    Raises:
        ConfigError: if there is more beside it, or half of what lengthening needs.
    """
    if not given and out is None:
        return run
    if out is None or given.keys() != {"more"}:
        raise ConfigError(
            "--resume goes on with a run's own settings; beside it stand only --more STEPS and --out NEW, together"
        )
    lengthen(run, out, given["more"])
    return out


def lengthen(run: str | pathlib.Path, out: str | pathlib.Path, more: int) -> None:
    """Make a folder that, resumed, trains a run further than it was set to; the old one stays as it is.

    Its weights become those of a run that had these steps from the beginning.

    Args:
        run: a run of ``adapt`` or ``pretrain`` that came to its end.
        out: folder to make.
        more: steps to add to the last phase.

    Raises:
        ConfigError: if ``run`` has no saved state or was stopped early, or ``out`` exists.
    """
    old, new = pathlib.Path(run), pathlib.Path(out)
    if more < 1:
        raise ConfigError(f"--more {more}: for how many steps shall {old} go on?")
    job = parse(AdaptJob, read_yaml(old / "config.yaml", "a run's settings"), str(old / "config.yaml"))
    try:
        record = json.loads((old / _adapting.RUN_RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{old}: no run that can go on ({error})") from None
    state = RunStore(old).load_state(cut=False)
    if state is not None and state["position"]["stopped"] is not None:
        why = state["position"]["stopped"]
        raise ConfigError(
            f"{old}: was stopped before its last step ({why}), and more steps would change nothing; change settings"
        )
    _adapting.check_out(new)
    shutil.copytree(old / "state", new / "state")
    if (old / "metrics.jsonl").is_file():
        shutil.copyfile(old / "metrics.jsonl", new / "metrics.jsonl")
    longer = job.model_copy(update={"more": job.more + more, "out": str(new)})
    write_text(new / "config.yaml", yaml.safe_dump(longer.model_dump(mode="json"), sort_keys=False))
    write_json(new / _adapting.RUN_RECORD, record | {"settings": _adapting.settings_digest(new)})
