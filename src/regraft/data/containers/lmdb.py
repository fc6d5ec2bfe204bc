"""LMDB data bases of images: those of rosinality's ``prepare_data``, and those whose values are picture files.

Source: rosinality/stylegan2-pytorch, ``prepare_data.py`` (keys ``{size}-{index:05d}``, and ``length``).
"""

import collections
import functools
import pathlib
import re
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import kinds
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import MAX_BYTES, UnreadableImage
from regraft.files.lmdb_reader import Lmdb, is_lmdb

_KEY = re.compile(rb"(\d+)-(\d+)")
LENGTH = b"length"


class LmdbImages(Container):
    """An LMDB of images."""

    summary: ClassVar[str] = "an LMDB of images (data.mdb)"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return is_lmdb(head)

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is one of several sizes."""
        base = Lmdb(path)
        by_size: dict[str, list[tuple[int, bytes]]] = collections.defaultdict(list)
        for key in base.entries:
            match = _KEY.fullmatch(key)
            if match:
                by_size[match[1].decode()].append((int(match[2]), key))
        if by_size and LENGTH in base.entries:
            return self._of_sizes(path, base, by_size, asked)
        asked.refuse_part(path)
        keys = [key for key, value in base.entries.items() if kinds.kind_of("", base.read(value.start_of(64)))]
        if not keys:
            shown = ", ".join(printable(repr(key)[2:-1][:30]) for key in list(base.entries)[:5])
            raise DataError(
                f"{path}: an LMDB data base without picture files; its {len(base.entries)} keys are {shown or 'none'}"
            )
        left_out = len(base.entries) - len(keys)
        notes = (f"{left_out} entries that are no picture files are not taken",) if left_out else ()
        return _listed(path, base, keys, notes)

    def _of_sizes(self, path: pathlib.Path, base: Lmdb, by_size: dict[str, list[tuple[int, bytes]]], asked: Asked) -> ImageSet:
        """List the images of one size, the largest if none is asked for."""
        sizes = sorted(by_size, key=int)
        if asked.part is not None and asked.part not in sizes:
            raise DataError(f"{path}: no images of size {asked.part}; it holds {', '.join(sizes)}")
        size = asked.part or sizes[-1]
        keys = [key for _, key in sorted(by_size[size])]
        notes = []
        if len(sizes) > 1 and asked.part is None:
            others = ", ".join(sizes[:-1])
            notes.append(
                f"images of size {size} are used, and not those of {others}; name one behind a colon, as in FILE:{sizes[0]}"
            )
        stated = base.read(base.entries[LENGTH])[:20].decode("ascii", "replace")
        if stated != str(len(keys)):
            notes.append(
                f"it says that it holds {stated} images, and it holds {len(keys)}: writing it may have been interrupted"
            )
        return _listed(path, base, keys, tuple(notes))


def _listed(path: pathlib.Path, base: Lmdb, keys: list[bytes], notes: tuple[str, ...]) -> ImageSet:
    def read(key: bytes) -> bytes:
        value = base.entries[key]
        if value.size > MAX_BYTES:
            raise UnreadableImage(f"{path}: {key!r} is larger than {MAX_BYTES >> 20} MB")
        return base.read(value)

    items = tuple(Item(printable(key.decode("utf-8", "backslashreplace")), functools.partial(read, key)) for key in keys)
    return ImageSet(printable(str(path)), items, (), notes)


PLUGIN = LmdbImages()
