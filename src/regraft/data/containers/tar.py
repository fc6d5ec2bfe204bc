"""Tar archives of image files, packed or not: trees as of a folder, and the shards of webdataset."""

import dataclasses
import functools
import io
import os
import pathlib
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.data.containers._samples import list_samples
from regraft.data.containers.base import MAX_UNPACKED, Asked, Container, Files, unpacked_limit
from regraft.data.images import ImageSet
from regraft.data.pixels import MAX_BYTES, UnreadableImage
from regraft.files.unpacked import DAMAGE, head_of, is_packed, open_unpacked

BLOCK = 512
MAX_MEMBERS = 5_000_000
LINKS = 8
"""Links that may lead to one another."""


class Tar(Container):
    """A tar archive of images."""

    summary: ClassVar[str] = "a .tar, .tar.gz, .tar.bz2 or .tar.xz of images"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        start = head_of(path, head, BLOCK)
        if start[257:262] == b"ustar":
            return True
        # Tars from before 1988 have no mark but the sum of their header.
        return len(start) >= BLOCK and _sum_is_right(start[:BLOCK])

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is the suffix of one image of each webdataset sample."""
        try:
            with path.open("rb") as file:
                packed = is_packed(file.read(6))
            members = _unpack(path) if packed else _index(path)
        except (*DAMAGE, tarfile.TarError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: a damaged tar archive ({' '.join(str(error).split())[:150]}); get it again") from None
        return list_samples(path, Files(list(members.readers), members.read, notes=members.notes), asked)


@dataclasses.dataclass(frozen=True)
class _Members:
    """Files of an archive by name, and what was left out of it."""

    readers: dict[str, Callable[[], bytes]]
    notes: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return self.readers[name]()


def _sum_is_right(header: bytes) -> bool:
    try:
        stated = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return stated == sum(header[:148]) + 8 * 32 + sum(header[156:]) and any(header[:100])


def _index(path: pathlib.Path) -> _Members:
    """Note where the files of an archive lie, once; they are read from there when they are needed."""
    readers: dict[str, Callable[[], bytes]] = {}
    with _Bounded(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        left_out = _walk(
            archive, lambda entry: functools.partial(_read, path, entry.name, entry.offset_data, entry.size), readers
        )
    return _Members(readers, left_out)


def _unpack(path: pathlib.Path) -> _Members:
    """Hold the files of a packed archive in memory, for it can only be read in order."""
    readers: dict[str, Callable[[], bytes]] = {}
    with open_unpacked(path, unpacked_limit(path)) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:

        def take(entry: tarfile.TarInfo) -> Callable[[], bytes]:
            if entry.size > MAX_BYTES:
                return functools.partial(_refuse, path, entry.name)
            member = archive.extractfile(entry)
            content = b"" if member is None else member.read()
            if len(content) != entry.size:
                raise EOFError(f"{entry.name} ends early")
            return lambda: content

        left_out = _walk(archive, take, readers)
    return _Members(readers, left_out)


def _walk(
    archive: tarfile.TarFile,
    take: Callable[[tarfile.TarInfo], Callable[[], bytes]],
    readers: dict[str, Callable[[], bytes]],
) -> tuple[str, ...]:
    """Collect the regular files of an archive; links are followed to its own files and nowhere else."""
    links: dict[str, str] = {}
    odd: list[str] = []
    for entry in _entries(archive):
        name = _plain_name(entry.name)
        if entry.isdir() or name is None:
            continue
        if entry.issym() or entry.islnk():
            base = posixpath.dirname(name) if entry.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(base, entry.linkname))
        elif entry.isreg() and not entry.issparse():
            readers[name] = take(entry)
        else:
            odd.append(name)
    for name, target in links.items():
        for _ in range(LINKS):
            target = links.get(target, target)
        if target in readers and name not in readers:
            readers[name] = readers[target]
        elif name not in readers:
            odd.append(name)
    if not odd:
        return ()
    shown = ", ".join(odd[:3]) + (", ..." if len(odd) > 3 else "")
    return (f"{len(odd)} links out of the archive, devices and the like are left out ({shown})",)


def _entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Go through an archive, whose headers may lead nowhere but forward."""
    before = -1
    for count, entry in enumerate(archive):
        if entry.offset <= before or not 0 <= entry.size <= MAX_UNPACKED or count >= MAX_MEMBERS:
            raise ValueError("its headers contradict one another" if count < MAX_MEMBERS else f"more than {MAX_MEMBERS} files")
        before = entry.offset
        vars(archive)["members"].clear()  # tarfile keeps them all, though nothing here asks for them again
        yield entry


def _plain_name(name: str) -> str | None:
    """Return a name without leading ``./``; a name is never used as a path."""
    plain = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
    return None if plain in ("", ".") else plain


def _read(path: pathlib.Path, name: str, start: int, size: int) -> bytes:
    if size > MAX_BYTES:
        _refuse(path, name)
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
    except OSError as error:
        raise UnreadableImage(f"{path}: {name} cannot be read ({error.strerror})") from None
    if len(content) != size:
        raise UnreadableImage(f"{path}: {name} is cut short, {len(content)} of {size} bytes are there; get the file again")
    return content


def _refuse(path: pathlib.Path, name: str) -> bytes:
    raise UnreadableImage(f"{path}: {name} is larger than {MAX_BYTES >> 20} MB")


class _Bounded(io.FileIO):
    """A file that is never asked for more bytes than it has, whatever a header says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""


PLUGIN = Tar()
