"""Which files of a folder or an archive are images, and which labels they have: one set of rules for all of them."""

import functools
import json
import pathlib
from collections.abc import Callable, Sequence

from regraft.core.errors import DataError
from regraft.data.images import ImageSet, Item

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"}


def list_images(where: str, names: Sequence[str], read: Callable[[str], bytes]) -> ImageSet:
    """List the images among the files of a folder or an archive.

    Args:
        where: path of the folder or archive, for messages.
        names: names of all its files, relative to it, with forward slashes.
        read: returns the bytes of a file by its name.

    Raises:
        DataError: if none of the files is an image, or their labels cannot be used.
    """
    images = sorted(n for n in names if pathlib.PurePosixPath(n).suffix.lower() in SUFFIXES)
    if not images:
        suffixes = ", ".join(sorted({pathlib.PurePosixPath(n).suffix or n for n in names})[:6]) or "nothing"
        raise DataError(f"{where}: holds no images ({suffixes}); known suffixes: {' '.join(sorted(SUFFIXES))}")
    description = next((n for n in names if pathlib.PurePosixPath(n).name == "dataset.json"), None)
    labels, classes = _labels_from_json(where, read(description), description, images) if description else (None, ())
    if labels is None:
        labels, classes = _labels_from_folders(images)
    items = tuple(
        Item(name, functools.partial(read, name), None if labels is None else labels[i]) for i, name in enumerate(images)
    )
    return ImageSet(where, items, classes)


def _labels_from_folders(names: Sequence[str]) -> tuple[list[int] | None, tuple[str, ...]]:
    """Label each image by its folder, the first one below the path that all images share; no labels if an image has none."""
    parents = [pathlib.PurePosixPath(n).parts[:-1] for n in names]
    shared = 0
    while all(len(p) > shared for p in parents) and len({p[shared] for p in parents}) == 1:
        shared += 1
    if any(len(p) <= shared for p in parents):
        return None, ()
    classes = tuple(sorted({p[shared] for p in parents}))
    return [classes.index(p[shared]) for p in parents], classes


def _labels_from_json(where: str, data: bytes, name: str, images: Sequence[str]) -> tuple[list[int] | None, tuple[str, ...]]:
    try:
        rows = json.loads(data)["labels"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: {name} is not a StyleGAN data set description ({type(error).__name__}: {error})") from None
    if rows is None:
        return None, ()
    root = pathlib.PurePosixPath(name).parent
    try:
        table = {str(root / file): label for file, label in rows}
        given = [table.get(n) for n in images]
        if any(label is None for label in given):
            missing = images[given.index(None)]
            raise DataError(f"{where}: {name} has no label for {missing}")
        labels = [
            int(label.index(max(label))) if isinstance(label, list) else int(label) for label in given if label is not None
        ]
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: {name} holds labels that regraft cannot use ({error})") from None
    if min(labels) < 0 or max(labels) > 1 << 16:
        raise DataError(f"{where}: {name} holds labels from {min(labels)} to {max(labels)}; at least 0 and at most 65536")
    return labels, tuple(str(i) for i in range(max(labels) + 1))
