"""Open a set of images by its path: a folder, or a file that one of the containers reads."""

import pathlib
from collections.abc import Sequence

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.core.names import printable, restored
from regraft.data import kinds
from regraft.data.containers.base import Archive, Container
from regraft.data.folder import read_file, read_head, walk
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN, list_images

HEAD = 512
"""Bytes of a file that containers are told to recognise it by."""


def open_images(path: str | pathlib.Path, *, split: str | Sequence[str] = TRAIN, labels: bool | None = None) -> ImageSet:
    """List the images of a folder, a folder of class folders, or a file that holds many images.

    Sub-folders are classes unless they are parts of one set by their names (dates, running numbers); a StyleGAN
    ``dataset.json`` gives labels too.  What was decided and what was left out stands in the ``notes`` of the result.  A part of
    a file is named behind a colon: ``file.npz:x_train`` (with labels ``y_train``); the default is its first array of images.

    Args:
        path: the folder or file.
        split: where there are folders train, val or test, the one whose images are used, or ``all``; of several names the
            first that is there.
        labels: True to take sub-folders for classes even where they look like parts of one set; False for no classes.

    Raises:
        DataError: if the path does not exist, holds no image, or is of a kind that is not read.
    """
    where, part = _split_part(_existing(str(path)))
    if not where.exists():
        raise DataError(f"{printable(str(where))}: there is no such file or folder of images")
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


def _existing(text: str) -> str:
    """Return a path, or the one that its printable form stands for if only that is there."""
    original = restored(text)
    return original if original != text and not pathlib.Path(text).exists() else text


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
