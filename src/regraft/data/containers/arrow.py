"""Arrow files of Hugging Face data sets, as ``save_to_disk`` and its cache write them; pictures stay in the file.

Source: the Arrow columnar format, "Serialization and interprocess communication".
"""

import bisect
import functools
import itertools
import pathlib
import struct
from collections.abc import Iterator
from typing import Any, ClassVar

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.containers._columns import check_rows, choose_columns, class_numbers, import_arrow
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container, check_unpacked, unpacked_limit
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import MAX_BYTES, UnreadableImage

FILE = b"ARROW1"
STREAM = b"\xff\xff\xff\xff"
MAX_MESSAGE = 64 << 20
DICTIONARY, RECORDS = 2, 3
"""Kinds of messages that hold data."""


class Arrow(Container):
    """An .arrow file of images."""

    summary: ClassVar[str] = "an .arrow of a Hugging Face data set"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        is_stream = head.startswith(STREAM) and 0 < int.from_bytes(head[4:8], "little") < MAX_MESSAGE
        return head.startswith(FILE) or (is_stream and path.suffix.lower() in (".arrow", ".feather", ".ipc"))

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is a column of images or of labels."""
        arrow = import_arrow(path, "pyarrow")
        ipc = import_arrow(path, "pyarrow.ipc")
        try:
            batches = _batches(path, arrow, ipc)
            columns = choose_columns(path, batches[0].schema, asked) if batches else None
            if columns is None:
                raise DataError(f"{path}: has no rows")
            values = [v for batch in batches for v in batch.column(columns.label).to_pylist()] if columns.label else []
            pictures = [batch.column(columns.image) for batch in batches]
            pictures = [column.field("bytes") for column in pictures] if columns.nested else pictures
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - pyarrow raises many kinds for a damaged file
            reason = " ".join(str(error).split())[:150]
            raise DataError(f"{path}: a damaged .arrow ({reason}); get it again") from None
        starts = [0, *itertools.accumulate(len(column) for column in pictures)]
        check_rows(path, starts[-1], unpacked_limit(path))
        labels = NO_LABELS
        if columns.label:
            where = f"{path}: {columns.label}"
            labels = read_labels(class_numbers(values), starts[-1], where, asked.labels, columns.names)
        kept = labels.kept(starts[-1])
        notes = [*columns.notes, *labels.notes]
        if len(kept) < starts[-1]:
            notes.append(f"{starts[-1] - len(kept)} of {starts[-1]} images have no label in {columns.label} and are left out")

        def read(i: int) -> bytes:
            batch = bisect.bisect_right(starts, i) - 1
            buffer = pictures[batch][i - starts[batch]].as_buffer()
            if buffer is None or buffer.size > MAX_BYTES:
                raise UnreadableImage(
                    f"{path}: row {i} holds no picture in {columns.image}, but at most the path of one; save the data set with "
                    "its pictures embedded"
                )
            content: bytes = buffer.to_pybytes()
            return content

        items = tuple(Item(f"{printable(path.name)}[{i}]", functools.partial(read, i), labels.of(i)) for i in kept)
        return ImageSet(printable(str(path)), items, labels.classes, tuple(notes))


def _batches(path: pathlib.Path, arrow: Any, ipc: Any) -> list[Any]:
    """Return the batches of rows of a file, checked, without those that are empty; uncompressed ones stay in the file."""
    source = arrow.memory_map(str(path))
    is_file = source.read(len(FILE)) == FILE
    source.seek(8 if is_file else 0)
    check_unpacked(path, sum(_unpacked_sizes(path, ipc.MessageReader.open_stream(source))), "its content")
    source.seek(0)
    if is_file:
        reader = ipc.open_file(source)
        batches = [reader.get_batch(k) for k in range(reader.num_record_batches)]
    else:
        batches = list(ipc.open_stream(source))
    for batch in batches:
        batch.validate(full=True)
    return [batch for batch in batches if len(batch)]


def _unpacked_sizes(path: pathlib.Path, messages: Any) -> Iterator[int]:
    """Return the bytes that each compressed message takes unpacked."""
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        yield _unpacked_size(message.metadata.to_pybytes(), message.body)


def _unpacked_size(metadata: bytes, body: Any) -> int:
    """Return the bytes that one message takes unpacked, as its buffers say; 0 if it is not compressed."""
    table = _Table(metadata, struct.unpack_from("<I", metadata)[0])
    kind = table.byte(1)
    header = table.table(2) if kind in (DICTIONARY, RECORDS) else None
    if header is not None and kind == DICTIONARY:
        header = header.table(1)
    if header is None or header.place(3) is None or body is None:
        return 0
    total = 0
    for start, size in header.pairs(2):
        if size >= 8 and 0 <= start <= body.size - 8:
            total += max(0, struct.unpack("<q", body.slice(start, 8).to_pybytes())[0])
    return total


class _Table:
    """A table of a flat buffer, in which Arrow keeps what a message holds."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.start = data, start
        self.fields = start - struct.unpack_from("<i", data, start)[0]

    def place(self, field: int) -> int | None:
        """Return where a field lies; None if it is not there."""
        at = 4 + 2 * field
        if self.fields < 0 or at + 2 > struct.unpack_from("<H", self.data, self.fields)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, self.fields + at)[0]
        return self.start + offset if offset else None

    def byte(self, field: int) -> int:
        """Return a field of one byte."""
        place = self.place(field)
        return 0 if place is None else self.data[place]

    def table(self, field: int) -> "_Table | None":
        """Return a field that is a table."""
        place = self.place(field)
        return None if place is None else _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Return a field that is a list of pairs of long integers."""
        place = self.place(field)
        if place is None:
            return
        start = place + struct.unpack_from("<I", self.data, place)[0]
        for k in range(struct.unpack_from("<I", self.data, start)[0]):
            yield struct.unpack_from("<qq", self.data, start + 4 + 16 * k)


PLUGIN = Arrow()
