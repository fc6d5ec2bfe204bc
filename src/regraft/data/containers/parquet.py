"""Parquet files of Hugging Face data sets: a column with the bytes of pictures, and one of labels."""

import bisect
import collections
import functools
import itertools
import pathlib
import threading
from typing import Any, ClassVar

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.containers._columns import Columns, check_rows, choose_columns, class_numbers, import_arrow
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container, unpacked_limit
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import MAX_BYTES, UnreadableImage

GROUPS = 2
"""Groups of rows that are held, as images are asked for in about their order."""
ROWS = 16
"""Rows that are unpacked together."""


class Parquet(Container):
    """A .parquet of images."""

    summary: ClassVar[str] = "a .parquet of a Hugging Face data set"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return head.startswith(b"PAR1")

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is a column of images or of labels."""
        parquet = import_arrow(path, "pyarrow.parquet")
        try:
            file = parquet.ParquetFile(path, memory_map=True)
            check_rows(path, file.metadata.num_rows, unpacked_limit(path))
            columns = choose_columns(path, file.schema_arrow, asked)
            values = file.read(columns=[columns.label]).column(0).to_pylist() if columns.label else []
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - pyarrow raises many kinds for a damaged file
            reason = " ".join(str(error).split())[:150]
            raise DataError(f"{path}: a damaged .parquet ({reason}); get it again") from None
        n = file.metadata.num_rows
        labels = NO_LABELS
        if columns.label:
            where = f"{path}: {columns.label}"
            labels = read_labels(class_numbers(values), n, where, asked.labels, columns.names)
        kept = labels.kept(n)
        notes = [*columns.notes, *labels.notes]
        if len(kept) < n:
            notes.append(f"{n - len(kept)} of {n} images have no label in {columns.label} and are left out")
        rows = _Rows(path, file, columns)
        items = tuple(Item(f"{printable(path.name)}[{i}]", functools.partial(rows.read, i), labels.of(i)) for i in kept)
        return ImageSet(printable(str(path)), items, labels.classes, tuple(notes))


class _Rows:
    """Pictures of one file, read a group of rows at a time."""

    def __init__(self, path: pathlib.Path, file: Any, columns: Columns) -> None:
        self.path, self.file, self.columns = path, file, columns
        sizes = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
        self.starts = [0, *itertools.accumulate(sizes)]
        self.limit = unpacked_limit(path)
        self._lock = threading.Lock()
        self._groups: collections.OrderedDict[int, list[bytes | None]] = collections.OrderedDict()

    def read(self, i: int) -> bytes:
        """Return the bytes of one picture.

        Raises:
            UnreadableImage: if they are not there or damaged.
        """
        group = bisect.bisect_right(self.starts, i) - 1
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._read_group(group)
                if len(self._groups) > GROUPS:
                    self._groups.popitem(last=False)
            content = self._groups[group]
        place = i - self.starts[group]
        picture: bytes | None = content[place] if place < len(content) else None
        if picture is None:
            raise UnreadableImage(
                f"{self.path}: row {i} holds no picture in {self.columns.image}, but at most the path of one; save the data "
                "set with its pictures embedded"
            )
        return picture

    def _read_group(self, group: int) -> list[bytes | None]:
        pictures: list[bytes | None] = []
        total = 0
        name = f"{self.columns.image}.bytes" if self.columns.nested else self.columns.image
        try:
            for batch in self.file.iter_batches(ROWS, [group], columns=[name], use_threads=False):
                column = batch.column(0)
                for value in (column.field("bytes") if self.columns.nested else column).to_pylist():
                    total += len(value or b"")
                    pictures.append(value if value is None or len(value) <= MAX_BYTES else None)
                if total > self.limit:
                    raise UnreadableImage(f"{self.path}: its pictures take more than {self.limit >> 20} MB unpacked")
        except UnreadableImage:
            raise
        except Exception as error:  # noqa: BLE001 - pyarrow raises many kinds for damaged groups
            reason = " ".join(str(error).split())[:150]
            raise UnreadableImage(f"{self.path}: row group {group} is damaged ({reason}); get the file again") from None
        return pictures


PLUGIN = Parquet()
