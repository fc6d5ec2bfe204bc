"""Write files whole or not at all: a temporary file in the same folder, an fsync and a rename.

Everything that regraft writes goes through these functions, with two exceptions: a run's log is appended to
(``regraft.runs.store``), and a download grows in a part file (``regraft.files.download``).

* A kill or a power cut leaves the file as it was before, or whole.  It may leave a temporary file ``.NAME.*.tmp`` beside it,
  which nothing reads and which may be deleted.
* A full disk or any other error raises, the temporary file is deleted, and the file is as it was before.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import safetensors.torch
from torch import Tensor


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends; if the block raises, ``path`` stays as it is.

    Folders on the way are made.

    Raises:
        OSError: if the disk is full, or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a text file in UTF-8, as :func:`replacing` does; what is no Unicode, as in names of files, is escaped."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: pathlib.Path, data: Any) -> None:
    """Write JSON with sorted keys, as :func:`replacing` does."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


def write_tensors(path: pathlib.Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write safetensors, as :func:`replacing` does; tensors on a device are copied to the CPU first."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as file:
        file.write(safetensors.torch.save(on_cpu, metadata))


def _umask() -> int:
    """Permissions that new files of this process lack; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
