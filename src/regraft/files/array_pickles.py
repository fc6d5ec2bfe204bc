"""Pickles of plain data and NumPy arrays, as those of CIFAR: nothing of a file is called, and arrays stay in the file."""

import io
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError, SourceError
from regraft.files.byte_reader import Blob, Reader
from regraft.files.nvlabs_pickles import DAMAGE, NUMPY_KINDS, ArrayRef, Dtype
from regraft.files.pickle_machine import OPERATIONS, Limits, Operation
from regraft.files.record_machine import Maker, RecordMachine

MAX_KEY = 256
"""Bytes of a key, or of a text in a list."""


class _Array(ArrayRef):
    """An array that is still in the file, or whose bytes were written as text.

    Attributes:
        held: its bytes, if they are not in the file as they are.
    """

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.held: bytes | None = None

    def fill(self, shape: object, dtype: object, fortran: bool, data: object) -> None:
        """Check and remember what the array is."""
        if isinstance(data, str):
            data = data.encode("latin-1")
        if isinstance(data, bytes):
            self.held = data
            data = Blob(io.BytesIO(data), 0, len(data))
        super().fill(shape, dtype, fortran, data)


class _Machine(RecordMachine):
    """Reads what Python 2 and 3 write of dicts, lists, numbers, texts and arrays."""

    operations: ClassVar[dict[int, Operation]] = {
        **OPERATIONS,
        ord("U"): lambda m: m.text(m.reader.number("<B"), "latin-1"),
        ord("T"): lambda m: m.push(m.reader.skip(m.reader.number("<I"))),
    }

    def assign(self, items: list[Any]) -> None:
        """Set items of a dict, whose keys may be bytes."""
        for k in range(0, len(items), 2):
            items[k] = text_of(items[k]) if isinstance(items[k], Blob | bytes) else items[k]
        super().assign(items)


def text_of(value: object) -> str:
    """Return a short string of bytes as text; others as they look.

    Raises:
        SourceError: if it is longer than a key may be.
    """
    if isinstance(value, Blob):
        if value.size > MAX_KEY:
            raise SourceError(f"a text of {value.size} bytes where a short one belongs")
        value = value.read()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def read_arrays(path: pathlib.Path) -> dict[str, Any]:
    """Read a pickled dict; its arrays are mapped from the file.

    Args:
        path: the file.

    Returns:
        Arrays, lists, texts and numbers by name.

    Raises:
        DataError: if it is damaged, holds anything else, or is no dict.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            root = _Machine(Reader(file, 0, size), _makers(), Limits(), strict=True).load()
            if not isinstance(root, dict):
                raise SourceError(f"a {type(root).__name__} and no dict with images under a name")
            return {str(name): _plain(path, value) for name, value in root.items()}
    except SourceError as error:
        raise DataError(
            f"{path}: a pickle that is not read, {str(error)[:300]}; only dicts of plain arrays are. Save the images as .npz"
        ) from None
    except DAMAGE as error:
        raise DataError(f"{path}: a damaged pickle ({type(error).__name__}: {str(error)[:100]}); get it again") from None


def _plain(path: pathlib.Path, value: object) -> Any:
    """Return what a value stands for: an array, a list of texts or numbers, or the value itself."""
    if isinstance(value, _Array):
        if value.unread is not None:
            raise SourceError(value.unread)
        return _mapped(path, value)
    if isinstance(value, list):
        return [text_of(item) if isinstance(item, Blob | bytes) else item for item in value]
    return text_of(value) if isinstance(value, bytes) or (isinstance(value, Blob) and value.size <= MAX_KEY) else value


def _mapped(path: pathlib.Path, ref: _Array) -> NDArray[Any]:
    """Return an array, mapped from the file if its bytes are there."""
    order: Literal["F", "C"] = "F" if ref.fortran else "C"
    if ref.held is not None or ref.data is None or not ref.data.size:
        held: NDArray[Any] = np.frombuffer(ref.held or b"", ref.dtype).reshape(ref.shape, order=order)
        return held
    return np.memmap(path, ref.dtype, "r", ref.data.start, ref.shape, order)


def _encoded(text: object, encoding: object) -> bytes:
    """Return the bytes that Python 3 writes as text for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise SourceError("bytes in an encoding that pickles do not use")
    return text.encode("latin-1")


def _array_of(data: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.fill(shape, dtype, order == "F", data)
    return array


def _number(dtype: object, data: object = None) -> int | float:
    data = data.encode("latin-1") if isinstance(data, str) else data.read() if isinstance(data, Blob) else data
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes) or len(data) != dtype.numpy.itemsize:
        raise SourceError("a NumPy number of an unknown kind")
    number: int | float = np.frombuffer(data, dtype.numpy)[0].item()
    return number


def _make_dtype(code: object, *_: object) -> Dtype:
    if not isinstance(code, str) or code.lstrip("<>|=") not in NUMPY_KINDS:
        raise SourceError("arrays of something else than numbers")
    return Dtype(code)


def _never(*_: object) -> object:
    raise SourceError("an array type that is called")


def _makers() -> dict[tuple[str, str], Maker]:
    table: dict[tuple[str, str], Callable[..., object]] = {
        ("numpy", "dtype"): _make_dtype,
        ("numpy", "ndarray"): _never,
        ("_codecs", "encode"): _encoded,
    }
    for package in ("numpy.core", "numpy._core"):
        table[f"{package}.multiarray", "_reconstruct"] = _Array
        table[f"{package}.multiarray", "scalar"] = _number
        table[f"{package}.numeric", "_frombuffer"] = _array_of
    return {name: Maker(".".join(name), call) for name, call in table.items()}
