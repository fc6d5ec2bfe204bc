"""What follows training: the verdict on a run, from its samples, its images and its log."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from regraft import _records
from regraft._adapting import Prepared, augmented
from regraft.codes import Codes
from regraft.errors import RegraftError
from regraft.gan import GAN
from regraft.metrics.base import Score
from regraft.metrics.copies import BOUND
from regraft.store import write_json
from regraft.verdict import Verdict, judge

FILE = "verdict.json"
LOG = "metrics.jsonl"
SAMPLES = 256


def conclude(
    prepared: Prepared,
    folder: pathlib.Path,
    gan: GAN,
    step: int,
    scores: Sequence[Score],
    cautions: Sequence[str],
    emit: Callable[[dict[str, Any]], None],
) -> Verdict | None:
    """Judge a finished run and write ``verdict.json``, the method's cautions with it; a run on codes alone shows no images."""
    if isinstance(prepared.train, Codes):
        return None
    rows = _records.history(_records.log(folder / LOG))
    verdict = judge(
        gan.sample(SAMPLES, prepared.job.seed).cpu(), prepared.train.tensor(),
        None if prepared.held is None else prepared.held.tensor(), history=rows, step=step,
        augmented=augmented(prepared.job.settings), seed=prepared.job.seed,
    )  # fmt: skip
    verdict = dataclasses.replace(verdict, cautions=(*cautions, *verdict.cautions, *_near_copies(scores)))
    write_json(folder / FILE, {"step": step} | dataclasses.asdict(verdict))
    emit({"event": "verdict", **verdict.to_dict()})
    return verdict


def _near_copies(scores: Sequence[Score]) -> list[str]:
    """What the table's copy rates add: they count samples that are nearer than unseen images usually are, not only copies."""
    return [
        f"{s.name} is {s.value:.0%} (95 % interval {s.interval[0]:.0%} to {s.interval[1]:.0%}): so many samples are nearer "
        f"to a training image than {s.n_real} unseen ones are; compare them on the page before you pass samples on."
        for s in scores
        if s.name.startswith("copies") and s.interval is not None and s.interval[0] > BOUND
    ]


def write_page(folder: pathlib.Path, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write the run's report page; a run is not lost because its page cannot be made, which is then said."""
    from regraft.reporting import report  # here, because a report reads runs and this module serves it too

    try:
        emit({"event": "report", "path": str(report(folder))})
    except (RegraftError, OSError) as error:
        emit({"event": "note", "text": f"no report page: {error}"})
