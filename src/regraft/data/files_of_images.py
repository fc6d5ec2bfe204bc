"""Open files that hold many images: one, several that belong together, or those that lie in a folder."""

import functools
import pathlib
import re
from collections.abc import Sequence

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import kinds, unread
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet
from regraft.data.joining import join_sets
from regraft.data.splits import ALL, NAMES, pick_split

MOST_FILES = 100_000
"""Files of a folder that are looked into."""
_MNIST_TEST = "t10k"


@functools.cache
def containers() -> tuple[Container, ...]:
    """Return all containers, specific ones first; they are looked for once, for that takes longer than to open a file."""
    plugins = [discover.plugin("containers", name, Container) for name in discover.names("containers")]
    return tuple(sorted(plugins, key=lambda container: container.order))


def find_container(path: pathlib.Path) -> Container | None:
    """Return the container that reads a file, or None."""
    head = _head(path)
    return next((container for container in containers() if head and container.matches(path, head)), None)


def open_file(path: pathlib.Path, asked: Asked) -> ImageSet:
    """List the images of one file.

    Raises:
        DataError: if it is damaged, holds no images, or is of a kind that is not read, which is named.
    """
    container = find_container(path)
    if container is None:
        known = ", ".join(container.summary for container in containers())
        raise DataError(unread.refusal(path, _head(path), known))
    return container.open(path, asked)


def open_files(where: str, paths: Sequence[pathlib.Path], asked: Asked, notes: Sequence[str] = ()) -> ImageSet:
    """List the images of several files as one set, such as the shards of a data set.

    Where their names say that they are parts for training and for tests, only those of the split that is asked for are used.

    Args:
        where: what they are together, for messages.
        paths: the files, in their order.
        asked: which part and split of them, and which labels.
        notes: what was decided so far.

    Raises:
        DataError: if one of them cannot be read, or there is no such split.
    """
    paths = _unpacked_ones(paths)
    splits = _splits_of(paths)
    said = list(notes)
    if len(set(splits)) > 1:
        counts = {split: splits.count(split) for split in sorted(set(splits))}
        chosen, _ = pick_split(where, counts, asked.split)
        paths = [path for path, split in zip(paths, splits, strict=True) if chosen in (split, ALL)]
        there = ", ".join(f"{split} ({_files(count)})" for split, count in counts.items())
        said.append(f"the split {chosen} is used, and --split chooses another; by their names there are: {there}")
    shown = ", ".join(printable(path.name) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    said.append(f"images are those of {_files(len(paths))}: {shown}")
    return join_sets(where, [open_file(path, asked) for path in paths], said)


def files_in(folder: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    """Return the files below a folder that hold images, without those that only describe others.

    Args:
        folder: the folder.
        names: of the files below it, relative to it, in their order; folders end in a slash.
    """
    found = []
    for name in names[:MOST_FILES]:
        path = folder / name
        container = None if name.endswith("/") else find_container(path)
        if container is not None and not container.is_beside(path, _head(path)):
            found.append(path)
    return found


def _head(path: pathlib.Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        DataError: if it may not be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(kinds.HEAD)
    except OSError as error:
        raise DataError(f"{printable(str(path))}: cannot be read ({error.strerror})") from None


def _unpacked_ones(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Return files without those that are packed copies of others."""
    there = set(paths)
    return [path for path in paths if path.suffix != ".gz" or path.with_suffix("") not in there]


def _splits_of(paths: Sequence[pathlib.Path]) -> list[str]:
    """Return the split of each file by its name or that of its folder; train where neither says it."""
    splits = []
    for path in paths:
        words = re.findall(r"[a-z]+|t10k", f"{path.parent.name} {path.name}".lower())
        known = [NAMES[word] for word in words if word in NAMES]
        splits.append("test" if _MNIST_TEST in path.name.lower() else known[-1] if known else "train")
    return splits


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
