"""What one item of a list or a data set holds: an image and perhaps its label, in any of the forms that people have."""

import contextlib
import dataclasses
import io
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from regraft.data.folder import read_file
from regraft.data.layouts import channel_axis_of_one, channels_last
from regraft.data.pixels import Content, Pixels, UnreadableImage
from regraft.data.ranges import Extremes, ValueRange, find_range

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "jpg", "jpeg", "png", "webp", "picture", "photo")
"""Names of an image in an item that is a dictionary, the first that is there."""
PATH_KEYS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image_file")
"""Names of an image's path, where there is no image."""
LABEL_KEYS = ("label", "labels", "class", "target", "targets", "y", "cls", "category")
"""Names of a label in an item that is a dictionary, the first that is there."""

_LOADING = threading.Lock()
"""Held while a picture loads its pixels, since one that occurs twice would be loaded by two threads."""


@dataclasses.dataclass(frozen=True)
class Row:
    """An item.

    Attributes:
        image: an array, tensor, picture, path, or the bytes of a file.
        label: as the item holds it, or None.
        unused: what else the item holds, in words, or None.
    """

    image: object
    label: object = None
    unused: str | None = None


def as_row(item: object, name: str, keys: tuple[str, str | None] | None = None) -> Row:
    """Find image and label in an item.

    Args:
        item: an image; a pair of an image and its label; or a dictionary.
        name: of the item, for errors.
        keys: names of image and label in a dictionary, where these are known.

    Raises:
        UnreadableImage: if it holds no image.
    """
    if isinstance(item, Mapping) and not _is_file_record(item):
        return _row_of_mapping(item, name, keys)
    if isinstance(item, tuple | list) and item and not _is_numbers(item):
        image, *rest = item
        if not is_image(image):
            raise UnreadableImage(f"{name}: begins with {kind_of(image)}, where an image is expected")
        label = rest[0] if rest and is_label(rest[0]) else None
        unused = rest[1:] if label is not None else rest
        return Row(image, label, ", ".join(map(kind_of, unused)) or None)
    if not is_image(item):
        raise UnreadableImage(
            f"{name}: is {kind_of(item)}; an image is a PIL image, an array, a tensor, a path, or the bytes of a file"
        )
    return Row(item)


def is_image(value: object) -> bool:
    """Return whether a value may be an image."""
    if isinstance(value, Image.Image | str | os.PathLike | bytes | bytearray | memoryview):
        return True
    if isinstance(value, Mapping):
        return _is_file_record(value)
    if isinstance(value, list | tuple):
        return _is_numbers(value)
    return isinstance(value, io.IOBase) or (hasattr(value, "__array__") and len(shape_of(value)) >= 2)


def is_label(value: object) -> bool:
    """Return whether a value may be a label: a number, a name, or a row of numbers."""
    if isinstance(value, str | int | float | np.generic):
        return True
    return hasattr(value, "__array__") and not isinstance(value, Image.Image) and len(shape_of(value)) <= 1


def shape_of(value: object) -> tuple[int, ...]:
    """Return the shape of an array or tensor."""
    return tuple(int(side) for side in getattr(value, "shape", ()))


def kind_of(value: object) -> str:
    """Return in words what a value is."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {shape_of(value)}"
    return type(value).__name__


def to_array(value: object, name: str) -> NDArray[Any]:
    """Return an array or tensor as an array, without a copy where that is possible.

    Raises:
        UnreadableImage: if it cannot be one.
    """
    try:
        if isinstance(value, Tensor):
            tensor = value.detach().cpu().resolve_conj().resolve_neg()
            numpy: NDArray[Any] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
            return numpy
        array = np.asarray(value)
    except Exception as error:  # noqa: BLE001 - sparse and quantised tensors, and ragged lists, raise many kinds
        reason = " ".join(str(error).split())[:120]
        raise UnreadableImage(f"{name}: {kind_of(value)} cannot be read as an array ({reason})") from None
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise UnreadableImage(f"{name}: is an array with masked pixels; fill these first, as array.filled(0) does")
    return array


class Ranges:
    """The ranges of all arrays of a list or data set: integers and floats each have one."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._seen: dict[str, Extremes] = {}
        self._found: dict[str, ValueRange] = {}

    def add(self, image: object, name: str) -> None:
        """Take an image into account, and check that its shape is one of an image.

        Raises:
            DataError: if its shape is none.
        """
        if not is_numeric(image):
            return
        array = to_array(image, name)
        channel_axis_of_one(array.shape, name)
        self._seen.setdefault(_group_of(array), Extremes())
        if array.dtype != np.uint8:
            self._seen[_group_of(array)].add(array)

    def find(self) -> list[str]:
        """Find the ranges; return a note on each.

        Raises:
            DataError: if the numbers are no pixels.
        """
        for group, seen in self._seen.items():
            dtype = seen.dtype or np.dtype(np.uint8)
            self._found[group] = find_range(dtype, seen.low, seen.high, self.where)
        return [found.text for found in self._found.values() if found.text is not None]

    def to_pixels(self, image: object, name: str) -> Pixels:
        """Return an array or tensor as pixels (H, W) or (H, W, C).

        Raises:
            UnreadableImage: if it is of a kind that was not there when the ranges were found.
        """
        array = to_array(image, name)
        found = self._found.get(_group_of(array)) or (ValueRange(0, 255, None) if array.dtype == np.uint8 else None)
        if found is None:
            raise UnreadableImage(f"{name}: holds {array.dtype} now, and did not when it was first read")
        return found.to_bytes(channels_last(array, channel_axis_of_one(array.shape, name)))


