"""Files written whole or not at all: a temporary file, an fsync and a rename."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import safetensors.torch
from torch import Tensor


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place once written whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: pathlib.Path, data: Any) -> None:
    """Write JSON atomically, keys sorted."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


def write_tensors(path: pathlib.Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write safetensors atomically."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as file:
        file.write(safetensors.torch.save(whole, metadata))


def write_with(path: pathlib.Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file atomically with a function that takes an open file."""
    with replacing(path) as file:
        write(file)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
