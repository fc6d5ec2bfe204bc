"""TensorFlow 1 checkpoints without TensorFlow: tensor bundles (V2: ``.index`` and ``.data-*``) and single files (V1).

Both are tables of sorted keys and values in LevelDB's layout whose values are protocol buffers.  Files are hostile until read:
every number is checked against the bytes that are there, every byte is visited once, and nothing is allocated on a file's word.
"""

import contextlib
import dataclasses
import math
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats._table import Bytes, Damaged, entries, fields, is_table, masked_crc

FLOAT32 = 1
MOST_TENSORS = 1 << 14
MOST_SHARDS = 1024
CHECKED_TENSOR = 1 << 16  # checksums of larger tensors would take longer than reading them
SHARD = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}")


@dataclasses.dataclass(frozen=True)
class Header:
    """What a checkpoint says of one tensor; the last four fields say where a bundle keeps it.

    Attributes:
        dtype: TensorFlow's number, 1 for float32.
        shape: of the tensor.
        whole: whether it is stored in one piece.
        shard, offset, size: data file and bytes in it.
        crc: masked CRC-32C of these bytes.
    """

    dtype: int
    shape: tuple[int, ...]
    whole: bool
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: the ``.index`` of a bundle, or the single file.
        headers: by tensor name.
        shards: data files of a bundle, none for a single file.
    """

    path: pathlib.Path
    headers: dict[str, Header]
    shards: tuple[pathlib.Path, ...]

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """All files it consists of."""
        return (self.path, *self.shards)

    def tensors(self, names: Collection[str]) -> dict[str, Tensor]:
        """Read float32 tensors.

        Raises:
            SourceError: if one is of another type, in pieces, or not as its header says.
        """
        with _named_errors(self.path):
            for name in names:
                header = self.headers[name]
                if header.dtype != FLOAT32 or not header.whole:
                    how = "in pieces (a partitioned variable)" if not header.whole else f"of TensorFlow's type {header.dtype}"
                    raise Damaged(f"{name} is stored {how}; only whole float32 tensors (type 1) are read")
            return self._from_shards(names) if self.shards else self._from_single(names)

    def _from_shards(self, names: Collection[str]) -> dict[str, Tensor]:
        sizes = [path.stat().st_size for path in self.shards]
        if sum(self.headers[name].size for name in names) > sum(sizes):
            raise Damaged("tensors overlap, or the data files are cut short")
        tensors = {}
        with contextlib.ExitStack() as stack:
            files: dict[int, BinaryIO] = {}
            for name in names:
                header = self.headers[name]
                if header.size != 4 * math.prod(header.shape):
                    raise Damaged(f"{name} has {header.size} bytes for the shape {header.shape}")
                if header.offset + header.size > sizes[header.shard]:
                    raise Damaged(f"{name} lies outside of {self.shards[header.shard].name}, which is cut short")
                if header.shard not in files:
                    files[header.shard] = stack.enter_context(self.shards[header.shard].open("rb"))
                files[header.shard].seek(header.offset)
                data = files[header.shard].read(header.size)
                if header.size <= CHECKED_TENSOR and masked_crc(data) != header.crc:
                    raise Damaged(f"{name} has a wrong checksum")
                tensors[name] = _tensor(data, header.shape, name)
        return tensors

    def _from_single(self, names: Collection[str]) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for key, value in entries(self.path):
            if not key:
                continue
            piece = _message(value, 2)
            name = _text(_message(piece, 1))
            if name not in names:
                continue
            if name in tensors:
                raise Damaged(f"{name} is there twice")
            data = _message(_message(piece, 3), 5)
            tensors[name] = _tensor(b"" if data is None else data, self.headers[name].shape, name)
        missing = [name for name in names if name not in tensors]
        if missing:
            raise Damaged(f"{missing[0]} is named but not stored")
        return tensors


def table_of(path: pathlib.Path) -> pathlib.Path | None:
    """The table that a path means: itself, the ``.index`` beside a data file, or the one in a folder.

    Raises:
        SourceError: if a folder holds several.
    """
    if path.is_dir():
        tables = _tables_in(path)
        if len(tables) > 1:
            names = ", ".join(p.name for p in tables[:4])
            raise SourceError(f"{path}: holds several TensorFlow checkpoints ({names}); name one")
        return tables[0] if tables else None
    shard = SHARD.fullmatch(path.name)
    if shard:
        path = path.with_name(shard["prefix"] + ".index")
    return path if is_table(path) else None


def _tables_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """Bundles of a folder, or its single files if there are none; of several the one that a file ``checkpoint`` names."""
    files = sorted(p for p in folder.iterdir() if p.is_file())[:256]
    tables = [p for p in files if p.suffix == ".index" and is_table(p)]
    tables = tables or [p for p in files if is_table(p)]
    state = folder / "checkpoint"
    if len(tables) < 2 or not state.is_file() or state.stat().st_size > 1 << 16:
        return tables
    named = re.match(r'model_checkpoint_path: "(?:[^"]*[/\\])?([^"/\\]+)"', state.read_text(encoding="utf-8", errors="replace"))
    chosen = [p for p in tables if named and p.name in (named[1], f"{named[1]}.index")]
    return chosen or tables


def open_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Open a checkpoint and read the headers of its tensors.

    Raises:
        SourceError: if it is damaged or cut short, or a data file is missing.
    """
    with _named_errors(path):
        rows = entries(path)
        first = next(rows, None)
        if first is None or first[0]:
            raise Damaged("the header is missing")
        header = dict(fields(first[1]))
        if isinstance(header.get(1), int):
            return _bundle(path, header, rows)
        tensor_list = header.get(1)
        if not isinstance(tensor_list, Bytes):
            raise Damaged("the header is neither a bundle's nor a single file's")
        return Checkpoint(path, _single_headers(tensor_list), ())


