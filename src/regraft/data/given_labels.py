"""Labels that are given from Python: numbers or names, one for each image, become classes with names."""

import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.errors import DataError
from regraft.data.images import ImageSet

GivenLabels = Iterable[object] | NDArray[Any] | Tensor
"""One label for each image: numbers, names, or one-hot rows."""

_ALLOWED = "labels are one number or name for each image, or one-hot rows"


def is_labels(labels: object) -> bool:
    """Return whether what was given as ``labels`` holds labels, and is not a choice: None, True or False."""
    return labels is not None and not isinstance(labels, bool)


def with_labels(listed: ImageSet, labels: GivenLabels, names: Sequence[str] = ()) -> ImageSet:
    """Return the same images with labels.

    Args:
        listed: the images; labels that they have are replaced.
        labels: one for each image: numbers, names, or one-hot rows.
        names: names of the numbers, from 0; by default each number is its own name.

    Raises:
        DataError: if they are not one label for each image.
    """
    values = _values(labels, listed.where)
    if len(values) != len(listed):
        raise DataError(f"{listed.where}: {len(values)} labels for {len(listed)} images; {_ALLOWED}")
    if values and all(value == -1 for value in values):
        note = "all labels are -1, which data sets write for unknown ones, so there are no classes"
        return dataclasses.replace(listed.without_labels(), notes=(*listed.notes, note))
    named = [_named(value, names, k, listed.where) for k, value in enumerate(values)]
    classes = _in_order(values, named, names)
    number = {name: k for k, name in enumerate(classes)}
    items = tuple(dataclasses.replace(i, label=number[name]) for i, name in zip(listed.items, named, strict=True))
    unused = [name for name in names if name not in number]
    notes = (
        [f"{len(unused)} of {len(names)} classes have no images ({', '.join(unused[:3])}) and are left out"] if unused else []
    )
    return dataclasses.replace(listed, items=items, classes=classes, notes=(*listed.notes, *notes))


def _values(labels: object, where: str) -> list[int | str]:
    """Return labels as plain numbers and names."""
    if isinstance(labels, str | bytes):
        raise DataError(f"{where}: labels={labels!r}; {_ALLOWED}, in a list")
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    elif hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    if not isinstance(labels, np.ndarray):
        if not isinstance(labels, Iterable):
            raise DataError(f"{where}: labels are {type(labels).__name__}; {_ALLOWED}")
        rows = [row.detach().cpu().numpy() if isinstance(row, Tensor) else row for row in labels]
        if rows and any(np.ndim(row) for row in rows if not isinstance(row, str)):
            try:
                labels = np.array([np.asarray(row) for row in rows])
            except ValueError:
                raise DataError(f"{where}: labels are rows of different lengths; {_ALLOWED}") from None
        else:
            return [_scalar(row, k, where) for k, row in enumerate(rows)]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        labels = _from_one_hot(labels, where)
    if labels.ndim != 1:
        raise DataError(f"{where}: labels have the shape {labels.shape}; {_ALLOWED}")
    return [_scalar(label, k, where) for k, label in enumerate(labels.tolist())]


def _from_one_hot(rows: NDArray[Any], where: str) -> NDArray[Any]:
    """Return which entry is one in each row (N, K)."""
    if rows.dtype.kind not in "biuf" or not (((rows == 1).sum(1) == 1) & ((rows != 0).sum(1) == 1)).all():
        raise DataError(
            f"{where}: labels are rows of {rows.shape[1]} numbers that are not one-hot, so they name no class; {_ALLOWED}"
        )
    columns: NDArray[np.intp] = rows.argmax(1)
    return columns


def _scalar(value: object, k: int, where: str) -> int | str:
    """Return one label as a number or a name."""
    if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, str) and value:
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return int(value)
    raise DataError(f"{where}: label {k} is {value!r}; {_ALLOWED}")


def _named(value: int | str, names: Sequence[str], k: int, where: str) -> str:
    """Return the name of a label."""
    if isinstance(value, str) or not names:
        return str(value)
    if not 0 <= value < len(names):
        raise DataError(f"{where}: label {k} is {value}, and there are {len(names)} classes, numbered from 0")
    return names[value]


def _in_order(values: Sequence[int | str], named: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that have images: in the order of ``names``, else of the numbers, else of the alphabet."""
    present = set(named)
    if present <= set(names):
        return tuple(dict.fromkeys(name for name in names if name in present))
    if all(isinstance(value, int) for value in values):
        return tuple(str(value) for value in sorted({value for value in values if isinstance(value, int)}))
    return tuple(sorted(present))
