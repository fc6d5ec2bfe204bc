"""Downloaded data come in train, val and test folders: only the images of one of these are used."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence

from regraft.core.errors import DataError

ALL = "all"
"""Asks for the images of all splits."""

NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Words for the parts of a data set, and the one word for each."""
_FOLDER = re.compile(rf"({'|'.join(NAMES)})([_\- ]?(set|split|data|images?|imgs?|pictures|\d{{4}}))?", re.IGNORECASE)
_DOMAIN_FOLDER = re.compile(r"(train|val|test)_?([AB])")
"""The folders of unpaired translation, which are a split and a class at once: trainA, trainB, testA, testB."""


@dataclasses.dataclass(frozen=True)
class Arranged:
    """Images with the folders that can be their classes.

    Attributes:
        images: names of images, in order.
        folders: for each image the folders that it lies in, without that of its split.
        notes: what was chosen, one sentence each.
    """

    images: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def choose_split(where: str, images: Sequence[str], wanted: str | Sequence[str]) -> Arranged:
    """Choose the images of one split, if images are in folders of splits.

    Args:
        where: path of the images, for errors.
        images: names of images.
        wanted: name of the split (``train``, ``val`` or ``test``, however its folder writes it), or :data:`ALL`; of several
            names the first that is there.

    Raises:
        DataError: if there are splits, and not one of those wanted.
    """
    folders = [tuple(name.split("/")[:-1]) for name in images]
    depth = _depth_of_splits(folders)
    if depth is None:
        return Arranged(tuple(images), tuple(folders))
    splits = [_split_of(parts[depth]) if len(parts) > depth else None for parts in folders]
    counts = collections.Counter(split for split in splits if split is not None)
    chosen, note = pick_split(where, counts, wanted)
    kept = [k for k, split in enumerate(splits) if split is not None and chosen in (split, ALL)]
    notes = [note]
    loose = [name for name, split in zip(images, splits, strict=True) if split is None]
    if loose:
        pictures = "1 image" if len(loose) == 1 else f"{len(loose)} images"
        notes.append(f"{pictures} beside the folders of splits left out ({', '.join(loose[:3])})")
    return Arranged(tuple(images[k] for k in kept), tuple(_without_split(folders[k], depth) for k in kept), tuple(notes))


def pick_split(where: str, counts: Mapping[str, int], wanted: str | Sequence[str]) -> tuple[str, str]:
    """Pick one of several splits.

    Args:
        where: path of the images, for errors.
        counts: number of images of each split, by its word in :data:`NAMES`.
        wanted: as for :func:`choose_split`.

    Returns:
        The split, or :data:`ALL`; and a note that says so.

    Raises:
        DataError: if none of those wanted is there.
    """
    there = ", ".join(f"{split} ({count})" for split, count in counts.items())
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    names = [NAMES.get(name.lower(), name.lower()) for name in asked]
    chosen = next((name for name in names if name in counts or name == ALL), None)
    if chosen is None:
        raise DataError(f"{where}: there is no split {asked[0]}; there are: {there}. Choose one with --split, or --split {ALL}")
    if chosen == ALL:
        return chosen, f"the images of all splits are used: {there}"
    other = next((split for split in counts if split != chosen), ALL)
    way_out = f"--split {other}, --split {ALL} or the path of its folder chooses another"
    return chosen, f"only the split {chosen} is used, {counts[chosen]} images; there are: {there}; {way_out}"


def _depth_of_splits(folders: Sequence[tuple[str, ...]]) -> int | None:
    """Return how deep the folders of splits lie, if nearly all images lie in them and at least two splits are there.

    They lie above the folders of classes, or directly below them (``bottle/train``, ``bottle/test``).
    """
    for depth in range(max(map(len, folders), default=0)):
        below = [parts for parts in folders if len(parts) > depth]
        splits = [_split_of(parts[depth]) for parts in below]
        if len(below) * 10 >= len(folders) * 9 and None not in splits and len(set(splits)) > 1:
            return depth
        if depth and len({parts[:depth] for parts in folders if len(parts) >= depth}) > 1:
            return None
    return None


def _split_of(folder: str) -> str | None:
    """Return the split that a folder is by its name, or None."""
    match = _FOLDER.fullmatch(folder)
    if match:
        return NAMES[match[1].lower()]
    match = _DOMAIN_FOLDER.fullmatch(folder)
    return match[1] if match else None


def _without_split(parts: tuple[str, ...], depth: int) -> tuple[str, ...]:
    """Return the folders of an image without that of its split, of which a domain may be left."""
    domain = _DOMAIN_FOLDER.fullmatch(parts[depth])
    return (*parts[:depth], *((domain[2],) if domain else ()), *parts[depth + 1 :])
