"""Images that are given from Python: arrays, tensors, lists, data sets and iterators, listed like those of a folder.

Nothing is copied: an image of the set refers to what was given, and decoding it makes the only copy.  Iterators are read once
and what they give is kept; items of a data set are fetched each time they are needed.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import data_sets, kinds
from regraft.data.folder import read_file, read_head
from regraft.data.given_labels import with_labels
from regraft.data.images import ImageSet, Item
from regraft.data.layouts import channel_axis_of_many, channels_last
from regraft.data.listing import list_images
from regraft.data.patterns import is_pattern
from regraft.data.pixels import Pixels, UnreadableImage
from regraft.data.ranges import ValueRange, range_of
from regraft.data.rows import Ranges, Row, as_row, content_of, find_keys, is_numeric, kind_of, shape_of, to_array

MAX_ITEMS = 1_000_000
"""Items that are taken from an iterator; one that goes on is taken for an endless one."""
BLOCK = 64
"""Images of an array that are looked at together."""

_DESCRIPTION = re.compile(r"(array|tensor) \([\d, ]+\)|(list|iterator) of \d+ images|data set .{0,200} of \d+ images")


class MapDataset(Protocol):
    """A data set of numbered items, as those of ``torch.utils.data`` and of Hugging Face."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


GivenImages = ImageSet | NDArray[Any] | Tensor | Image.Image | Mapping[str, Any] | MapDataset | Iterable[object]
"""Images as Python users hold them."""


def is_description(text: str) -> bool:
    """Return whether a text is what a run's settings say of images that were given from Python."""
    return _DESCRIPTION.fullmatch(text) is not None


def short_name(images: str) -> str:
    """Return a name for the images of a run that can be that of a folder.

    Args:
        images: a path, a pattern, or the description of images that were given from Python.
    """
    if is_description(images):
        word, _, _ = images.removeprefix("data set ").partition(" of " if images.startswith("data set ") else " ")
        return re.sub(r"[^\w.-]+", "-", word).strip("-.") or "images"
    path = pathlib.Path(images.partition(".npz:")[0])
    path = path if path.name not in ("", "..") else path.resolve()  # of "." and "..", the name that the folder has
    fixed = [part for part in path.parts if not is_pattern(part)]
    name = fixed[-1].removesuffix(".zip").removesuffix(".npz").strip("/") if fixed else ""
    return name.replace(":", "-") or "images"


def list_given(given: GivenImages, labels: bool | None = None) -> ImageSet:
    """List images that were given from Python.

    Args:
        given: an array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W); a list, tuple or iterator of PIL images, arrays,
            tensors, paths, bytes, or pairs of these and a label; batches of a loader; a data set whose items are such; or a
            dictionary or table with a column of images and one of labels.
        labels: for paths, True to take their folders for classes even where these look like parts of one set.

    Raises:
        DataError: saying what was got, and what is allowed.
    """
    if isinstance(given, ImageSet):
        return given
    images: Any = given  # known by what it offers, for most of these types are of packages that regraft does not need
    if isinstance(images, Image.Image | bytes | bytearray):
        raise DataError(f"{kind_of(images)}: is one image; give a list of several")
    if not isinstance(images, Tensor) and hasattr(images, "columns") and hasattr(images, "to_numpy"):
        return _list_columns({str(name): images[name] for name in images.columns})
    if hasattr(images, "to_numpy"):
        images = images.to_numpy()
    if isinstance(images, Mapping):
        return _list_mapping(images)
    if isinstance(images, tuple) and len(images) == 2 and _is_array(images[0]) and _are_labels_of(images[0], images[1]):
        return with_labels(list_given(images[0]), images[1])
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUS":
        if images.ndim != 1:
            raise DataError(f"array {images.shape} of {images.dtype}: is no array of pixels, and no list of images")
        images = images.tolist()
    if _is_array(images):
        return _list_array(images)
    if isinstance(images, list | tuple):
        return _list_items(images, f"list of {len(images)} images", "list", labels=labels)
    is_stream = isinstance(images, IterableDataset) or not hasattr(images, "__getitem__")
    if not is_stream and hasattr(images, "__len__"):
        return data_sets.list_data_set(images)
    if is_stream and isinstance(images, Iterable) and not isinstance(images, set | frozenset):
        return _list_stream(images, labels)
    raise DataError(
        f"{kind_of(images)}: no images; give a path, a pattern, an array, a tensor, a list, an iterator, or a data set that "
        "has a length and numbered items"
    )