def is_numeric(image: object) -> bool:
    """Return whether an image is an array, a tensor or nested lists of numbers."""
    return not isinstance(image, Image.Image | str | os.PathLike | bytes | bytearray | memoryview | Mapping | io.IOBase)


def content_of(image: object, name: str, ranges: Ranges) -> Content:
    """Return what an image is decoded from.

    Args:
        image: what the item holds.
        name: of the item, for errors.
        ranges: of all arrays of the list or data set.

    Raises:
        UnreadableImage: if it cannot be read.
    """
    if isinstance(image, Image.Image):
        with _LOADING, contextlib.suppress(Exception):
            image.load()  # a damaged one raises again where it is decoded
        return image
    if isinstance(image, Mapping):
        stored = image.get("bytes")
        return bytes(stored) if stored is not None else read_file(pathlib.Path(str(image.get("path"))))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return read_file(pathlib.Path(image))
    if isinstance(image, io.IOBase):
        with _LOADING:
            image.seek(0)
            data: bytes = image.read()
            return data
    return ranges.to_pixels(image, name)


def _row_of_mapping(item: Mapping[Any, Any], name: str, keys: tuple[str, str | None] | None) -> Row:
    # A transform may give rows other names than those of the columns.
    image_key, label_key = keys if keys is not None and keys[0] in item else find_keys(list(item))
    if image_key is None or image_key not in item:
        known = ", ".join(map(str, list(item)[:10]))
        raise UnreadableImage(f"{name}: a dictionary with {known}; the image is expected under {', '.join(IMAGE_KEYS[:3])}")
    if not is_image(item[image_key]):
        raise UnreadableImage(f"{name}: {image_key} is {kind_of(item[image_key])}, where an image is expected")
    label = item.get(label_key) if label_key is not None else None
    return Row(
        item[image_key], label if is_label(label) else None, None if is_label(label) or label is None else kind_of(label)
    )


def find_keys(names: Sequence[object]) -> tuple[str | None, str | None]:
    """Return which of the names of a dictionary or table are those of the image and of the label; None where there is none."""
    by_lower = {name.lower(): name for name in names if isinstance(name, str)}
    image = next((by_lower[key] for key in (*IMAGE_KEYS, *PATH_KEYS) if key in by_lower), None)
    label = next((by_lower[key] for key in LABEL_KEYS if key in by_lower), None)
    return image, label


def _is_file_record(item: Mapping[Any, Any]) -> bool:
    """Return whether a dictionary is an image that Hugging Face data sets have not decoded."""
    return set(item) <= {"bytes", "path"} and any(value is not None for value in item.values())


def _is_numbers(item: Sequence[Any]) -> bool:
    """Return whether nested lists hold rows of numbers: an image, and no pair of an image and a label."""
    row = item[0] if item else None
    return isinstance(row, list | tuple) and bool(row) and isinstance(row[0], int | float | list | tuple) and _deep_number(row)


def _deep_number(value: Any) -> bool:
    for _ in range(4):
        if isinstance(value, bool | int | float):
            return True
        if not isinstance(value, list | tuple) or not value:
            return False
        value = value[0]
    return False


def _group_of(array: NDArray[Any]) -> str:
    return "uint8" if array.dtype == np.uint8 else array.dtype.kind.replace("u", "i")
