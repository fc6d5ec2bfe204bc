"""The idx files of MNIST and its kin, packed or not: images, and labels in a file beside them.

Source: Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits, "File formats".
"""

import math
import pathlib
import re
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container, check_unpacked, unpacked_limit
from regraft.data.images import ImageSet
from regraft.files.unpacked import DAMAGE, head_of, is_packed, open_unpacked

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Element types by the third byte of a file."""


class Idx(Container):
    """Images in an idx file."""

    summary: ClassVar[str] = "an idx file of images (MNIST)"
    order: ClassVar[int] = 20

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return _dimensions(head_of(path, head, 8)) is not None

    def is_beside(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.is_beside`."""
        return _dimensions(head_of(path, head, 8)) in (1, 2)

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`."""
        asked.refuse_part(path)
        pixels = _read(path)
        if pixels.ndim < 3:
            raise DataError(f"{path}: holds labels, {pixels.dtype} {pixels.shape}; name the file of images beside it")
        beside = _labels_of(path)
        if beside is None or asked.labels is False:
            return set_of_array(str(path), path.name, pixels, NO_LABELS)
        labels = read_labels(_read(beside), len(pixels), str(beside), asked.labels)
        return set_of_array(str(path), path.name, pixels, labels, (f"labels are those of {beside.name} beside it",))


def _dimensions(head: bytes) -> int | None:
    """Return the number of dimensions of an idx file by its first bytes, None for another file."""
    if len(head) < 8 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 4:
        return None
    return head[3]


def _read(path: pathlib.Path) -> NDArray[Any]:
    """Read one file: mapped if it is not packed, else unpacked once.

    Raises:
        DataError: if it is damaged, cut short, or too large.
    """
    try:
        with path.open("rb") as start:
            packed = is_packed(start.read(6))
        with open_unpacked(path, unpacked_limit(path)) as file:
            head = file.read(4)
            rank = _dimensions(head.ljust(8, b"\0"))
            sizes = file.read(4 * (rank or 0))
            if rank is None or len(sizes) != 4 * rank:
                raise DataError(f"{path}: not an idx file, which begins with its type and sizes")
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
            dtype = np.dtype(TYPES[head[2]])
            size = math.prod(shape) * dtype.itemsize
            check_unpacked(path, size, f"its array of shape {shape}")
            if packed:
                data = file.read(size)
            elif size and path.stat().st_size >= 4 + 4 * rank + size:
                return np.memmap(path, dtype, "r", 4 + 4 * rank, shape)
            else:
                data = b""
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path}: cannot be read, it is damaged or cut short ({error}); get the file again") from None
    if len(data) != size:
        raise DataError(f"{path}: cut short, its {shape} values need {size} bytes; get the file again")
    return np.frombuffer(data, dtype).reshape(shape)


def _labels_of(path: pathlib.Path) -> pathlib.Path | None:
    """Find the file of labels beside images: ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte``, packed or not."""
    name = re.sub(r"images?", lambda m: "labels" if m[0].endswith("s") else "label", path.name, count=1)
    name = re.sub(r"idx[34]", "idx1", name)
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    return next((path.with_name(n) for n in (name, plain, f"{plain}.gz") if path.with_name(n).is_file()), None)


PLUGIN = Idx()
