"""What a container file provides: how a kind of file that holds many images is recognised and listed."""

import abc
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar

from regraft.core.names import printable
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN, Read, list_images

MAX_UNPACKED = 16 << 30
"""Bytes that the images of one container may take unpacked."""


class Container(abc.ABC):
    """A kind of file that holds many images.

    No code of a file runs, nothing is unpacked to disk, and sizes are checked before memory is taken.

    Attributes:
        summary: one line that names the kind, for messages.
        order: containers with a lower number are asked first.
    """

    summary: ClassVar[str]
    order: ClassVar[int] = 50

    @abc.abstractmethod
    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """Return whether a file is of this kind.

        Args:
            path: the file; its name may decide where the content cannot.
            head: its first bytes.
        """

    @abc.abstractmethod
    def open(self, path: pathlib.Path, part: str | None) -> ImageSet:
        """List the images of a file.

        Args:
            path: the file.
            part: the part of it that the user named behind a colon, or None.

        Raises:
            DataError: if it is damaged, too large, or holds no images.
        """


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of an archive.

    Attributes:
        names: of all files, with forward slashes or backslashes; those of folders end in one.
        read: returns the bytes of a file by its name; called by several threads at once.
        head: returns its first ``kinds.HEAD`` bytes without reading it whole, or None if that is not possible.
        notes: what is to be said of the names, one sentence each.
    """

    names: Sequence[str]
    read: Read
    head: Read | None = None
    notes: Sequence[str] = ()


class Archive(Container):
    """A kind of file that holds other files, in folders, of which some are images; the rules are those of a folder."""

    @abc.abstractmethod
    def files(self, path: pathlib.Path) -> Files:
        """List the files of an archive.

        Raises:
            DataError: if it is damaged or too large.
        """

    def open(
        self, path: pathlib.Path, part: str | None, *, split: str | Sequence[str] = TRAIN, labels: bool | None = None
    ) -> ImageSet:
        """See :meth:`Container.open`; ``split`` and ``labels`` are those of :func:`~regraft.data.listing.list_images`."""
        files = self.files(path)
        return list_images(
            printable(str(path)),
            files.names,
            files.read,
            head=files.head,
            split=split,
            labels=labels,
            notes=files.notes,
        )
