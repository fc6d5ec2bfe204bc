"""Print the events of a run: as a live bar on a terminal, else as plain lines."""

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOSSES = ("critic_loss", "generator_loss", "miner_loss", "reconstruction", "reciprocity", "loss", "pixels", "features")
NOT_PRINTED = {"kmmd_error", "kmmd_floor", "critic_train", "critic_held", "critic_fake"}
"""Measurements that only the log and the page hold."""
MEASURES = {"kmmd_target": "kmmd to targets", "frechet_target": "frechet to targets"}


class Reporter:
    """Prints events to the error stream, so that the output of ``--json`` stays clean."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.started: tuple[float, int] | None = None
        self.last_line = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Print one event; kinds that are not known are left out."""
        if self.quiet:
            return
        kind = event.get("event")
        if kind == "step":
            self._step(event)
        elif kind == "observation":
            shown = {k: v for k, v in event["held_out"].items() if isinstance(v, int | float) and k not in NOT_PRINTED}
            values = ", ".join(f"{_measure_name(k, event['held_out'].get('extractor'))} {v:.3g}" for k, v in shown.items())
            self.say(f"step {event['step']}: {values}{'  (kept so far)' if event['best'] else ''}")
            if event.get("stop"):
                self.say(f"stopping early: {event['stop']}")
        elif kind == "phase":
            self.say(f"{event['phase']}: {event['steps']} steps")
        elif kind == "download":
            self._download(event)
        elif kind == "note":
            self.say(f"note: {event['text']}")
        elif kind == "findings":
            for name, value in event["findings"].items():
                self.say(f"{name.replace('_', ' ')}: {value}")
        elif kind == "kept":
            self.say(f"kept the generator of step {event['step']} of {event['of']}; later ones match the targets less well")
        elif kind == "stopping":
            self.say("stopping after this step; press Ctrl-C again to stop at once without saving")
        elif kind == "report":
            self.say(f"report: {event['path']}")
        elif kind == "saved":
            self.say(f"adapter of {event['values']:,} values in {event['folder']}")

    def _step(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        step, total = event["step"], event["of"]
        if self.started is None:
            self.started = (now, step)
        speed = (step - self.started[1]) / (now - self.started[0]) if now > self.started[0] and step > self.started[1] else None
        probabilities = " ".join(f"{event[f'p{k}']:.2f}" for k in range(64) if f"p{k}" in event)
        losses = "  ".join(f"{k.removesuffix('_loss')} {event[k]:.3f}" for k in LOSSES if k in event)
        losses += f"  p {probabilities}" if probabilities else ""
        if self.live:
            bar, task = self._open_bar(total)
            bar.update(task, completed=step, losses=losses, phase=event["phase"], speed=f"{speed:.1f} steps/s" if speed else "")
            return
        if now - self.last_line >= 5 or step == total:
            self.last_line = now
            pace = f", {speed:.1f} steps/s, {_duration((total - step) / speed)} left" if speed else ""
            self.say(f"step {step}/{total} {event['phase']}: {losses}{pace}")

    def _download(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        received, total = event["bytes"], event["of"]
        if now - self.last_line >= 2 or received == total:
            self.last_line = now
            share = f" of {total / 1e6:.1f} MB ({received / total:.0%})" if total else " MB"
            self.say(f"downloading {event['source']}: {event['file']}, {received / 1e6:.1f}{share}")

    def _open_bar(self, total: int) -> "tuple[Progress, TaskID]":
        """Return the bar and its task; make them at the first call."""
        if self.bar is not None and self.task is not None:
            return self.bar, self.task
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

        columns: list[str | ProgressColumn] = ["{task.fields[phase]}", BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[speed]}"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}")]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=total, losses="", phase="", speed="")
        self.bar.start()
        return self.bar, self.task

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _measure_name(key: str, extractor: str | None) -> str:
    """Return a measurement's name with its features: all extractors for the kernel, pixels for copies, else the first one."""
    if key == "copies":
        return "copies [pixels]"
    features = extractor if key.startswith("kmmd") or extractor is None else extractor.partition("+")[0]
    return MEASURES.get(key, key) + (f" [{features}]" if features else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
