"""Arrays and tensors that hold images: one reader for all files that keep them."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regraft.data.containers._labels import Labels
from regraft.data.images import ImageSet, Item
from regraft.data.layouts import CHANNELS, channel_axis_of_many, channels_last
from regraft.data.pixels import Pixels
from regraft.data.ranges import range_of


class Rows(Protocol):
    """An array, or what can be indexed like one by its first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


BLOCK = 64 << 20
"""Bytes of an array that are looked at together."""


def set_of_array(where: str, name: str, pixels: Rows, labels: Labels, notes: Sequence[str] = ()) -> ImageSet:
    """Make a set of the images in an array, which stays where it is: in a file or in memory, never twice.

    Args:
        where: the file.
        name: of the array in it, for the names of the images.
        pixels: (N, H, W), (N, H, W, C) or (N, C, H, W); uint8, or numbers of a range that :mod:`regraft.data.ranges` knows.
        labels: of the images.
        notes: what was assumed so far.

    Raises:
        DataError: if the shape or the range is that of no images.
    """
    about = f"{where}: {name} is {pixels.dtype} {pixels.shape}"
    # An array in a file is a set: (4, 28, 28) is four grey images and not one image of four channels.
    grey = len(pixels.shape) == 3 and pixels.shape[2] > max(CHANNELS) and 0 not in pixels.shape
    axis = None if grey else channel_axis_of_many(pixels.shape, about)
    found = range_of([pixels[:0]] if pixels.dtype == np.uint8 else _blocks(pixels), about)

    def read(i: int) -> Pixels:
        return found.to_bytes(channels_last(pixels[i], None if axis is None else axis - 1))

    items = tuple(Item(f"{name}[{i}]", functools.partial(read, i), labels.of(i)) for i in range(len(pixels)))
    said = [f"{name}: {found.text}"] if found.text else []
    return ImageSet(where, items, labels.classes, (*notes, *said, *labels.notes))


def _blocks(pixels: Rows) -> Iterator[NDArray[Any]]:
    """Go through an array some images at a time, so that one that lies in a file is never in memory as a whole."""
    step = max(1, BLOCK // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step]
