"""The batches of CIFAR-10, CIFAR-100 and small ImageNets, as pickles and as binary files.

Source: A. Krizhevsky: The CIFAR-10 and CIFAR-100 datasets, "Dataset layout"; the layout of downsampled ImageNet is the same.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet
from regraft.files.array_pickles import read_arrays

LABELS = ("labels", "fine_labels", "coarse_labels")
NAMES = {"labels": ("label_names",), "fine_labels": ("fine_label_names",), "coarse_labels": ("coarse_label_names",)}
"""Keys under which ``batches.meta`` and ``meta`` name classes."""
META = ("batches.meta", "meta")
ROW = 32 * 32 * 3
BINARY = {ROW + 1: 10, ROW + 2: 100}
"""Bytes of an image with its labels in the binary files, and the number of classes of its last label."""
HEAD_OF_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Cifar(Container):
    """A batch of CIFAR."""

    summary: ClassVar[str] = "a batch of CIFAR-10 or CIFAR-100"
    order: ClassVar[int] = 40

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        if head.startswith(HEAD_OF_PICKLE):
            start = _start(path)
            ours = b"data" in start and not any(package in start for package in (b"torch_utils", b"dnnlib", b"tfutil"))
            return ours and path.suffix.lower() in ("", ".pkl", ".pickle", ".p")
        return _row_of(path, head) is not None

    def is_beside(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.is_beside`."""
        return path.name in META

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is one of several kinds of labels."""
        with path.open("rb") as file:
            head = file.read(512)
        return _open_pickle(path, asked) if head.startswith(HEAD_OF_PICKLE) else _open_binary(path, head, asked)


def _start(path: pathlib.Path) -> bytes:
    """Return the ends of a pickle; the name of the images is near one of them."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
        file.seek(max(0, path.stat().st_size - (1 << 22)))
        return start + file.read()


def _open_pickle(path: pathlib.Path, asked: Asked) -> ImageSet:
    content = read_arrays(path)
    data = content.get("data")
    if not isinstance(data, np.ndarray) or data.ndim not in (2, 3, 4):
        found = ", ".join(
            f"{name} {getattr(value, 'shape', type(value).__name__)}" for name, value in list(content.items())[:8]
        )
        raise DataError(f"{path}: no images under the name data, as CIFAR has them; it holds {found}")
    pixels = _as_images(path, data) if data.ndim == 2 else data
    there = [name for name in LABELS if isinstance(content.get(name), list | np.ndarray)]
    if asked.part is not None and asked.part not in there:
        raise DataError(f"{path}: no labels {asked.part}; it holds {', '.join(there) or 'none'}")
    kind = asked.part or next(iter(there), None)
    if kind is None:
        return set_of_array(str(path), path.name, pixels, NO_LABELS)
    names, notes = _names(path, kind)
    labels = read_labels(content[kind], len(pixels), f"{path}: {kind}", asked.labels, names)
    others = [name for name in there if name != kind]
    if others and asked.part is None and asked.labels is not False:
        notes.append(f"labels are {kind}, and not {', '.join(others)}; name others behind a colon, as in FILE:{others[0]}")
    return set_of_array(str(path), path.name, pixels, labels, notes)


def _as_images(path: pathlib.Path, rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows of red, then green, then blue values as images (N, 3, H, H)."""
    side = math.isqrt(rows.shape[1] // 3)
    if side < 1 or 3 * side * side != rows.shape[1]:
        raise DataError(f"{path}: data is {rows.dtype} {rows.shape}; a row of a square colour image has 3 x side x side values")
    return rows.reshape(len(rows), 3, side, side)


def _names(path: pathlib.Path, kind: str) -> tuple[Sequence[str], list[str]]:
    """Return the names of classes in the file beside a batch, and a note that says so."""
    for meta in (path.with_name(name) for name in META):
        if meta.is_file() and meta.stat().st_size < 1 << 20:
            names = next((n for key, n in read_arrays(meta).items() if key in NAMES[kind] and isinstance(n, list)), [])
            if names and all(isinstance(name, str) for name in names):
                return names, [f"names of classes are those of {meta.name} beside it"]
    return (), []


def _row_of(path: pathlib.Path, head: bytes) -> int | None:
    """Return the bytes of an image with its labels in a binary batch; None if the file is none."""
    if path.suffix.lower() != ".bin" or not head:
        return None
    size = path.stat().st_size
    for row, classes in BINARY.items():
        if size and size % row == 0 and head[row - ROW - 1] < classes:
            return row
    return None


def _open_binary(path: pathlib.Path, head: bytes, asked: Asked) -> ImageSet:
    row = _row_of(path, head)
    if row is None:
        raise DataError(f"{path}: not a binary batch of CIFAR, of {ROW + 1} or {ROW + 2} bytes per image")
    asked.refuse_part(path)
    rows = np.memmap(path, np.uint8, "r").reshape(-1, row)
    fine, classes = rows[:, row - ROW - 1], BINARY[row]
    if fine.max() >= classes:
        raise DataError(f"{path}: not a binary batch of CIFAR: it has the label {fine.max()}, and there are {classes} classes")
    names: list[str] = []
    for meta in (path.with_name(name) for name in ("batches.meta.txt", "fine_label_names.txt")):
        if meta.is_file() and meta.stat().st_size < 1 << 16:
            names = meta.read_text("utf-8", "replace").split()
    labels = read_labels(np.asarray(fine), len(rows), f"{path}: its labels", asked.labels, names)
    return set_of_array(str(path), path.name, rows[:, row - ROW :].reshape(-1, 3, 32, 32), labels)


PLUGIN = Cifar()
