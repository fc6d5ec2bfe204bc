"""Which arrays of a file are images and which are their labels, by name, shape and type."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from regraft.core.errors import DataError
from regraft.data.containers.base import Asked
from regraft.data.splits import ALL, NAMES, pick_split

IMAGE_NAMES = ("images", "x", "imgs", "image", "img", "data", "pixels", "features", "samples", "arr0")
"""Names of arrays of images, the likeliest first, in lower case and without separators and splits."""
LABEL_NAMES = ("labels", "y", "label", "targets", "target", "classes", "class", "classids", "finelabels", "coarselabels")
"""Names of arrays of labels, likewise."""
PAIRS = {"x": "y", "images": "labels", "image": "label", "imgs": "labels", "img": "label", "data": "targets", "arr0": "arr1"}
"""Names that belong together."""
_SPLIT_WORDS = re.compile("|".join(sorted(NAMES, key=len, reverse=True)))


class Sized(Protocol):
    """What must be known of an array before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Names of the array of images and of the array of labels (None without labels), and what was left out."""

    images: str
    labels: str | None
    notes: tuple[str, ...]


def split_and_kind(name: str) -> tuple[str | None, str]:
    """Take the name of an array or file apart: ``X_train`` is ``("train", "x")``, ``labels`` is ``(None, "labels")``."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    found = _SPLIT_WORDS.search(plain)
    if found is None:
        return None, plain
    return NAMES[found[0]], plain[: found.start()] + plain[found.end() :]


def labels_beside(name: str, others: Collection[str]) -> str | None:
    """Return the name of the labels that belong to images of a name, among other names; None if there are none."""
    split, kind = split_and_kind(name)
    for label_kind in [*([PAIRS[kind]] if kind in PAIRS else []), *LABEL_NAMES]:
        for other in others:
            if other != name and split_and_kind(other) == (split, label_kind):
                return other
    return None


def choose_arrays(where: str, arrays: Mapping[str, Sized], asked: Asked) -> list[Chosen]:
    """Choose the array of images and that of its labels.

    Of several splits the one that is asked for is taken, of several arrays the one with the likeliest name.

    Args:
        where: the file, for errors.
        arrays: all arrays of the file.
        asked: its part is an array, or a split (``train``, ``val``, ``test``).

    Returns:
        One choice, or one for each split if all are asked for.

    Raises:
        DataError: if no array can be images, or the one that was named is not there.
    """
    able = [name for name, array in arrays.items() if len(array.shape) in (3, 4) and not is_label_name(name)]
    if asked.part is not None and asked.part in arrays:
        return [_with_labels(asked.part, arrays)]
    by_split: dict[str | None, str] = {}
    for name in sorted(able, key=_rank, reverse=True):
        by_split[split_and_kind(name)[0]] = name
    if not by_split or (asked.part is not None and NAMES.get(asked.part.lower()) not in by_split):
        contents = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:12])
        name = f" {asked.part}" if asked.part else ""
        raise DataError(
            f"{where}: no array of images{name}; it holds {contents or 'no arrays'}. Images are (N, H, W), (N, H, W, C) or "
            "(N, C, H, W); flat rows have to be reshaped to these first"
        )
    if asked.part is not None:
        return [_with_labels(by_split[NAMES[asked.part.lower()]], arrays)]
    splits = {split: arrays[name].shape[0] for split, name in sorted(by_split.items(), key=str) if split is not None}
    if len(splits) < 2:
        images = min(able, key=_rank)
        others = [name for name in able if name != images]
        return [_with_labels(images, arrays, _about_others(images, others, arrays))]
    chosen, note = pick_split(where, splits, asked.split)
    names = [by_split[split] for split in splits if chosen in (split, ALL)]
    return [_with_labels(name, arrays, (note,)) for name in names]


def _with_labels(images: str, arrays: Mapping[str, Sized], notes: tuple[str, ...] = ()) -> Chosen:
    """Find the labels of an array of images, those of as many images first."""
    same_count = [name for name, array in arrays.items() if array.shape[:1] == arrays[images].shape[:1]]
    return Chosen(images, labels_beside(images, same_count) or labels_beside(images, arrays), notes)


def is_label_name(name: str) -> bool:
    """Return whether an array or file of this name holds labels."""
    return split_and_kind(name)[1] in LABEL_NAMES


def _rank(name: str) -> tuple[int, int]:
    """Return a number for each name that is lower the likelier it is the one that is wanted."""
    split, kind = split_and_kind(name)
    likelihood = IMAGE_NAMES.index(kind) if kind in IMAGE_NAMES else len(IMAGE_NAMES)
    return (None, "train", "val", "test").index(split), likelihood


def _about_others(images: str, others: list[str], arrays: Mapping[str, Sized]) -> tuple[str, ...]:
    """Say which other arrays of images there are."""
    if not others:
        return ()
    shown = ", ".join(f"{name} ({arrays[name].shape[0]})" for name in others[:5]) + (", ..." if len(others) > 5 else "")
    return (f"{images} is used, and not {shown}; name another one behind a colon, as in FILE:{others[0]}",)