def _is_array(images: object) -> bool:
    """Return whether something is an array of numbers that can be sliced, in memory or not."""
    return (
        hasattr(images, "shape") and hasattr(images, "dtype") and hasattr(images, "__getitem__") and len(shape_of(images)) > 0
    )


def _are_labels_of(images: object, labels: object) -> bool:
    """Return whether two arrays are images and their labels."""
    n, shape = shape_of(images)[0], shape_of(labels)
    return len(shape_of(images)) >= 3 and shape in ((n,), (n, 1))


def _list_array(images: Any) -> ImageSet:
    """List the images of an array or tensor."""
    shape, kind = shape_of(images), "tensor" if isinstance(images, Tensor) else "array"
    where = f"{kind} {shape}"
    axis = channel_axis_of_many(shape, where)
    first = _part(images, slice(0, 1), where)
    if first.dtype == np.uint8:
        found = range_of([first], where)
    else:
        found = range_of((_part(images, slice(k, k + BLOCK), where) for k in range(0, shape[0], BLOCK)), where)
    axis_of_one = None if axis is None else axis - 1
    lock = None if isinstance(images, Tensor | np.ndarray) else threading.Lock()
    read = functools.partial(_read_array, images, found, axis_of_one, where, lock)
    items = tuple(Item(f"{kind}[{k}]", functools.partial(read, k)) for k in range(shape[0]))
    return ImageSet(where, items, notes=() if found.text is None else (found.text,))


def _read_array(images: Any, found: ValueRange, axis: int | None, where: str, lock: "threading.Lock | None", k: int) -> Pixels:
    """Return one image of an array, with its channels last."""
    with lock or contextlib.nullcontext():
        one = _part(images, k, where)
    return found.to_bytes(channels_last(one, axis))


def _part(images: Any, key: int | slice, where: str) -> NDArray[Any]:
    """Return one image of an array, or several.

    Raises:
        UnreadableImage: if the array cannot be sliced, as a sparse tensor or one of a file that is closed.
    """
    try:
        part = images[key]
    except Exception as error:  # noqa: BLE001 - the array may be of any package
        reason = " ".join(str(error).split())[:120]
        raise UnreadableImage(f"{where}: cannot be read as an array ({type(error).__name__}: {reason})") from None
    return to_array(part, where)


def _list_mapping(images: Mapping[str, Any]) -> ImageSet:
    """List the images of a dictionary: of splits, or of columns."""
    splits = {name: part for name, part in images.items() if hasattr(part, "features") and hasattr(part, "__len__")}
    if not splits:
        return _list_columns(images)
    name = "train" if "train" in splits else next(iter(splits))
    listed = list_given(splits[name])
    others = ", ".join(str(other) for other in splits if other != name)
    note = (f"the split {name} is used, and {others} left out; give another one by its name",) if others else ()
    return ImageSet(listed.where, listed.items, listed.classes, (*note, *listed.notes))


def _list_columns(columns: Mapping[str, Any]) -> ImageSet:
    """List the images of a table: one column of images or paths, and perhaps one of labels."""
    image, label = find_keys(list(columns))
    if image is None:
        known = ", ".join(map(str, list(columns)[:10])) or "nothing"
        raise DataError(f"dictionary or table with {known}: no column of images; name it image")
    listed = list_given(columns[image])
    return listed if label is None else with_labels(listed, columns[label])


def _list_stream(images: Iterable[object], labels: bool | None) -> ImageSet:
    """Read an iterator once and list what it gives."""
    kept: list[object] = []
    for item in images:
        if len(kept) == MAX_ITEMS:
            raise DataError(
                f"{kind_of(images)}: has more than {MAX_ITEMS:,} items; give some of them, as itertools.islice does"
            )
        kept.append(item)
    keys, names = data_sets.keys_and_names(images)
    return _list_items(kept, None, "iterator", keys, names, labels)


