"""Open a set of images by its path: a folder, or a file that one of the containers reads."""

import glob
import pathlib
from collections.abc import Sequence

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.core.names import existing, printable
from regraft.data import kinds
from regraft.data.containers.base import Archive, Container
from regraft.data.folder import read_file, read_head, walk
from regraft.data.given_labels import GivenLabels, with_labels
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN, list_images
from regraft.data.python import GivenImages, is_description, list_given

HEAD = 512
"""Bytes of a file that containers are told to recognise it by."""


def open_images(
    images: str | pathlib.Path | GivenImages,
    labels: GivenLabels | bool | None = None,
    *,
    split: str | Sequence[str] = TRAIN,
) -> ImageSet:
    """List images: those of a folder, of class folders or of a file that holds many, or those that are given from Python.

    Sub-folders are classes unless they are parts of one set by their names (dates, running numbers); a StyleGAN
    ``dataset.json`` gives labels too.  What was decided and what was left out stands in the ``notes`` of the result.  A part of
    a file is named behind a colon: ``file.npz:x_train`` (with labels ``y_train``); the default is its first array of images.

    Args:
        images: a folder, a file, a pattern such as ``photos/*.jpg``, or images as :func:`list_given` takes them: an array, a
            tensor, a list, a data set, an iterator.
        labels: the class of each image, numbers or names in the order of the images; or True to take sub-folders for classes
            even where they look like parts of one set, and False for no classes.
        split: where there are folders train, val or test, the one whose images are used, or ``all``; of several names the
            first that is there.

    Raises:
        DataError: if the path does not exist, holds no image, or is of a kind that is not read; or if images or labels that are
            given are none.
    """
    choice = labels if labels is None or isinstance(labels, bool) else False
    if isinstance(images, str | pathlib.Path):
        listed = _open_path(str(images), split, choice)
    else:
        listed = list_given(images, choice)
    if labels is None or isinstance(labels, bool):
        return listed.without_labels() if labels is False else listed
    return with_labels(listed, labels)


def _open_path(path: str, split: str | Sequence[str], labels: bool | None) -> ImageSet:
    """List the images of a path or pattern; arguments are those of :func:`open_images`."""
    where, part = _split_part(existing(path))
    if not where.exists():
        return _open_pattern(path, split, labels)
    if where.is_dir():
        return _open_folder(where, split, labels)
    with where.open("rb") as file:
        head = file.read(HEAD)
    for container in containers():
        if container.matches(where, head):
            if isinstance(container, Archive):
                return container.open(where, part, split=split, labels=labels)
            return container.open(where, part)
    raise DataError(f"{printable(str(where))}: not a folder, a .zip or an .npz of images")


def containers() -> list[Container]:
    """Return all containers, specific ones first."""
    plugins = [discover.plugin("containers", name, Container) for name in discover.names("containers")]
    return sorted(plugins, key=lambda container: container.order)


def _split_part(text: str) -> tuple[pathlib.Path, str | None]:
    """Split ``file:part`` where the whole is no path and what stands before the last colon is a file."""
    before, colon, part = text.rpartition(":")
    if colon and part and not pathlib.Path(text).exists() and pathlib.Path(before).is_file():
        return pathlib.Path(before), part
    return pathlib.Path(text), None


def _open_folder(where: pathlib.Path, split: str | Sequence[str], labels: bool | None) -> ImageSet:
    tree = walk(where)
    notes = [
        f"{what}: {len(names)} ({', '.join(map(printable, names[:3]))}{', ...' if len(names) > 3 else ''})"
        for names, what in (
            (tree.not_followed, "links not followed, because they lead nowhere or to what is listed under another name"),
            (tree.unreadable, "folders left out, because they may not be read"),
        )
        if names
    ]
    return list_images(
        printable(str(where)),
        tree.names,
        lambda name: read_file(where / name),
        head=lambda name: read_head(where / name, kinds.HEAD),
        split=split,
        labels=labels,
        notes=notes,
    )


def _open_pattern(pattern: str, split: str | Sequence[str], labels: bool | None) -> ImageSet:
    """List the images of a pattern such as ``photos/*.jpg``, as of the folder that all of them are in."""
    parts = pathlib.Path(pattern).parts
    if is_description(pattern):
        raise DataError(
            f"{pattern}: these images were given from Python, and no path leads to them; give the same ones again, as in "
            "adapt(images, out=..., resume=True)"
        )
    fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part)), None)
    if fixed is None:
        raise DataError(f"{printable(pattern)}: there is no such file or folder of images")
    root = pathlib.Path(*parts[:fixed])
    names: list[str] = []
    for match in sorted(root.glob("/".join(parts[fixed:]))):
        inside = [match / name for name in walk(match).names] if match.is_dir() else [match]
        names += [file.relative_to(root).as_posix() for file in inside if file.is_file()]
    if not names:
        raise DataError(f"{printable(pattern)}: no file or folder of images is of this pattern")
    return list_images(
        printable(pattern),
        list(dict.fromkeys(names)),
        lambda name: read_file(root / name),
        head=lambda name: read_head(root / name, kinds.HEAD),
        split=split,
        labels=labels,
    )
