"""Data sets of numbered items: those of ``torch.utils.data`` and kin, and of Hugging Face, known by what they offer."""

import collections
import dataclasses
import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.given_labels import with_labels
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import Content, UnreadableImage
from regraft.data.rows import Ranges, Row, as_row, content_of, find_keys

MAX_DEPTH = 8
"""Data sets within data sets (subsets, concatenations) that are looked into for the names of classes."""

Keys = tuple[str, str | None]
"""Names of image and label in items that are dictionaries."""


def list_data_set(data: Any) -> ImageSet:
    """List the images of a data set.

    Every item is read once, for its label and for the range of its numbers, except where columns tell both.  Items are read
    again whenever they are needed, one at a time, for a data set may not bear several threads.

    Args:
        data: has a length and numbered items: images, tuples of an image and a label, or dictionaries.

    Raises:
        DataError: if it is empty, or an item holds no image.
    """
    n = len(data)
    where = f"data set {_name_of(data)} of {n} images"
    if n == 0:
        raise DataError(f"{where}: is empty")
    keys, names = keys_and_names(data)
    reader = _Reader(data, keys, where)
    labels = reader.labels_of_column(n) or reader.look_through(n)
    notes = [*reader.ranges.find(), *note_of_unused(reader.unused)]
    if reader.changes(n):
        notes.append(
            "the data set gives other pixels each time it is read (random transforms), so a stopped run cannot be resumed with "
            "it; leave such transforms out, since training mirrors and augments by itself"
        )
    items = tuple(Item(reader.title(k), functools.partial(reader.read, k)) for k in range(n))
    return labelled(ImageSet(where, items, notes=tuple(notes)), labels, names)


def keys_and_names(data: object) -> tuple[Keys | None, tuple[str, ...]]:
    """Return the names of image and label columns, if a data set has columns, and the names of its classes.

    Raises:
        DataError: if it has columns, and none of them holds images.
    """
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping):
        return None, _class_names(data)
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    image, label = find_keys(list(features))
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if pictures and image not in pictures:
        image = pictures[0]
    if classes and label not in classes:
        label = classes[0]
    if image is None:
        columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(f"data set {_name_of(data)}: no column of images among {columns}; rename it to image")
    names = getattr(features.get(label), "names", None) if label is not None else None
    return (image, label), tuple(map(str, names or ()))


def labelled(listed: ImageSet, labels: Sequence[object], names: Sequence[str]) -> ImageSet:
    """Return images with the labels that a data set gives; without them, and with a note, if they are no classes."""
    known = [label for label in labels if label is not None]
    if not known:
        return listed
    missing = len(labels) - len(known)
    if missing:
        note = f"{missing} of {len(labels)} items have no label, so labels are not used"
        return dataclasses.replace(listed, notes=(*listed.notes, note))
    try:
        return with_labels(listed, labels, names)
    except DataError as error:
        return dataclasses.replace(listed, notes=(*listed.notes, f"the data set's labels are not used: {error}"))


def note_of_unused(unused: Sequence[str | None]) -> list[str]:
    """Return a note on what items hold beside image and label."""
    counts = collections.Counter(text for text in unused if text)
    return [f"{count} of {len(unused)} items hold more, which is left out: {text}" for text, count in counts.most_common(3)]


class _Reader:
    """Read items of a data set, one at a time.

    Attributes:
        ranges: of the arrays among its items.
        unused: what each item that was looked through holds beside image and label.
    """

    def __init__(self, data: Any, keys: Keys | None, where: str) -> None:
        self.data, self.keys, self.where = data, keys, where
        self.ranges = Ranges(where)
        self.unused: list[str | None] = []
        self._lock = threading.Lock()

    def title(self, k: int) -> str:
        """Name of an item for messages."""
        return f"item {k}"

    def row(self, k: int) -> Row:
        """Fetch an item.

        Raises:
            UnreadableImage: if the data set fails, or the item holds no image.
        """
        with self._lock:
            try:
                item = self.data[k]
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
                raise UnreadableImage(f"{self.where}: item {k} cannot be read ({reason})") from error
        return as_row(item, f"{self.where}: item {k}", self.keys)

    def read(self, k: int) -> Content:
        """Return what an item is decoded from."""
        return content_of(self.row(k).image, f"{self.where}: item {k}", self.ranges)

    def labels_of_column(self, n: int) -> list[object] | None:
        """Return labels without reading images: where columns are there, and images are pictures with a range of their own."""
        if self.keys is None:
            return None
        image, label = self.keys
        if type(self.data.features[image]).__name__ != "Image" or not isinstance(self.row(0).image, Image.Image | Mapping):
            return None
        if label is None:
            return [None] * n
        try:
            column = list(self.data[label])
        except Exception:  # noqa: BLE001 - a data set that has no columns after all is read item by item
            return None
        return column if len(column) == n else None

    def look_through(self, n: int) -> list[object]:
        """Read every item for its label and the range of its numbers; return the labels.

        An item that cannot be read has the label of the one before; reading it again says what is wrong.

        Raises:
            DataError: if no item can be read, or one has a shape that is none of an image.
        """
        labels: list[object] = []
        failures: list[UnreadableImage] = []
        for k in range(n):
            try:
                row = self.row(k)
            except UnreadableImage as error:
                failures.append(error)
                labels.append(labels[-1] if labels else None)
                continue
            self.ranges.add(row.image, f"{self.where}: item {k}")
            if labels and len(failures) == len(labels):
                labels = [row.label] * len(labels)
            labels.append(row.label)
            self.unused.append(row.unused)
        if len(failures) == n:
            raise failures[0]
        return labels

    def changes(self, n: int) -> bool:
        """Return whether an item has other pixels when it is read again."""
        return any(not self._alike(k) for k in {0, n // 2})

    def _alike(self, k: int) -> bool:
        try:
            a, b = self.read(k), self.read(k)
        except UnreadableImage:
            return True
        if isinstance(a, bytes) or isinstance(b, bytes):
            return a == b
        x, y = np.asarray(a), np.asarray(b)
        return x.shape == y.shape and bool((x == y).all())


def _name_of(data: object) -> str:
    """Return the name of a data set: its own if it has one, else that of its type."""
    info = getattr(data, "info", None)
    own = getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)
    return str(own)[:100] if isinstance(own, str) and own else type(data).__name__


def _class_names(data: object) -> tuple[str, ...]:
    """Return the names of the classes of a data set, or of the one within it."""
    for _ in range(MAX_DEPTH):
        classes = getattr(data, "classes", None)
        if isinstance(classes, list | tuple) and classes and all(isinstance(name, str | tuple) for name in classes):
            return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in classes)
        parts = getattr(data, "datasets", None)
        data = parts[0] if isinstance(parts, list | tuple) and parts else getattr(data, "dataset", None)
    return ()
