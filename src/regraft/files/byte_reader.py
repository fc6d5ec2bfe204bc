"""Reading a part of a file in order, never past its end; long pieces can be left where they are."""

import dataclasses
import struct
from typing import Any, Protocol

MAX_NAME = 256


class Stream(Protocol):
    """What is read from: an open file, bytes in memory or a mapped file."""

    def read(self, n: int, /) -> bytes:
        """At most ``n`` bytes."""

    def seek(self, at: int, /) -> object:
        """Go on reading elsewhere."""

    def tell(self) -> int:
        """Where reading goes on."""


class Reader:
    """A part of a stream, read in order."""

    def __init__(self, stream: Stream, start: int, end: int) -> None:
        self.stream, self.at, self.end = stream, start, end
        stream.seek(start)

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes.

        Raises:
            EOFError: if the part is shorter.
        """
        self._check_room(n)
        data = self.stream.read(n)
        if len(data) != n:
            raise EOFError(f"the file ends at {self.at + len(data)}")
        self.at += n
        return data

    def number(self, layout: str) -> Any:
        """The next number, as ``struct`` lays it out."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """The next short line of ASCII."""
        here = self.at
        data = self.take(min(MAX_NAME, self.end - here))
        text, feed, _ = data.partition(b"\n")
        if not feed:
            raise EOFError(f"no name at {here}")
        self.at = here + len(text) + 1
        self.stream.seek(self.at)
        return text.decode("ascii")

    def skip(self, n: int) -> "Blob":
        """Leave the next ``n`` bytes in the file."""
        self._check_room(n)
        blob = Blob(self.stream, self.at, n)
        self.at += n
        self.stream.seek(self.at)
        return blob

    def _check_room(self, n: int) -> None:
        if n > self.end - self.at:
            raise EOFError(f"{n} bytes wanted at {self.at}, {self.end - self.at} left")


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were left in the file."""

    stream: Stream
    start: int
    size: int

    def read(self) -> bytes:
        """All of them; whoever reads the file goes on where it was."""
        here = self.stream.tell()
        data = self.reader().take(self.size)
        self.stream.seek(here)
        return data

    def reader(self) -> Reader:
        """Read them in order, once whoever reads the file is done."""
        return Reader(self.stream, self.start, self.start + self.size)
