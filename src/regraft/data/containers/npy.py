"""NumPy's .npy files: one array of images, and labels in a file beside it."""

import pathlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._choice import is_label_name, labels_beside
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet

MAGIC = b"\x93NUMPY"


class Npy(Container):
    """An .npy of images."""

    summary: ClassVar[str] = "an .npy of images"
    order: ClassVar[int] = 10

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return head.startswith(MAGIC)

    def is_beside(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.is_beside`."""
        return is_label_name(path.stem)

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`."""
        asked.refuse_part(path)
        pixels = _mapped(path)
        if pixels.ndim not in (3, 4) and is_label_name(path.stem):
            raise DataError(f"{path}: holds labels, {pixels.dtype} {pixels.shape}; name the file of images beside it")
        beside = {p.stem: p for p in sorted(path.parent.glob("*.npy"))[:1000]}
        name = labels_beside(path.stem, beside)
        if name is None or asked.labels is False:
            return set_of_array(str(path), path.stem, pixels, NO_LABELS)
        labels = read_labels(np.asarray(_mapped(beside[name])), len(pixels), str(beside[name]), asked.labels)
        return set_of_array(str(path), path.stem, pixels, labels, (f"labels are those of {beside[name].name} beside it",))


def _mapped(path: pathlib.Path) -> NDArray[Any]:
    """Open an array that stays in its file.

    Raises:
        DataError: if it is damaged, or holds anything but numbers and texts.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - a damaged header raises many kinds
        objects = "allow_pickle" in str(error) or "Python objects" in str(error)
        if objects:
            reason = "it holds Python objects, which are never read; save one plain array of numbers"
        else:
            reason = f"it is damaged or cut short ({' '.join(str(error).split())[:150]})"
        raise DataError(f"{path}: cannot be read as an array; {reason}") from None
    if array.dtype.kind not in "biufUS":
        raise DataError(f"{path}: is {array.dtype} {array.shape}; images are numbers, (N, H, W), (N, H, W, C) or (N, C, H, W)")
    return array


PLUGIN = Npy()
