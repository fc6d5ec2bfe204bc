"""Arrays of an .npz file, known by their headers before anything of them is unpacked."""

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
class Array:
    """One array in an archive, not read yet.

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
        """What it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    def read(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Unpack it.

        Raises:
            DataError: if it is damaged, or shorter than it says.
        """
        try:
            with zipfile.ZipFile(self.where) as archive, archive.open(self.entry) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # noqa: BLE001 - a damaged archive raises many kinds
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise DataError(f"{self.where}: {self.entry.filename} cannot be read ({reason})") from None


def arrays(where: pathlib.Path) -> dict[str, Array]:
    """The arrays of an archive by name, from their headers only.

    Raises:
        DataError: if it is no archive of arrays, or two have one name.
    """
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(where) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as file:
                    header = io.BytesIO(file.read(MAX_HEADER))
                version = np.lib.format.read_magic(header)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(header)
                if name in found or any(n < 0 for n in shape):
                    raise ValueError(f"{name} is there twice" if name in found else f"{name} has the shape {shape}")
                found[name] = Array(where, entry, shape, dtype)
    except Exception as error:  # noqa: BLE001 - a damaged archive raises many kinds
        raise DataError(f"{where}: not an .npz of plain arrays ({type(error).__name__}: {error})") from None
    return found
