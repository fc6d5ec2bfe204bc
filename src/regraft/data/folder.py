"""The files below a folder: linked folders are followed, each real folder once, so that no loop is endless."""

import collections
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterable

from regraft.core.errors import DataError
from regraft.data.hidden import is_hidden
from regraft.data.pixels import MAX_BYTES, UnreadableImage


@dataclasses.dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Attributes:
        names: of all files, relative to the folder, with forward slashes; a slash ends the name of a folder that is empty or
            was not entered because it is hidden.
        not_followed: names of links that lead nowhere, or to a folder or file that is listed under another name.
        unreadable: names of folders that may not be read.
    """

    names: tuple[str, ...]
    not_followed: tuple[str, ...]
    unreadable: tuple[str, ...]


def walk(root: pathlib.Path) -> Tree:
    """List the files below a folder.

    Real folders come first: a link to one of them, such as ``latest``, is a second name for it and is not followed.

    Raises:
        DataError: if the folder itself may not be read.
    """
    walker = _Walker(root)
    walker.enter("")
    if "" in walker.unreadable:
        raise DataError(f"{root}: this folder may not be read; check its permissions")
    walker.follow_links()
    return Tree(tuple(walker.names), tuple(sorted(walker.not_followed)), tuple(sorted(walker.unreadable)))


def read_file(path: pathlib.Path) -> bytes:
    """Read a file of images.

    Raises:
        UnreadableImage: if it is too large or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableImage(f"{path}: larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None


def read_head(path: pathlib.Path, size: int) -> bytes:
    """Return the first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


class _Walker:
    """One walk; folders and files are told apart by device and inode."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.not_followed: list[str] = []
        self.unreadable: list[str] = []
        self.seen: set[tuple[int, int]] = set()
        self.files_are_seen = False
        self.links: collections.deque[str] = collections.deque()

    def enter(self, start: str) -> None:
        """List a folder and all real folders below it; keep links for later."""
        waiting = [start]
        while waiting:
            name = waiting.pop()
            try:
                self.seen.add(_identity(self.root / name))
                with os.scandir(self.root / name) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                self.unreadable.append(name)
                continue
            if not found and name:
                self.names.append(f"{name}/")
            waiting += self._take(name, found)

    def follow_links(self) -> None:
        """List what links lead to, in the order of their names; they may lead to further links."""
        while self.links:
            name = self.links.popleft()
            target = self.root / name
            try:
                identity = _identity(target)
            except OSError:  # nothing is there, or links lead in a circle
                self.not_followed.append(name)
                continue
            if target.is_file() and not self.files_are_seen:
                self._see_files()
            if identity in self.seen:
                self.not_followed.append(name)
            elif target.is_dir():
                self.enter(name)
            elif target.is_file():
                self.seen.add(identity)
                self.names.append(name)

    def _see_files(self) -> None:
        """Remember which real files are listed; asked only where links to files need it, for it is slow."""
        self.files_are_seen = True
        for name in self.names:
            with contextlib.suppress(OSError):
                self.seen.add(_identity(self.root / name))

    def _take(self, folder: str, entries: Iterable["os.DirEntry[str]"]) -> list[str]:
        """Take the files and links of one folder, and return the names of its real folders."""
        folders: list[str] = []
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_hidden(entry.name):
                self.names.append(f"{name}/" if is_folder else name)
            elif entry.is_symlink():
                self.links.append(name)
            elif is_folder:
                folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                self.names.append(name)
        return folders


def _identity(path: pathlib.Path) -> tuple[int, int]:
    """Return device and inode of what a path leads to."""
    status = path.stat()
    return status.st_dev, status.st_ino
