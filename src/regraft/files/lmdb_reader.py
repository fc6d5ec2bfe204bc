"""LMDB data bases read without its library, which believes every page that a file points to and ends the process on a bad one.

Only what data sets of images need is read: the one unnamed table, newest state, keys in their order.

Source: the on-disk structures in the documentation of LMDB 0.9 (meta pages, branch, leaf and overflow pages).
"""

import dataclasses
import mmap
import pathlib
import struct
from collections.abc import Iterator

from regraft.core.errors import DataError

MAGIC = 0xBEEFC0DE
VERSION = 1
HEADER = 16
"""Bytes before the content of a page."""
NODE = 8
"""Bytes before the key of a node."""
BRANCH, LEAF, META = 0x01, 0x02, 0x08
BIG_DATA, SUB_TABLE, DUPLICATES = 0x01, 0x02, 0x04
"""Flags of a node: its value lies on pages of its own; it is a table; it has several values."""
MAX_DEPTH = 32
MAX_ENTRIES = 50_000_000
MAX_KEY = 511
EMPTY = (1 << 64) - 1
"""The root of a table without entries."""


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """Where a value lies in the file."""

    start: int
    size: int

    def start_of(self, size: int) -> "Value":
        """Return where its first bytes lie."""
        return Value(self.start, min(size, self.size))


def is_lmdb(head: bytes) -> bool:
    """Return whether a file begins as the data file of LMDB does."""
    return len(head) >= HEADER + 8 and struct.unpack_from("<I", head, HEADER)[0] == MAGIC


class Lmdb:
    """An open data base.

    Attributes:
        entries: where the value of each key lies.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Read all keys.

        Raises:
            DataError: if the file is damaged, or has what data sets of images do not.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._page_size, root = self._newest()
            self.entries = dict(self._walk(root)) if root != EMPTY else {}
        except DataError:
            raise
        except (OSError, ValueError, struct.error, IndexError, OverflowError) as error:
            raise self._damaged(str(error)[:100]) from None

    def read(self, value: Value) -> bytes:
        """Return the bytes of a value."""
        return self._data[value.start : value.start + value.size]

    def _damaged(self, reason: str) -> DataError:
        return DataError(f"{self.path}: a damaged LMDB data base ({reason}); get it again")

    def _newest(self) -> tuple[int, int]:
        """Return the size of a page and the root of the newer of the two states that a file keeps."""
        states = []
        size = struct.unpack_from("<I", self._data, HEADER + 24)[0]
        if size not in (1 << k for k in range(9, 17)):
            raise self._damaged(f"pages of {size} bytes")
        for start in (0, size):
            if len(self._data) < start + HEADER + 136:
                continue
            magic, version = struct.unpack_from("<II", self._data, start + HEADER)
            flags = struct.unpack_from("<H", self._data, start + 10)[0]
            if magic == MAGIC and version == VERSION and flags & META:
                root = struct.unpack_from("<Q", self._data, start + HEADER + 112)[0]
                states.append((struct.unpack_from("<Q", self._data, start + HEADER + 128)[0], root))
        if not states:
            version = struct.unpack_from("<I", self._data, HEADER + 4)[0]
            raise self._damaged(f"no state that can be read; its version is {version}, and {VERSION} is read")
        return size, max(states)[1]

    def _walk(self, root: int) -> Iterator[tuple[bytes, Value]]:
        """Go through the leaves; no page is visited twice."""
        waiting, seen = [(root, 0)], set()
        found = 0
        while waiting:
            number, depth = waiting.pop()
            if number in seen or depth > MAX_DEPTH:
                raise self._damaged("its pages lead in a circle")
            seen.add(number)
            start = number * self._page_size
            if start + self._page_size > len(self._data):
                raise self._damaged(f"page {number} lies beyond the end")
            flags, lower = struct.unpack_from("<HH", self._data, start + 10)
            count = (lower - HEADER) // 2
            if count < 0 or HEADER + 2 * count > self._page_size:
                raise self._damaged(f"page {number} has {count} entries")
            nodes = [start + offset for offset in struct.unpack_from(f"<{count}H", self._data, start + HEADER)]
            if any(node + NODE > start + self._page_size for node in nodes):
                raise self._damaged(f"page {number} has entries outside of it")
            if flags & BRANCH:
                waiting += [(self._child(node), depth + 1) for node in reversed(nodes)]
            elif flags & LEAF:
                found += count
                if found > MAX_ENTRIES:
                    raise self._damaged(f"more than {MAX_ENTRIES} entries")
                yield from (self._entry(node, start + self._page_size) for node in nodes)
            else:
                raise self._damaged(f"page {number} is of no known kind")

    def _child(self, node: int) -> int:
        low, high, flags = map(int, struct.unpack_from("<HHH", self._data, node))
        return low | high << 16 | flags << 32

    def _entry(self, node: int, page_end: int) -> tuple[bytes, Value]:
        """Return one key, and where its value lies."""
        low, high, flags, key_size = struct.unpack_from("<HHHH", self._data, node)
        size, start = low | high << 16, node + NODE + key_size
        if flags & (SUB_TABLE | DUPLICATES):
            raise DataError(f"{self.path}: an LMDB data base of several tables; only those with one are read")
        end = page_end
        key = self._data[node + NODE : start]
        if flags & BIG_DATA:
            start = struct.unpack_from("<Q", self._data, start)[0] * self._page_size + HEADER
            end = len(self._data)
        if key_size > MAX_KEY or start + size > end:
            raise self._damaged(f"the entry {key[:20]!r} lies beyond the end")
        return key, Value(start, size)
