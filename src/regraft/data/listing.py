"""Which files of a folder or an archive are images, and which labels they have: one set of rules for all of them."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import kinds, own_output
from regraft.data.hidden import hidden_part
from regraft.data.images import ImageSet, Item
from regraft.data.labels import DESCRIPTION, label_images
from regraft.data.own_output import OwnOutput
from regraft.data.splits import choose_split

Read = Callable[[str], bytes]

TRAIN = "train"
"""The split that is used unless another one is asked for."""


class NoImages(DataError):
    """A folder or archive holds no image files."""


def list_images(
    where: str,
    names: Sequence[str],
    read: Read,
    *,
    head: Read | None = None,
    split: str | Sequence[str] = TRAIN,
    labels: bool | None = None,
    notes: Sequence[str] = (),
) -> ImageSet:
    r"""List the images among the files of a folder or an archive.

    Args:
        where: path of the folder or archive, for messages.
        names: names of all its files, relative to it; a name that ends in a slash is a folder.  ``\`` counts as ``/``.
        read: returns the bytes of a file by its name.
        head: returns the first bytes of a file, at most ``kinds.HEAD``, without reading it whole.  Without it files are read
            whole where their names do not tell what they are, and single pictures that regraft made are not looked for.
        split: of train, val and test folders that are used, or ``all``; of several the first that is there.
        labels: True to take folders for classes where that is in doubt, False to ignore all labels.
        notes: what is to be said of the names already.

    Returns:
        The images in the order of their names, with notes on what was left out and on how labels were found.

    Raises:
        DataError: if none of the files is an image, or their labels cannot be used.
    """
    table = _by_printable_name(names)
    sorted_files = _sort(table, read, head)
    images = sorted_files.images
    if not images:
        raise NoImages(f"{where}: {sorted_files.why_empty()}")
    arranged = choose_split(where, images, split)
    labelled = label_images(where, arranged, table, read, labels)
    found = labelled.labels or [None] * len(labelled.images)
    items = tuple(
        Item(name, functools.partial(read, table[name]), label) for name, label in zip(labelled.images, found, strict=True)
    )
    said = (*notes, *sorted_files.notes(), *arranged.notes, *labelled.notes)
    listed = ImageSet(where, items, labelled.classes, said)
    return listed.without_labels() if labels is False else listed


@dataclasses.dataclass(frozen=True)
class _Sorted:
    """The files of a folder or archive by what they are.

    Attributes:
        images: names, in order.
        by_content: those of them whose endings do not say that they are images.
        unreadable: names of images by what has to be done before they can be read.
        others: names of other files.
        hidden: names of hidden files and folders.
        empty: names of folders that hold no file.
        own: what regraft made.
        own_images: how many images each folder holds that regraft made.
        all_own: whether all images are pictures that regraft made; they are kept then.
    """

    images: tuple[str, ...]
    by_content: tuple[str, ...]
    unreadable: Mapping[str, Sequence[str]]
    others: tuple[str, ...]
    hidden: tuple[str, ...]
    empty: tuple[str, ...]
    own: OwnOutput
    own_images: Mapping[str, int]
    all_own: bool

    def notes(self) -> list[str]:
        """Say what was left out, a sentence for each kind of reason."""
        notes = []
        if self.by_content:
            notes.append(f"{_count(self.by_content, 'file')} known as images by content")
        for way_out, names in self.unreadable.items():
            notes.append(f"{_count(names, 'image')} left out, because Pillow cannot read them here: {way_out}")
        own = [f"{kind} {folder} ({_plural(self.own_images[folder], 'image')})" for folder, kind in self._own_folders()]
        own += [_count(sorted(self.own.pictures), "picture")] if self.own.pictures else []
        if own:
            notes.append(f"left out, because regraft made it: {', '.join(own)}")
        if self.all_own:
            notes.append("all of these images were made by regraft")
        left_out = [_count(names, what) for what, names in self._others() if names]
        if left_out:
            notes.append(f"not taken: {', '.join(left_out)}")
        return notes

    def why_empty(self) -> str:
        """Say why there are no images."""
        if "" in self.own.folders:
            return f"is a {self.own.folders['']} that regraft made, and holds no images of its own; name the images themselves"
        notes = self.notes()
        known = f"images are known by their content, or by the endings {' '.join(sorted(kinds.SUFFIXES))}"
        if not notes:
            return f"holds no images (it is empty); {known}"
        endings = sorted({pathlib.PurePosixPath(name).suffix or name for name in self.others})
        shown = f" ({', '.join(endings[:6])})" if endings else ""
        return f"holds no images{shown}; {'; '.join(notes)}; {known}"

    def _own_folders(self) -> list[tuple[str, str]]:
        """Return name and kind of the folders that regraft made and that hold images, outermost ones only."""
        return [(folder, self.own.folders[folder]) for folder, n in sorted(self.own_images.items()) if n]

    def _others(self) -> list[tuple[str, Sequence[str]]]:
        return [("other file", self.others), ("hidden file or folder", self.hidden), ("empty folder", self.empty)]


def _sort(table: Mapping[str, str], read: Read, head: Read | None) -> _Sorted:
    """Sort files by what they are; arguments are those of :func:`list_images`, with names by printable name."""
    peek: Read = head or (lambda name: read(name)[: kinds.HEAD])
    hidden = {name: part for name in table if (part := hidden_part(name.rstrip("/"))) is not None}
    files = {name: raw for name, raw in table.items() if name not in hidden and not name.endswith("/")}
    folders = own_output.find_folders(files, read)
    own = OwnOutput(folders, frozenset())
    inside = {name: folder for name in files if (folder := own.folder_of(name)) is not None}
    by_content, unreadable, images, others = [], collections.defaultdict(list), {}, []
    own_images: dict[str, int] = dict.fromkeys(inside.values(), 0)
    for name, raw in files.items():
        if name in inside:
            own_images[inside[name]] += kinds.is_known(name)
            continue
        kind = None if kinds.is_known(name) else kinds.kind_of(name, _peek(raw, peek))
        if kind is not None:
            way_out = kinds.missing_plugin(kind)
            if way_out is not None:
                unreadable[way_out].append(name)
                continue
            by_content.append(name)
        if kind is not None or kinds.is_known(name):
            images[name] = raw
        elif pathlib.PurePosixPath(name).name != DESCRIPTION:
            others.append(name)
    marked = own_output.find_pictures(images, head) if head is not None else frozenset()
    # Where all pictures are regraft's, a set of generated images is what was asked for.
    pictures = marked if len(marked) < len(images) else frozenset()
    empty = [name.rstrip("/") for name in table if name.endswith("/") and name not in hidden]
    occupied = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents}
    return _Sorted(
        images=tuple(
            sorted((name for name in images if name not in pictures), key=lambda name: table[name].replace("\\", "/"))
        ),
        by_content=tuple(n for n in by_content if n not in pictures and not kinds.has_usual_ending(n)),
        unreadable=unreadable,
        others=tuple(sorted(others)),
        hidden=tuple(sorted(set(hidden.values()))),
        empty=tuple(sorted(name for name in empty if name not in occupied)),
        own=OwnOutput(folders, pictures),
        own_images=own_images,
        all_own=bool(images) and len(marked) == len(images),
    )


def _peek(name: str, peek: Read) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    try:
        return peek(name)
    except DataError:
        return b""


def _by_printable_name(names: Sequence[str]) -> dict[str, str]:
    r"""Return names by the text that stands for each: printable, with ``/`` for ``\``; two that look alike stay two."""
    table: dict[str, str] = {}
    for name in names:
        text = printable(name.replace("\\", "/")).lstrip("/")
        while text.startswith("./"):
            text = text[2:].lstrip("/")
        if not text or text.endswith("/"):
            table |= {text: name} if text else {}
            continue
        unique, number = text, 2
        while unique in table:
            path = pathlib.PurePosixPath(text)
            unique = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
            number += 1
        table[unique] = name
    return table


def _count(names: Sequence[str], what: str) -> str:
    """Return a count of names with up to three of them as examples."""
    examples = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{_plural(len(names), what)} ({examples})"


def _plural(n: int, what: str) -> str:
    words = what.split(" or ")
    return f"{n} {what if n == 1 else ' or '.join(word + 's' for word in words)}"
