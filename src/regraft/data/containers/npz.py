"""NumPy archives: one array of images, and one of labels beside it."""

import pathlib
from collections.abc import Mapping
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._choice import Chosen, choose_arrays
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container, check_unpacked
from regraft.data.images import ImageSet
from regraft.data.joining import join_sets
from regraft.files.npz import StoredArray, read_headers

NUMBERS = "biuf"
"""Kinds of arrays whose values can be pixels."""
MAX_LABELS = 256 << 20
"""Bytes of labels that are read."""


class Npz(Container):
    """An .npz of images."""

    summary: ClassVar[str] = "an .npz of images"
    order: ClassVar[int] = 10

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return path.suffix.lower() == ".npz"

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is an array or a split."""
        arrays = read_headers(path)
        chosen = choose_arrays(str(path), arrays, asked)
        for choice in chosen:
            _check(path, arrays, choice, asked)
        return join_sets(str(path), [_opened(path, arrays, choice, asked) for choice in chosen])


def _check(path: pathlib.Path, arrays: Mapping[str, StoredArray], choice: Chosen, asked: Asked) -> None:
    """Refuse arrays before they are unpacked if they can be no images, or no labels of these."""
    array = arrays[choice.images]
    if array.dtype.kind not in NUMBERS or len(array.shape) not in (3, 4):
        raise DataError(f"{path}: {choice.images} is {array}; images must be numbers, (N, H, W), (N, H, W, C) or (N, C, H, W)")
    check_unpacked(path, array.nbytes, f"{choice.images} is {array}, which")
    label = arrays[choice.labels] if choice.labels and asked.labels is not False else None
    if label is not None and (
        label.shape[:1] != array.shape[:1] or label.dtype.kind not in NUMBERS + "US" or label.nbytes > MAX_LABELS
    ):
        raise DataError(
            f"{path}: {choice.labels} is {label}, not one integer per image of {choice.images}; save class numbers, or go on "
            "without labels with --no-labels"
        )


def _opened(path: pathlib.Path, arrays: Mapping[str, StoredArray], choice: Chosen, asked: Asked) -> ImageSet:
    """Read one array of images and its labels."""
    pixels, labels = arrays[choice.images].read(), NO_LABELS
    if choice.labels and asked.labels is not False:
        labels = read_labels(arrays[choice.labels].read(), len(pixels), f"{path}: {choice.labels}", asked.labels)
    return set_of_array(str(path), choice.images, pixels, labels, choice.notes)


PLUGIN = Npz()
