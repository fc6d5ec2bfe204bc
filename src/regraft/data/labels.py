"""Labels of images: from a StyleGAN dataset.json, or from class folders."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.chunks import why_chunks
from regraft.data.splits import Arranged

DESCRIPTION = "dataset.json"
"""The file in which StyleGAN2-ADA and its followers keep labels."""
MOST_STRAY = 10
"""Images beside class folders, in percent of those in them, up to which they are left out as strays."""

MAX_DESCRIPTION = 96 << 20
"""Bytes of the longest dataset.json that is read."""

_NO_LABELS = "says that the images have no labels"
_WITHOUT = "Mend them, or go on without labels with --no-labels"


class NoClasses(DataError):
    """Labels that are vectors and not one-hot: they describe images, and are no classes."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images with their labels.

    Attributes:
        images: names of images, in order; strays beside class folders are left out.
        labels: class of each image, numbered from 0, or None without classes.
        classes: names of the classes.
        notes: what was decided or left out, one sentence each.
    """

    images: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def label_images(
    where: str, arranged: Arranged, names: Mapping[str, str], read: Callable[[str], bytes], asked: bool | None
) -> Labelled:
    """Label images by their dataset.json, or else by their folders.

    Args:
        where: path of the folder or archive, for errors.
        arranged: the images of the chosen split, with the folders that can be classes.
        names: the name of every file by which ``read`` knows it, by the name that ``arranged`` uses.
        read: returns the bytes of a file.
        asked: True to take folders for classes even where they look like parts of one set, and to refuse labels that are no
            classes; else such images have none.

    Raises:
        DataError: if there are labels that cannot be read.
    """
    name = _description(arranged.images, names)
    if name is None:
        return _by_folders(arranged, asked)
    rows = _rows(where, name, read(names[name]))
    if isinstance(rows, dict):
        return _by_description(where, name, rows, arranged.images, asked)
    if asked is not True and rows == _NO_LABELS:
        takes = "; --labels takes them" if _depth(arranged.folders, MOST_STRAY)[0] else ""
        return Labelled(arranged.images, notes=(f"{name} {rows}, so folders are not taken for classes{takes}",))
    labelled = _by_folders(arranged, asked)
    return dataclasses.replace(labelled, notes=(f"{name} {rows}", *labelled.notes))


def number_classes(values: Sequence[Any], where: str) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    """Number labels from 0, in the order of their values.

    Args:
        values: one label per image, all of one kind: whole numbers from 0 (floats such as 3.0 count), texts, lists of one such
            value, or one-hot vectors.
        where: what the labels are, for errors and notes.

    Returns:
        Labels from 0; names of the classes; and notes, one sentence each.

    Raises:
        DataError: if the labels are of no such kind, or vectors that are not one-hot.
    """
    scalars = [_scalar(value, where) for value in values]
    kinds = {type(value) for value in scalars}
    if len(kinds) > 1:
        raise DataError(f"{where}: some labels are numbers and some are texts; write them all in one way")
    distinct: list[Any] = sorted(set(scalars))
    if distinct and isinstance(distinct[0], int) and distinct[0] < 0:
        raise DataError(f"{where}: the label {distinct[0]} is negative; classes are numbered from 0. {_WITHOUT}")
    table = {value: k for k, value in enumerate(distinct)}
    classes = tuple(printable(str(value)) for value in distinct)
    notes: tuple[str, ...] = ()
    if kinds == {int} and distinct != list(range(len(distinct))):
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        notes = (f"{where}: its {len(classes)} labels ({shown}) are numbered from 0, and keep their names",)
    return tuple(table[value] for value in scalars), classes, notes


def _scalar(value: Any, where: str) -> int | str:
    """Return one label as a number or a text."""
    if isinstance(value, list | tuple) and len(value) > 1:
        numbers = [v for v in value if isinstance(v, int | float)]
        ones = [k for k, v in enumerate(numbers) if v != 0]
        if len(numbers) != len(value) or len(ones) != 1 or numbers[ones[0]] != 1:
            shown = ", ".join(f"{v:g}" if isinstance(v, int | float) else type(v).__name__ for v in value[:4])
            more = ", ..." if len(value) > 4 else ""
            raise NoClasses(f"{where}: a vector of {len(value)} values ({shown}{more}) is no class, because it is not one-hot")
        return ones[0]
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(f"{where}: the label {str(value)[:60]} is no whole number, text or one-hot vector. {_WITHOUT}")


def _description(images: Sequence[str], names: Mapping[str, str]) -> str | None:
    """Return the dataset.json in the outermost folder that has one and holds all images, or None."""
    found = [name for name in names if pathlib.PurePosixPath(name).name == DESCRIPTION]
    fit = [name for name in found if all(image.startswith(name.removesuffix(DESCRIPTION)) for image in images)]
    return min(fit, key=len, default=None)


def _rows(where: str, name: str, data: bytes) -> dict[str, Any] | str:
    """Return the label of each file that a dataset.json names, or a text that says why it names none."""
    try:
        if len(data) > MAX_DESCRIPTION:
            raise ValueError(f"longer than {MAX_DESCRIPTION >> 20} MB")
        description = json.loads(data)
        if not isinstance(description, dict) or "labels" not in description:
            return "is of another kind than StyleGAN's and gives no labels"
        rows = description["labels"]
        if rows is None:
            return _NO_LABELS
        root = pathlib.PurePosixPath(name).parent
        pairs = rows.items() if isinstance(rows, dict) else rows
        return {printable(str(root / str(file).replace("\\", "/"))): label for file, label in pairs}
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: {name} is not a StyleGAN data set description ({type(error).__name__}: {error})") from None


def _by_description(where: str, name: str, rows: Mapping[str, Any], images: tuple[str, ...], asked: bool | None) -> Labelled:
    """Label images by the rows of a dataset.json."""
    if asked is False:
        return Labelled(images)
    missing = next((image for image in images if image not in rows), None)
    if missing is not None:
        raise DataError(f"{where}: {name} has no label for {missing}. Add it, remove the image, or use --no-labels")
    known = set(images)
    surplus = [file for file in rows if file not in known]
    notes = [f"{name} names {len(surplus)} files that are not used ({', '.join(surplus[:3])})"] if surplus else []
    try:
        labels, classes, numbered = number_classes([rows[image] for image in images], f"{where}: {name}")
    except NoClasses as error:
        if asked:
            raise
        return Labelled(images, notes=(*notes, f"{error}; the images are used without classes"))
    return Labelled(images, labels, classes, (*notes, *numbered))


def _by_folders(arranged: Arranged, asked: bool | None) -> Labelled:
    """Label images by the folders below the one that they share."""
    depth, loose = _depth(arranged.folders, MOST_STRAY if asked is not True else None)
    if not depth:
        return Labelled(arranged.images, notes=_unlabelled(arranged, loose) if asked is not False else ())
    files: dict[str, list[str]] = collections.defaultdict(list)
    kept, stray = [], []
    for image, folders in zip(arranged.images, arranged.folders, strict=True):
        if len(folders) < depth:
            stray.append(image)
            continue
        kept.append(image)
        files[folders[depth - 1]].append(image)
    shown = ", ".join(sorted(files)[:4]) + (", ..." if len(files) > 4 else "")
    reason = why_chunks(files) if asked is not True else None
    if reason is not None:
        return Labelled(
            arranged.images,
            notes=(f"folders {shown} are taken for parts of one set and not for classes: {reason}; --labels takes them",),
        )
    classes = tuple(sorted(files))
    number = {image: k for k, name in enumerate(classes) for image in files[name]}
    notes = []
    if stray:
        pictures = "1 image" if len(stray) == 1 else f"{len(stray)} images"
        notes.append(f"{pictures} beside the class folders left out: {', '.join(stray[:3])}{', ...' if len(stray) > 3 else ''}")
    if asked is None and all(name.isdecimal() for name in classes):
        notes.append(f"folders {shown} are taken for classes and not for parts of one set; --no-labels ignores them")
    return Labelled(tuple(kept), tuple(number[image] for image in kept), classes, tuple(notes))


def _depth(folders: Sequence[tuple[str, ...]], most_stray: int | None) -> tuple[int, int]:
    """Find the class folders: the first ones that differ, apart from stray images above them.

    Args:
        folders: those that each image lies in.
        most_stray: images above the class folders, in percent of those in them, with which they still are class folders;
            None for any number.

    Returns:
        How deep the class folders lie, counted from 1, or 0 if there are none; and the number of images above the first
        folders that differ.
    """
    depth, inside = 0, list(folders)
    while True:
        deeper = [parts for parts in inside if len(parts) > depth]
        loose = len(folders) - len(deeper)
        distinct = {parts[depth] for parts in deeper}
        if not deeper or (most_stray is not None and loose * 100 > most_stray * len(deeper)):
            return 0, loose if deeper else 0
        if len(distinct) > 1:
            return depth + 1, loose
        depth, inside = depth + 1, deeper


def _unlabelled(arranged: Arranged, loose: int) -> tuple[str, ...]:
    """Say why folders beside loose images are no classes."""
    if not loose:
        return ()
    return (f"{loose} of {len(arranged.images)} images lie beside folders, so the folders are not taken for classes",)
