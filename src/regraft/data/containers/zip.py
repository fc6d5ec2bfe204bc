"""Zip archives of image files, as of a folder."""

import pathlib
import threading
import zipfile
from collections.abc import Mapping, Sequence
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import kinds
from regraft.data.containers.base import MAX_UNPACKED, Archive, Files
from regraft.data.pixels import MAX_BYTES, UnreadableImage
from regraft.data.unread import is_document

UTF8_FLAG = 0x800
"""Bit of an entry that says that its name is UTF-8."""


class Zip(Archive):
    """A .zip of images."""

    summary: ClassVar[str] = "a .zip of images"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return zipfile.is_zipfile(path) and not is_document(path, head)

    def files(self, path: pathlib.Path) -> Files:
        """See :meth:`Archive.files`."""
        try:
            with zipfile.ZipFile(path) as archive:
                entries, notes = _by_name(archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{path}: a damaged .zip ({error})") from None
        total = sum(e.file_size for e in entries.values())
        if total > MAX_UNPACKED:
            raise DataError(f"{path}: would unpack to {total >> 30} GB, more than the {MAX_UNPACKED >> 30} GB allowed")
        reader = _Reader(path, entries)
        return Files(list(entries), reader.read, reader.head, notes)


class _Reader:
    """Reads the entries of one archive, in several threads at once."""

    def __init__(self, path: pathlib.Path, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        self.path = path
        self.entries = entries
        self.handles = threading.local()

    def read(self, name: str) -> bytes:
        """Return the bytes of an entry.

        Raises:
            UnreadableImage: if it is damaged, locked by a password or too large.
        """
        if self.entries[name].file_size > MAX_BYTES:
            raise UnreadableImage(f"{self.path}: {printable(name)} would unpack to more than {MAX_BYTES >> 20} MB")
        return self._read(name, MAX_BYTES + 1)

    def head(self, name: str) -> bytes:
        """Return the first bytes of an entry."""
        return self._read(name, kinds.HEAD)

    def _read(self, name: str, size: int) -> bytes:
        where = f"{self.path}: {printable(name)}"
        try:
            with self._handle().open(self.entries[name]) as file:
                return file.read(size)
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError) as error:
            raise UnreadableImage(f"{where} cannot be unpacked ({error})") from None
        except Exception as error:  # noqa: BLE001 - zlib.error and kin have no common base
            raise UnreadableImage(f"{where} is damaged ({error})") from None

    def _handle(self) -> zipfile.ZipFile:
        """Return this thread's handle: opening reads the whole table of contents, which would be slow for each entry."""
        if not hasattr(self.handles, "archive"):
            self.handles.archive = zipfile.ZipFile(self.path)
        archive: zipfile.ZipFile = self.handles.archive
        return archive


def _by_name(entries: Sequence[zipfile.ZipInfo]) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Return entries by their names, and notes on names that are there twice."""
    table: dict[str, zipfile.ZipInfo] = {}
    twice: list[str] = []
    for entry in entries:
        name = _name_of(entry)
        if name in table and not name.endswith("/"):
            twice.append(name)
        table[name] = entry
    shown = ", ".join(map(printable, twice[:3]))
    return table, [f"{len(twice)} names are there twice, and the last file of each counts ({shown})"] if twice else []


def _name_of(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry.

    Programs that write UTF-8 do not all say so; zipfile then reads the bytes as those of an old PC (code page 437).
    """
    if entry.flag_bits & UTF8_FLAG or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return entry.filename


PLUGIN = Zip()
