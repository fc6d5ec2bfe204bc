"""A run folder on disk: every write is a temporary file, an fsync and a rename."""

import json
import pathlib
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from regraft.core.errors import TrainingError
from regraft.files.atomic import replacing, write_tensors

STATE_VERSION = 1


class RunStore:
    """Log and checkpoints of one run."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        """Use ``folder``; with None nothing is written and nothing can be resumed."""
        self.folder = folder
        self._best: dict[str, Tensor] | None = None

    @property
    def _state_path(self) -> pathlib.Path | None:
        return None if self.folder is None else self.folder / "state" / "last.pt"

    @property
    def log_path(self) -> pathlib.Path | None:
        """Where the log is."""
        return None if self.folder is None else self.folder / "metrics.jsonl"

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the log."""
        if self.log_path is not None:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, sort_keys=True) + "\n")

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, then drop best generators that it no longer names."""
        if self.folder is None or self._state_path is None or self.log_path is None:
            return
        size = self.log_path.stat().st_size if self.log_path.exists() else 0
        whole = {"version": STATE_VERSION, "log_bytes": size, **state}
        with replacing(self._state_path) as file:
            torch.save(whole, file)
        best = state["position"]["best_step"]
        for path in self.folder.glob("state/best-*.safetensors"):
            if path.name != f"best-{best}.safetensors":
                path.unlink()

    def load_state(self, cut: bool = True) -> dict[str, Any] | None:
        """Read the checkpoint; None if there is none.

        Args:
            cut: whether the log is cut back to it.

        Raises:
            TrainingError: if it is damaged or of another version.
        """
        if self.folder is None or self._state_path is None or not self._state_path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._state_path, map_location="cpu", weights_only=True)
            version = state["version"]
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            raise TrainingError(
                f"{self._state_path}: the saved state is damaged ({type(error).__name__}); start a new run"
            ) from None
        if version != STATE_VERSION:
            raise TrainingError(f"{self._state_path}: state version {version}, this regraft reads {STATE_VERSION}")
        if cut and self.log_path is not None and self.log_path.exists():
            with self.log_path.open("r+b") as file:
                file.truncate(min(state["log_bytes"], self.log_path.stat().st_size))
        return state

    def save_best(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Keep a generator as the best so far."""
        self._best = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        if self.folder is not None:
            write_tensors(self.folder / "state" / f"best-{step}.safetensors", self._best)

    def load_best(self, step: int) -> dict[str, Tensor]:
        """The best generator, kept at ``step``."""
        if self.folder is None:
            if self._best is None:
                raise TrainingError("no best generator was kept")
            return self._best
        return safetensors.torch.load_file(self.folder / "state" / f"best-{step}.safetensors")