def _list_items(
    items: Sequence[object],
    where: str | None,
    kind: str,
    keys: tuple[str, str | None] | None = None,
    names: Sequence[str] = (),
    labels: bool | None = None,
) -> ImageSet:
    """List items that are in memory.

    Args:
        items: images, pairs of image and label, dictionaries, or batches.
        where: what they are, for messages; None for an iterator, which is counted by its images.
        kind: ``list`` or ``iterator``.
        keys: names of image and label in dictionaries, where these are known.
        names: names of the classes.
        labels: as for :func:`list_given`.
    """
    rows = [row for k, item in enumerate(items) for row in _rows_of(item, f"{kind}[{k}]", keys)]
    where = where or f"{kind} of {len(rows)} images"
    if not rows:
        raise DataError(f"{where}: is empty")
    titles = [_title(row.image, f"{kind}[{k}]") for k, row in enumerate(rows)]
    ranges = Ranges(where)
    for row, title in zip(rows, titles, strict=True):
        ranges.add(row.image, title)
    notes = [*ranges.find(), *data_sets.note_of_unused([row.unused for row in rows])]
    read = [functools.partial(content_of, row.image, title, ranges) for row, title in zip(rows, titles, strict=True)]
    listed = ImageSet(where, tuple(Item(title, get) for title, get in zip(titles, read, strict=True)), notes=tuple(notes))
    if all(row.label is None for row in rows):
        return _labelled_by_folders(listed, rows, labels)
    return data_sets.labelled(listed, [row.label for row in rows], names)


def _rows_of(item: object, name: str, keys: tuple[str, str | None] | None) -> list[Row]:
    """Return the images of an item: one, or those of a batch.

    Raises:
        DataError: if it is no image.
    """
    row = as_row(item, name, keys)
    if not is_numeric(row.image) or len(shape_of(row.image)) != 4:
        return [row]
    batch: Any = row.image
    labels: Any = row.label if shape_of(row.label)[:1] == (len(batch),) else [None] * len(batch)
    axis = channel_axis_of_many(shape_of(batch), name)
    images = (channels_last(to_array(batch[k], name), None if axis is None else axis - 1) for k in range(len(batch)))
    return [Row(image, label, row.unused) for image, label in zip(images, labels, strict=True)]


def _title(image: object, name: str) -> str:
    """Return the name of an image for messages: its path if it has one."""
    return os.fspath(image) if isinstance(image, str) else str(image) if isinstance(image, os.PathLike) else name


def _labelled_by_folders(listed: ImageSet, rows: Sequence[Row], labels: bool | None) -> ImageSet:
    """Check that the paths of a list are files, and label them by their folders, as those of a folder are."""
    paths = [pathlib.Path(row.image) for row in rows if isinstance(row.image, str | os.PathLike)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        what = "is a folder; give a folder by itself, not in a list" if missing[0].is_dir() else "there is no such file"
        raise DataError(f"{listed.where}: {str(missing[0])[:200]}: {what} ({len(missing)} of {len(paths)} paths)")
    if len(paths) < len(rows) or len(paths) < 2:
        return listed
    absolute = [path.absolute() for path in paths]
    root = pathlib.Path(os.path.commonpath([path.parent for path in absolute]))
    names = [path.relative_to(root).as_posix() for path in absolute]
    found = list_images(
        listed.where,
        list(dict.fromkeys(names)),
        lambda name: read_file(root / name),
        head=lambda name: read_head(root / name, kinds.HEAD),
        split="all",
        labels=labels,
    )
    label_of = {item.name: item.label for item in found.items}
    if not label_of.keys() >= {printable(name) for name in names}:
        return listed
    items = tuple(dataclasses.replace(i, label=label_of[printable(name)]) for i, name in zip(listed.items, names, strict=True))
    return dataclasses.replace(listed, items=items, classes=found.classes, notes=(*listed.notes, *found.notes))
