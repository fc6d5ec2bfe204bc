"""Arrays of HDF5 files, read without libhdf5, which can be made to write beyond its memory by a damaged file.

pyfive, which is plain Python, says where the chunks of an array lie; they are read and unpacked here, within bounds.
"""

import collections
import importlib
import math
import mmap
import pathlib
import threading
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_READS = 2_000_000
"""Pieces of a file that finding its arrays may read; one whose parts lead in a circle needs more."""
MAX_PIECE = 64 << 20
"""Bytes of what describes an array that are read together."""
MAX_ARRAYS = 1000
MAX_DEPTH = 3
"""Groups within groups that are looked into."""
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
"""Filters of chunks that are undone."""
BLOCKS = 2
"""Blocks of rows that are held, as rows are asked for in about their order."""


class StoredArray:
    """An array that stays in its file.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(self, path: pathlib.Path, name: str, identity: Any) -> None:
        """Take over what pyfive says of an array.

        Raises:
            DataError: if it is stored in a way that is not read.
        """
        self.path, self.name = path, name
        self.shape: tuple[int, ...] = tuple(int(n) for n in identity.shape)
        self.dtype: np.dtype[Any] = np.dtype(identity.dtype)
        self._filters = [int(f["filter_id"]) for f in identity.filter_pipeline or []]
        self._lock = threading.Lock()
        self._held: collections.OrderedDict[int, NDArray[Any]] = collections.OrderedDict()
        self._chunks: dict[int, list[tuple[tuple[int, ...], int, int, int]]] = collections.defaultdict(list)
        self._mapped: NDArray[Any] | None = None
        if self.dtype.kind not in "biuf" or min(self.shape, default=0) < 0:
            raise self._error(f"is {self.dtype} {self.shape}, and only arrays of numbers are read")
        if identity.layout_class == 1:
            self._map(int(identity.data_offset))
        elif identity.layout_class == 2:
            self._note_chunks(identity)
        else:
            raise self._error("is stored in a compact way that is not read")

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return one row by its number, or several by a slice without steps."""
        if self._mapped is not None:
            part: NDArray[Any] = self._mapped[rows]
            return part
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            picked = [self[i] for i in range(start, stop)]
            return np.stack(picked) if picked else np.empty((0, *self.shape[1:]), self.dtype)
        with self._lock:
            block = rows // self._chunk_shape[0]
            if block not in self._held:
                self._held[block] = self._read_block(block)
                if len(self._held) > BLOCKS:
                    self._held.popitem(last=False)
            row: NDArray[Any] = self._held[block][rows % self._chunk_shape[0]]
            return row

    def _error(self, reason: str) -> DataError:
        return DataError(f"{self.path}: {self.name} {reason}")

    def _map(self, start: int) -> None:
        if not 0 < start <= self.path.stat().st_size - self.nbytes:
            raise self._error("lies beyond the end of the file, or was never written; get the file again")
        if self.nbytes:
            self._mapped = np.memmap(self.path, self.dtype, "r", start, self.shape)

    def _note_chunks(self, identity: Any) -> None:
        """Note where the chunks of each block of rows lie."""
        unknown = set(self._filters) - {DEFLATE, SHUFFLE, CHECKSUM}
        if unknown:
            raise self._error(f"is packed by the filter {min(unknown)}, which is not read; write it with gzip or unpacked")
        self._chunk_shape = tuple(int(n) for n in identity.chunks)
        if len(self._chunk_shape) != len(self.shape) or min(self._chunk_shape) < 1:
            raise self._error(f"has chunks of shape {self._chunk_shape}, which do not fit it")
        self._chunk_bytes = math.prod(self._chunk_shape) * self.dtype.itemsize
        size = self.path.stat().st_size
        for k in range(identity.get_num_chunks()):
            chunk = identity.get_chunk_info(k)
            place = tuple(int(n) for n in chunk.chunk_offset)[: len(self.shape)]
            if len(place) != len(self.shape) or any(n < 0 or n % m for n, m in zip(place, self._chunk_shape, strict=True)):
                raise self._error(f"has a chunk at {place}, which does not fit it; get the file again")
            if not 0 <= chunk.byte_offset <= size - chunk.size:
                raise self._error("has a chunk beyond the end of the file; get the file again")
            block = place[0] // self._chunk_shape[0]
            self._chunks[block].append((place, int(chunk.byte_offset), int(chunk.size), int(chunk.filter_mask)))

    def _read_block(self, block: int) -> NDArray[Any]:
        """Read the rows that the chunks of one block hold; what was never written is zero."""
        rows = np.zeros((self._chunk_shape[0], *self.shape[1:]), self.dtype)
        with self.path.open("rb") as file:
            for place, start, size, mask in self._chunks.get(block, []):
                file.seek(start)
                values = np.frombuffer(self._unpacked(file.read(size), mask), self.dtype).reshape(self._chunk_shape)
                target = tuple(slice(n, n + m) for n, m in zip((0, *place[1:]), self._chunk_shape, strict=True))
                part = rows[target]
                part[...] = values[tuple(slice(n) for n in part.shape)]
        return rows

    def _unpacked(self, data: bytes, mask: int) -> bytes:
        """Undo the filters of one chunk; those whose bit is set in the mask were left out."""
        for k in reversed(range(len(self._filters))):
            if mask & 1 << k:
                continue
            if self._filters[k] == DEFLATE:
                try:
                    data = zlib.decompressobj().decompress(data, self._chunk_bytes + 4)
                except zlib.error as error:
                    raise self._error(f"has a damaged chunk ({error}); get the file again") from None
            elif self._filters[k] == SHUFFLE:
                item = self.dtype.itemsize
                whole = len(data) // item * item
                data = np.frombuffer(data[:whole], np.uint8).reshape(item, -1).T.tobytes() + data[whole:]
            else:
                data = data[:-4]
        if len(data) != self._chunk_bytes:
            raise self._error(f"has a chunk of {len(data)} bytes instead of {self._chunk_bytes}; get the file again")
        return data


