"""Open a set of images by its path: a folder, or a file that one of the containers reads."""

import pathlib
from collections.abc import Sequence

from regraft.core.errors import DataError
from regraft.core.names import existing, printable
from regraft.data import kinds
from regraft.data.containers.base import Asked
from regraft.data.files_of_images import files_in, find_container, open_file, open_files
from regraft.data.folder import read_file, read_head, walk
from regraft.data.given_labels import GivenLabels, with_labels
from regraft.data.hidden import hidden_part
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN, NoImages, list_images
from regraft.data.patterns import expand, fixed_part, is_pattern, split_part
from regraft.data.python import GivenImages, is_description, list_given


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
    asked = Asked(part, split, labels)
    if where.is_dir():
        return _open_folder(where, asked)
    if where.exists():
        return open_file(where, asked)
    if is_description(path):
        raise DataError(
            f"{path}: these images were given from Python, and no path leads to them; give the same ones again, as in "
            "adapt(images, out=..., resume=True)"
        )
    pattern, part = split_part(path)
    if not is_pattern(pattern):
        raise DataError(f"{printable(path)}: there is no such file or folder of images")
    return _open_pattern(pattern, Asked(part, split, labels))


def _split_part(text: str) -> tuple[pathlib.Path, str | None]:
    """Split ``file:part`` where the whole is no path and what stands before the last colon is one."""
    before, colon, part = text.rpartition(":")
    if colon and part and not pathlib.Path(text).exists() and pathlib.Path(before).exists():
        return pathlib.Path(before), part
    return pathlib.Path(text), None


def _open_folder(where: pathlib.Path, asked: Asked) -> ImageSet:
    tree = walk(where)
    notes = [
        f"{what}: {len(names)} ({', '.join(map(printable, names[:3]))}{', ...' if len(names) > 3 else ''})"
        for names, what in (
            (tree.not_followed, "links not followed, because they lead nowhere or to what is listed under another name"),
            (tree.unreadable, "folders left out, because they may not be read"),
        )
        if names
    ]
    try:
        listed = list_images(
            printable(str(where)),
            tree.names,
            lambda name: read_file(where / name),
            head=lambda name: read_head(where / name, kinds.HEAD),
            split=asked.split,
            labels=asked.labels,
            notes=notes,
        )
    except NoImages:
        files = files_in(where, sorted(name for name in tree.names if hidden_part(name) is None))
        if not files:
            raise
        return open_files(printable(str(where)), files, asked, notes)
    asked.refuse_part(where)
    only = where / listed.items[0].name
    if len(listed) == 1 and only.is_file() and find_container(only) is not None:
        return open_files(printable(str(where)), [only], asked, listed.notes)
    return listed


def _open_pattern(pattern: str, asked: Asked) -> ImageSet:
    """List the images of a pattern: of files that hold many each, or of pictures as of the folder that all are in."""
    root = fixed_part(pattern)
    names: list[str] = []
    for match in expand(pattern):
        inside = [match / name for name in walk(match).names] if match.is_dir() else [match]
        names += [file.relative_to(root).as_posix() for file in inside if file.is_file()]
    names = list(dict.fromkeys(names))
    try:
        return list_images(
            printable(pattern),
            names,
            lambda name: read_file(root / name),
            head=lambda name: read_head(root / name, kinds.HEAD),
            split=asked.split,
            labels=asked.labels,
        )
    except NoImages:
        files = files_in(root, names)
        if not files:
            raise
        return open_files(printable(pattern), files, asked)
