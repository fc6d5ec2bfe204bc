"""Print results: tables, facts, verdicts and JSON on the output stream, progress on the error stream."""

import contextlib
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.cli.progress import Reporter

if TYPE_CHECKING:  # imported at runtime they would load torch
    from regraft.evaluation.verdict import Verdict
    from regraft.metrics.base import Score

DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "none": ""}


def print_json(data: object) -> None:
    """Print plain data as JSON."""
    print(json.dumps(data, indent=2))


@contextlib.contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Open a reporter of progress, and close it whatever happens."""
    report = Reporter(quiet)
    try:
        yield report
    finally:
        report.close()


def download_public(*references: str) -> None:
    """Download the public sources among some references, with progress."""
    from regraft.verbs.load import find, is_public

    with reporting(quiet=False) as report:
        for reference in references:
            if is_public(reference):
                find(reference, report)


def print_scores(scores: "Sequence[Score]") -> None:
    """Print scores as a table."""
    if not scores:
        print("nothing measured: no images were held out")
        return
    rows = [score.to_dict() for score in scores]
    width = max(len(row["name"]) for row in rows)
    print(f"{'':<{width}}  {'value':>10}   {'95 % interval':<22} {'real images':<12} {'replayed':<9}")
    for row in rows:
        details = row["details"]
        interval = "" if row["interval"] is None else f"{row['interval'][0]:.4g} to {row['interval'][1]:.4g}"
        replayed = f"{details['replayed']:.4g}" if "replayed" in details else "-"
        counts = f"n real {row['n_real']}, generated {row['n_fake']}" if row["n_real"] else f"n generated {row['n_fake']}"
        doubt = "; rough, its threshold rests on so few unseen images" if details.get("threshold_uncertain") else ""
        numbers = f"{row['value']:10.4g}   {interval:<22} {_real_value(details):<12} {replayed:<9} {counts}"
        print(f"{row['name']:<{width}}  {numbers}; {DIRECTIONS[row['better']]}{doubt}".rstrip("; "))


def _real_value(details: dict[str, Any]) -> str:
    """Return what real images score, with their number if that is smaller."""
    value = details.get("floor")
    value = details.get("real_value") if value is None else value
    if value is None:
        return "-"
    return f"{value:.4g}" + (f" (n {details['floor_n']})" if "floor_n" in details and "floor_note" in details else "")


def print_verdict(verdict: "Verdict | None") -> None:
    """Print a verdict with its cautions, if there is one."""
    if verdict is None:
        return
    print(f"verdict: {verdict.sentence}")
    for caution in verdict.cautions:
        print(f"  but: {caution}")


def print_facts(facts: dict[str, Any]) -> None:
    """Print plain data, one fact a line, without those that are empty."""
    for name, value in facts.items():
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            print(f"{name}:")
            for line in value:
                print(f"  - {line}")
        elif isinstance(value, dict) and value:
            # Only long groups of settings are broken: a name, digest or address must stay whole to be copied.
            line = f"{name}: " + ", ".join(f"{k} {v}" for k, v in value.items())
            print(textwrap.fill(line, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
        elif value not in (None, [], {}, ()):
            print(f"{name}: {value}")
