"""Make the table of scores of a page."""

from collections.abc import Sequence
from typing import Any

from regraft.metrics.copies import exceeds_copy_bound
from regraft.verbs.report.subject import Subject


def score_rows(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Make the table of scores, a row for each score that every run has; the best of several runs is marked.

    Runs that copy too much cannot be the best.
    """
    tables = [{s["name"]: s for s in subject.scores} for subject in subjects]
    eligible = [not copies_too_much(subject) for subject in subjects]
    rows = []
    for name, first in tables[0].items():
        if any(name not in table for table in tables):
            continue
        values = [table[name]["value"] for table, may_win in zip(tables, eligible, strict=True) if may_win]
        better = first.get("better", "none")
        best = min(values) if values and better == "lower" else max(values) if values and better == "higher" else None
        cells = []
        for table, may_win in zip(tables, eligible, strict=True):
            score = table[name]
            interval = "" if not score.get("interval") else " ({:.3g} to {:.3g})".format(*score["interval"])
            cells.append(
                {"text": f"{score['value']:.4g}{interval}", "best": len(tables) > 1 and may_win and score["value"] == best}
            )
        details = first.get("details") or {}
        floor, rough = details.get("floor"), ", rough" if details.get("threshold_uncertain") else ""
        rows.append(
            {
                "name": name + rough,
                "cells": cells,
                "floor": f"{floor:.3g}" if isinstance(floor, int | float) else "",
                "replayed": f"{details['replayed']:.3g}" if isinstance(details.get("replayed"), int | float) else "",
                "better": {"lower": "lower", "higher": "higher"}.get(better, ""),
                "counts": f"{first['n_real']}, {first['n_fake']}",
            }
        )
    return rows


def copies_too_much(subject: Subject) -> bool:
    """Return whether so many samples of a run are copies that its other scores do not count."""
    return any(exceeds_copy_bound(s) for s in subject.scores if s["name"].startswith("copies["))
