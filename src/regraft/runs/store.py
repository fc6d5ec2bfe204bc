"""Log and checkpoints of a run, on disk or, without a folder, in memory."""

import json
import pathlib
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from regraft.core.errors import TrainingError
from regraft.files.atomic import replacing, write_tensors
from regraft.runs.folder import RunFolder

STATE_VERSION = 1


class RunStore:
    """Log and checkpoints of one run."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        """Use a run folder; with None nothing is written and nothing can be resumed."""
        self.folder = folder
        self._files = None if folder is None else RunFolder(folder)
        self._best: dict[str, Tensor] | None = None

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the log."""
        if self._files is not None:
            path = self._files.log
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, sort_keys=True) + "\n")

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, then remove best generators that it no longer names."""
        if self._files is None:
            return
        log = self._files.log
        log_bytes = log.stat().st_size if log.exists() else 0
        with replacing(self._files.checkpoint) as file:
            torch.save({"version": STATE_VERSION, "log_bytes": log_bytes, **state}, file)
        current_best = self._files.best(state["position"]["best_step"])
        for path in self._files.saved_bests():
            if path != current_best:
                path.unlink()

    def load_state(self, cut: bool = True) -> dict[str, Any] | None:
        """Read the checkpoint; None if there is none.

        Args:
            cut: whether to remove the lines that the log gained after the checkpoint.

        Raises:
            TrainingError: if the checkpoint is damaged or of another version.
        """
        if self._files is None or not self._files.checkpoint.exists():
            return None
        path, log = self._files.checkpoint, self._files.log
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            version = state["version"]
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            raise TrainingError(f"{path}: the saved state is damaged ({type(error).__name__}); start a new run") from None
        if version != STATE_VERSION:
            raise TrainingError(f"{path}: state version {version}, this regraft reads {STATE_VERSION}")
        if cut and log.exists():
            with log.open("r+b") as file:
                file.truncate(min(state["log_bytes"], log.stat().st_size))
        return state

    def save_best(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Keep the tensors of a generator as the best so far."""
        self._best = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        if self._files is not None:
            write_tensors(self._files.best(step), self._best)

    def load_best(self, step: int) -> dict[str, Tensor]:
        """Return the tensors of the best generator, kept at ``step``.

        Raises:
            TrainingError: if there is no run folder and no generator was kept.
        """
        if self._files is not None:
            return safetensors.torch.load_file(self._files.best(step))
        if self._best is None:
            raise TrainingError("no best generator was kept")
        return self._best
