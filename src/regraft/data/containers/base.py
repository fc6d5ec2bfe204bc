"""What a container file provides: how a kind of file that holds many images is recognised and listed."""

import abc
import pathlib
from typing import ClassVar

from regraft.data.images import ImageSet

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
