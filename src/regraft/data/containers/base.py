"""What a container file provides: how a kind of file that holds many images is recognised and listed."""

import abc
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN, NoImages, Read, list_images

MAX_UNPACKED = 16 << 30
"""Bytes that the images of one container may take unpacked."""
MAX_RATIO = 256
"""By how much images may be packed: real pictures never are, bombs are."""
SPARE = 256 << 20
"""Bytes that a file of any size may unpack to."""

_INNER = re.compile(
    r"(?i)(\.(zip|tar|tgz|tar\.\w+|np[yz]|pt|pth|parquet|arrow|mdb|h5|hdf5)|ubyte(\.gz)?|_batch(_\d+)?(\.bin)?)$"
)
"""Names of files that hold images themselves."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        part: the part of the file that was named behind a colon, or None.
        split: of train, val and test the one whose images are used, or ``all``; of several names the first that is there.
        labels: True to refuse labels that are no classes, and to take folders for classes where that is in doubt; False to
            ignore all labels.
    """

    part: str | None = None
    split: str | Sequence[str] = TRAIN
    labels: bool | None = None

    def refuse_part(self, path: pathlib.Path) -> None:
        """Refuse a part where a file has none.

        Raises:
            DataError: if the user named one.
        """
        if self.part is not None:
            raise DataError(f"{path}: has no parts that could be chosen; leave out the :{self.part} behind its name")


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

    def is_beside(self, path: pathlib.Path, head: bytes) -> bool:
        """Return whether a file of this kind only describes others in its folder, as labels do, and holds no images."""
        return False

    @abc.abstractmethod
    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """List the images of a file.

        Args:
            path: the file.
            asked: which part and split of it, and which labels.

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

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`."""
        asked.refuse_part(path)
        return list_files(path, self.files(path), asked)


def list_files(path: pathlib.Path, files: Files, asked: Asked) -> ImageSet:
    """List the images of an archive by the rules of a folder."""
    try:
        return list_images(
            printable(str(path)),
            files.names,
            files.read,
            head=files.head,
            split=asked.split,
            labels=asked.labels,
            notes=files.notes,
        )
    except NoImages as error:
        inner = [name for name in files.names if _INNER.search(name)]
        if not inner:
            raise
        raise DataError(f"{error}. Unpack it, and name the folder that {printable(inner[0])} is in then") from None


def unpacked_limit(path: pathlib.Path) -> int:
    """Return how many bytes the content of a file may take unpacked, by its size.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        return min(MAX_UNPACKED, MAX_RATIO * path.stat().st_size + SPARE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def check_unpacked(path: pathlib.Path, size: int, what: str) -> None:
    """Refuse content that would take far more memory than the file explains.

    Args:
        path: the file.
        size: bytes that the content takes unpacked.
        what: the content, as the subject of the error.

    Raises:
        DataError: saying how large it would be, and how large it may be.
    """
    limit = unpacked_limit(path)
    if size > limit:
        raise DataError(f"{path}: {what} would take {size >> 20} MB; of a file of this size at most {limit >> 20} MB are read")
