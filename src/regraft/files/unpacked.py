"""Files packed by gzip, bzip2 or xz, read in order, with bounds on the memory that unpacking takes."""

import bz2
import contextlib
import io
import lzma
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

from regraft.core.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_MEMORY = 256 << 20
"""Bytes that unpacking an xz file may take; its strongest usual setting takes 65 MB."""
CHUNK = 1 << 16
LONGEST_START = 6
DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, MemoryError)
"""What reading a damaged file raises."""


class _Stream(Protocol):
    """What unpacks one stream: an interface that :mod:`bz2` and :mod:`lzma` share."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """One gzip stream, with the interface of the others."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(0, max_length))


_MAKERS: dict[bytes, Callable[[], _Stream]] = {
    b"\x1f\x8b\x08": _Gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY),
}
"""What unpacks a stream, by its first bytes."""


def is_packed(head: bytes) -> bool:
    """Return whether a file that begins so is packed by gzip, bzip2 or xz."""
    return head.startswith(tuple(_MAKERS))


def head_of(path: pathlib.Path, head: bytes, size: int) -> bytes:
    """Return the first bytes of a file, or of what it holds if it is packed; fewer, or none, if it is damaged.

    Args:
        path: the file.
        head: its first bytes as they are.
        size: how many are wanted of a packed file.
    """
    if not is_packed(head):
        return head
    with contextlib.suppress(*DAMAGE), open_unpacked(path, 16 << 20) as stream:
        return stream.read(size)
    return b""


@contextlib.contextmanager
def open_unpacked(path: pathlib.Path, limit: int) -> Iterator[io.BufferedReader]:
    """Open a file, or what it holds if it is packed, to be read in order.

    Reading raises one of :data:`DAMAGE` if the file is damaged, and a :class:`DataError` behind ``limit`` bytes.

    Args:
        path: the file.
        limit: bytes that may be unpacked.
    """
    with path.open("rb") as file:
        packed = is_packed(file.read(LONGEST_START))
        file.seek(0)
        if packed:
            yield io.BufferedReader(_Unpacked(file, limit, f"{path}: would unpack to more than {limit >> 20} MB"), CHUNK)
        else:
            yield file


class _Unpacked(io.RawIOBase):
    """What a packed file holds; several streams one behind the other are one."""

    def __init__(self, file: BinaryIO, limit: int, refusal: str) -> None:
        self._file, self._limit, self._refusal = file, limit, refusal
        self._unpacked = 0
        self._packed = b""
        self._stream: _Stream | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        data = self._next(len(view)) if len(view) else b""
        view[: len(data)] = data
        self._unpacked += len(data)
        if self._unpacked > self._limit:
            raise DataError(self._refusal)
        return len(data)

    def _next(self, most: int) -> bytes:
        """Return at least one byte and at most ``most``; none at the end."""
        while True:
            stream = self._stream or self._next_stream()
            if stream is None:
                return b""
            packed = b""
            if stream.needs_input:
                packed, self._packed = self._packed or self._file.read(CHUNK), b""
                if not packed:
                    raise EOFError("the file ends before its content does")
            data = stream.decompress(packed, most)
            self._stream = stream
            if stream.eof:
                self._stream, self._packed = None, stream.unused_data
            if data:
                return data

    def _next_stream(self) -> _Stream | None:
        """Begin the next stream; None at the end, or where padding follows, as on tapes."""
        if len(self._packed) < LONGEST_START:
            self._packed += self._file.read(CHUNK)
        maker = next((maker for start, maker in _MAKERS.items() if self._packed.startswith(start)), None)
        return None if maker is None else maker()