def _bundle(path: pathlib.Path, header: dict[int, int | Bytes], rows: Iterator[tuple[bytes, Bytes]]) -> Checkpoint:
    """A bundle from the fields of its header and the entries that follow."""
    count = header[1]
    if not isinstance(count, int) or not 1 <= count <= MOST_SHARDS:
        raise Damaged(f"it claims {count!r} data files")
    if header.get(2, 0) != 0:
        raise Damaged("it was written on a big-endian machine, which is not read")
    headers: dict[str, Header] = {}
    for key, value in rows:
        entry = dict(fields(value))
        numbers = [entry.get(field, 0) for field in (1, 3, 4, 5, 6)]
        if not all(isinstance(number, int) for number in numbers) or len(headers) >= MOST_TENSORS:
            raise Damaged("an entry is no tensor's, or there are too many")
        dtype, shard, offset, size, crc = (int(number) for number in numbers if isinstance(number, int))
        if shard >= count:
            raise Damaged(f"a tensor is in data file {shard} of {count}")
        headers[_text(key)] = Header(dtype, _shape(entry.get(2, b"")), 7 not in entry, shard, offset, size, crc)
    prefix = path.name.removesuffix(".index")
    shards = tuple(path.with_name(f"{prefix}.data-{k:05d}-of-{count:05d}") for k in range(count))
    absent = next((shard.name for shard in shards if not shard.is_file()), None)
    if absent:
        raise Damaged(f"its data file {absent} is not beside it")
    return Checkpoint(path, headers, shards)


def _single_headers(tensor_list: Bytes) -> dict[str, Header]:
    """Headers of a single file's list of tensors."""
    headers: dict[str, Header] = {}
    for number, value in fields(tensor_list):
        if number != 1:
            continue
        pairs = list(fields(value))
        entry = dict(pairs)
        name, dtype = _text(entry.get(1)), entry.get(3, 0)
        slices = [v for n, v in pairs if n == 4]
        if not isinstance(dtype, int) or name in headers or len(headers) >= MOST_TENSORS:
            raise Damaged("its list of tensors names one twice, or too many")
        headers[name] = Header(dtype, _shape(entry.get(2, b"")), len(slices) == 1 and _is_full(slices[0]))
    return headers


def _is_full(piece: int | Bytes) -> bool:
    """Whether a slice covers its tensor, which it does if none of its extents has a length."""
    return all(field == 1 and not list(fields(extent)) for field, extent in fields(piece))


def _shape(message: int | Bytes) -> tuple[int, ...]:
    """A tensor's shape from its message."""
    sizes = []
    for number, dim in fields(message):
        if number == 2:
            sizes.append(dict(fields(dim)).get(1, 0))
    if len(sizes) > 8 or not all(isinstance(n, int) and n < 1 << 31 for n in sizes):
        raise Damaged(f"a shape of {len(sizes)} sides, or one that is not fully known")
    return tuple(int(n) for n in sizes if isinstance(n, int))


def _message(data: int | Bytes | None, number: int) -> Bytes | None:
    """The last sub-message (or string) ``number`` of a message."""
    value = None if data is None else dict(fields(data)).get(number)
    if isinstance(value, int):
        raise Damaged("a number stands where a message should")
    return value


def _text(data: int | Bytes | None) -> str:
    """A tensor's name from its bytes."""
    if data is None or isinstance(data, int):
        raise Damaged("a tensor has no name")
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise Damaged("a tensor's name is no text") from None


def _tensor(data: Bytes, shape: tuple[int, ...], name: str) -> Tensor:
    """A float32 tensor from its bytes, copied."""
    # Numpy multiplies the sides of empty arrays too, and fails where that is too much.
    if 0 in shape and math.prod(n for n in shape if n) >= 1 << 48:
        raise Damaged(f"{name} is empty and has the shape {shape}")
    if len(data) != 4 * math.prod(shape):
        raise Damaged(f"{name} has {len(data)} bytes for the shape {shape}")
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32).reshape(shape))


@contextlib.contextmanager
def _named_errors(path: pathlib.Path) -> Iterator[None]:
    """Turn damage found inside the block into an error that names the file."""
    try:
        yield
    except (Damaged, OSError) as error:
        raise SourceError(f"{path}: not a TensorFlow checkpoint that can be read: {error}") from None