class _Bounded:
    """A mapped file for pyfive, which reads what it points to, but not for ever; it needs no handle that could stay open."""

    closed = False

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._reads = content, 0
        self.seek, self.tell = content.seek, content.tell

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise ValueError("its parts lead in a circle")
        return self._content.read(min(size, MAX_PIECE) if size >= 0 else MAX_PIECE)


def read_arrays(path: pathlib.Path) -> dict[str, StoredArray]:
    """Find the arrays of numbers in a file.

    Args:
        path: the file.

    Returns:
        Arrays of one dimension or more by name; those in groups have a slash in it.

    Raises:
        DataError: if it is damaged, or pyfive is not installed.
    """
    try:
        pyfive = importlib.import_module("pyfive")
    except ImportError:
        raise DataError(f"{path}: reading it needs pyfive; install it with pip install regraft[data]") from None
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = dict(_walk(path, pyfive, pyfive.File(_Bounded(content)), "", 0, {}))
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - pyfive raises many kinds for a damaged file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise DataError(f"{path}: an HDF5 file that is damaged or written in an unusual way ({reason})") from None
    return found


def _walk(
    path: pathlib.Path, pyfive: Any, group: Any, prefix: str, depth: int, found: dict[str, StoredArray]
) -> dict[str, StoredArray]:
    """Collect the arrays of a group and of those in it."""
    for name in list(group):
        if len(found) >= MAX_ARRAYS:
            break
        item = group[name]
        if isinstance(item, pyfive.Dataset):
            if item.shape and np.dtype(item.dtype).kind in "biuf":
                found[f"{prefix}{name}"] = StoredArray(path, f"{prefix}{name}", item.id)
        elif isinstance(item, pyfive.Group) and depth < MAX_DEPTH:
            _walk(path, pyfive, item, f"{prefix}{name}/", depth + 1, found)
    return found
