"""Arrays of an .npz file: headers are read first, so that nothing is unpacked before its size is known."""

import dataclasses
import io
import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from regraft.core.errors import DataError

MAX_HEADER = 4096


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array of an archive, not unpacked yet.

    Attributes:
        where: the archive.
        entry: its member.
        shape, dtype: what the header says.
    """

    where: pathlib.Path
    entry: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    def read(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Unpack the array.

        Raises:
            DataError: if it is damaged, or shorter than its header says.
        """
        try:
            with zipfile.ZipFile(self.where) as archive, archive.open(self.entry) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # noqa: BLE001 - a damaged archive raises many kinds
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise DataError(f"{self.where}: {self.entry.filename} cannot be read ({reason})") from None


def read_headers(where: pathlib.Path) -> dict[str, StoredArray]:
    """The arrays of an archive by name; only their headers are read.

    Raises:
        DataError: if it is no archive of arrays, or two have one name.
    """
    arrays: dict[str, StoredArray] = {}
    try:
        with zipfile.ZipFile(where) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as file:
                    header = io.BytesIO(file.read(MAX_HEADER))
                version = np.lib.format.read_magic(header)
                read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(header)
                if name in arrays or any(n < 0 for n in shape):
                    raise ValueError(f"{name} is there twice" if name in arrays else f"{name} has the shape {shape}")
                arrays[name] = StoredArray(where, entry, shape, dtype)
    except Exception as error:  # noqa: BLE001 - a damaged archive raises many kinds
        raise DataError(f"{where}: not an .npz of plain arrays ({type(error).__name__}: {error})") from None
    return arrays
