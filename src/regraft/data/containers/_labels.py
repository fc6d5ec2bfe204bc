"""Labels that a file gives beside its images, in an array or a column, with the names that it gives to classes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.labels import NoClasses, number_classes

IDENTIFIERS = 10
"""Labels of so many images that are all different are numbers of images, not of classes."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """The class of each image.

    Attributes:
        indices: index in ``classes`` of each image, None for images without a label; None as a whole if there are no classes.
        classes: names of the classes that occur.
        notes: what was assumed, one sentence each.
    """

    indices: tuple[int | None, ...] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, i: int) -> int | None:
        """Return the class of one image, None without classes."""
        return None if self.indices is None else self.indices[i]

    def kept(self, n: int) -> list[int]:
        """Return the places of the images that have a label: of all ``n`` if there are no classes."""
        return [i for i in range(n) if self.indices is None or self.indices[i] is not None]


NO_LABELS = Labels()


def read_labels(
    values: NDArray[Any] | Sequence[Any], n: int, where: str, asked: bool | None, names: Sequence[str] = ()
) -> Labels:
    """Read labels as classes, by the rules of :mod:`regraft.data.labels`.

    Args:
        values: one label per image: whole numbers or texts, (N,) or (N, 1), or one-hot (N, K); in lists, None is no label.
        n: number of images.
        where: what the labels are, for errors and notes.
        asked: False to ignore them, True to refuse what are no classes; None goes on without such labels, and says so.
        names: name of each class by its number, where the file gives them.

    Raises:
        DataError: if there is not one label per image, or they cannot be read.
    """
    if asked is False:
        return NO_LABELS
    if len(values) != n:
        raise DataError(f"{where}: {len(values)} labels for {n} images. Mend them, or go on without labels with --no-labels")
    missing: list[int] = []
    try:
        listed = _listed(values, where) if isinstance(values, np.ndarray) else values
        missing += [i for i, value in enumerate(listed) if value is None]
        if len(missing) == n:
            return NO_LABELS
        numbered, classes, notes = number_classes([value for value in listed if value is not None], where)
        if len(classes) == len(numbered) >= IDENTIFIERS and asked is None:
            raise NoClasses(f"{where}: different for every image, so they are no classes")
    except NoClasses as error:
        if asked:
            raise
        return Labels(notes=(f"{error}; the images are used without classes",))
    rest = iter(numbered)
    gaps = set(missing)
    indices = tuple(None if i in gaps else next(rest) for i in range(n))
    return Labels(indices, _named(classes, names), () if names else notes)


def _listed(values: NDArray[Any], where: str) -> list[Any]:
    """Return the labels of an array as Python's numbers, texts, or lists of numbers."""
    if values.dtype.kind not in "biufUS":
        raise DataError(f"{where}: is {values.dtype} {values.shape}; labels are whole numbers or texts, (N,), (N, 1) or (N, K)")
    if values.ndim > 2:
        raise NoClasses(f"{where}: {values.dtype} of shape {values.shape} is no class")
    texts: NDArray[Any] = np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values
    listed: list[Any] = texts.tolist()
    return listed


def _named(classes: tuple[str, ...], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that are numbers so far."""
    given = [printable(name) for name in names]
    named = [given[int(c)] if c.isdecimal() and int(c) < len(given) else c for c in classes]
    if len(set(named)) < len(named):
        named = [f"{c} {name}" for c, name in zip(classes, named, strict=True)]
    return tuple(named)
