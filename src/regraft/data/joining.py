"""Several sets of images as one: shards, batches and splits of a data set that lie in files of their own."""

import dataclasses
from collections.abc import Sequence

from regraft.data.images import ImageSet


def join_sets(where: str, sets: Sequence[ImageSet], notes: Sequence[str] = ()) -> ImageSet:
    """Join sets of images, in their order.

    Args:
        where: what they are together, for messages.
        sets: at least one; classes of one name are one class.
        notes: what is to be said of them as a whole.

    Returns:
        All images; without classes if one set has none and others do.
    """
    if len(sets) == 1:
        return dataclasses.replace(sets[0], notes=(*notes, *sets[0].notes))
    names = {name for one in sets for name in one.classes}
    said = [*notes, *dict.fromkeys(note for one in sets for note in one.notes)]
    without = [one.where for one in sets if not one.classes]
    if names and without:
        said.append(f"{without[0]} has no labels, so those of the others are not used")
        sets, names = [one.without_labels() for one in sets], set()
    numbers = all(name.lstrip("-").isdecimal() for name in names)
    classes = tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))
    items = tuple(
        dataclasses.replace(item, name=_unique(item.name, one, sets))
        for one in sets
        for item in (one.with_classes(classes) if classes else one).items
    )
    return ImageSet(where, items, classes, tuple(said))


def _unique(name: str, one: ImageSet, sets: Sequence[ImageSet]) -> str:
    """Return the name of an image with that of its file before it, which tells images of several files apart."""
    file = one.where.replace("\\", "/").rpartition("/")[2]
    return f"{file}/{name}" if len({other.where for other in sets}) > 1 else name
