"""NumPy archives: one array of images, and one of labels beside it."""

import functools
import pathlib
from typing import ClassVar

import numpy as np

from regraft.core.errors import DataError
from regraft.data.containers.base import MAX_UNPACKED, Container
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import Pixels
from regraft.files.npz import read_headers


class Npz(Container):
    """An .npz of images."""

    summary: ClassVar[str] = "an .npz of images"
    order: ClassVar[int] = 10

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return path.suffix.lower() == ".npz"

    def open(self, path: pathlib.Path, part: str | None) -> ImageSet:
        """See :meth:`Container.open`; ``part`` names an array."""
        arrays = read_headers(path)
        images = [k for k, a in arrays.items() if len(a.shape) in (3, 4) and k.split("_")[0] not in ("y", "labels")]
        name = part or next((k for k in ("x_train", "images", "x", "arr_0") if k in images), images[0] if images else None)
        if name is None or name not in arrays:
            contents = ", ".join(f"{k} {a.shape}" for k, a in arrays.items())
            raise DataError(f"{path}: no array of images {part or ''}; it holds {contents}")
        array = arrays[name]
        if array.dtype != np.uint8 or len(array.shape) not in (3, 4) or array.nbytes > MAX_UNPACKED:
            allowed = f"uint8, (N, H, W) or (N, H, W, C), and at most {MAX_UNPACKED >> 30} GB"
            raise DataError(f"{path}: {name} is {array}; images must be {allowed}")
        label_name = name.replace("x_", "y_") if name.startswith("x_") else {"x": "y", "images": "labels"}.get(name, "")
        label = arrays.get(label_name)
        if label is not None and len(label.shape) != 1:
            label = None
        if label is not None and (label.shape != array.shape[:1] or label.dtype.kind not in "iu"):
            raise DataError(
                f"{path}: {label_name} is {label}, not one integer per image of {name}; save class numbers, or images alone"
            )
        pixels, labels = array.read(), None if label is None else label.read()
        if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
            pixels = pixels.transpose(0, 2, 3, 1)
        numbers = [] if labels is None else sorted(set(labels.tolist()))
        table = {number: i for i, number in enumerate(numbers)}

        def read(i: int) -> Pixels:
            return np.asarray(pixels[i], dtype=np.uint8)

        items = tuple(
            Item(f"{name}[{i}]", functools.partial(read, i), None if labels is None else table[int(labels[i])])
            for i in range(len(pixels))
        )
        return ImageSet(str(path), items, tuple(str(number) for number in numbers))


PLUGIN = Npz()
