"""NVlabs pickles without their code: modules become records of names, settings and tensors that are still in the file.

The allow-list is all that such files need.  Source code that they embed is dropped unread, nested ``torch.save`` streams are
read by the same machine, and tensors are checked against their storage and the file before anything is allocated.

torch has no safe way to open these files, so they are read here.  Its own files it reads itself, after
:mod:`regraft.files.torch_pickles` has checked them with the same interpreter.

Source: spec of the NVlabs containers; torch's legacy ``torch.save`` layout.
"""

import contextlib
import dataclasses
import functools
import io
import math
import pathlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files.byte_reader import Blob, Reader
from regraft.files.inert import Placeholder, placeholder
from regraft.files.pickle_machine import STORAGES, Limits
from regraft.files.record_machine import Maker, RecordMachine, Stub, refusal

SLACK = 64 << 20
MAX_DIMS = 8
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
NUMPY_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
DAMAGE = (
    EOFError,
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    UnicodeError,
    struct.error,
    RuntimeError,
    OSError,
)


@dataclasses.dataclass(frozen=True)
class Record:
    """A pickled NVlabs module: its class's name, the code's version, and its attributes."""

    class_name: str
    version: int
    state: dict[str, Any]


class TFNetwork(Stub):
    """A pickled TensorFlow network of NVlabs."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def set_state(self, state: object) -> None:
        """Take over the pickled attributes."""
        if not isinstance(state, dict):
            raise SourceError("a TensorFlow network whose state is no mapping")
        self.state = state


class Dtype(Stub):
    """A NumPy element type of numbers."""

    def __init__(self, code: str) -> None:
        self.numpy = np.dtype(code)

    def set_state(self, state: object) -> None:
        """Take over the byte order."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise SourceError("an array type without a byte order")
        self.numpy = self.numpy.newbyteorder(order)


class ArrayRef(Stub):
    """A NumPy array that is still in the file."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype("f4")
        self.data: Blob | None = None
        self.fortran = False
        self.unread: str | None = None

    def set_state(self, state: object) -> None:
        """Take over shape, type and place."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise SourceError("an array without shape, type and content")
        _version, shape, dtype, fortran, data = state
        self.fill(shape, dtype, bool(fortran), data)

    def fill(self, shape: object, dtype: object, fortran: bool, data: object) -> None:
        """Check and remember what the array is; one that holds no numbers is not read."""
        if not isinstance(dtype, Dtype) or not isinstance(data, Blob):
            self.unread = dtype.name if isinstance(dtype, Placeholder) else "an array of objects; only numbers are read"
            return
        sizes = checked_sizes(shape)
        if math.prod(sizes) * dtype.numpy.itemsize != data.size:
            raise SourceError(f"an array of shape {sizes} and type {dtype.numpy} holds {data.size} bytes")
        self.shape, self.dtype, self.fortran, self.data = sizes, dtype.numpy, fortran, data


@dataclasses.dataclass(frozen=True, slots=True)
class TensorRef:
    """A torch tensor that is still in the file."""

    storage: Blob
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def checked_sizes(shape: object) -> tuple[int, ...]:
    """A shape out of a file.

    Raises:
        SourceError: if it is no short tuple of sizes.
    """
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMS or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise SourceError("a shape that is no short tuple of sizes")
    return shape


def _make_dtype(code: object, *_: object) -> Dtype | Placeholder:
    """An element type of numbers; others are not read."""
    if isinstance(code, str) and code.lstrip("<>|=") in NUMPY_KINDS:
        return Dtype(code)
    return placeholder(f"arrays of type {code if isinstance(code, str) and len(code) < 9 else '?'}; only numbers are read")


def _check_known(value: object) -> None:
    """Refuse a placeholder where weights need what it stands for."""
    if isinstance(value, Placeholder):
        raise SourceError(value.name if "only numbers" in value.name else refusal(value.name))
    if isinstance(value, ArrayRef) and value.unread is not None:
        raise SourceError(value.unread)


def _make_record(meta: object, *surplus: object) -> Record:
    """A record of a pickled module."""
    if surplus or not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise SourceError("a module record without state")
    name, version = meta.get("class_name"), meta.get("version")
    if meta.get("type") != "class" or not isinstance(name, str) or type(version) is not int:
        raise SourceError("a module record without class name and version")
    return Record(name, version, meta["state"])


def _make_tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> TensorRef:
    """A reference to a tensor; the file is not read yet."""
    _check_known(storage)
    sizes, steps = checked_sizes(shape), checked_sizes(stride)
    if not isinstance(storage, Blob) or type(offset) is not int or offset < 0 or len(sizes) != len(steps):
        raise SourceError("a tensor without a proper storage, offset, size and stride")
    return TensorRef(storage, offset, sizes, steps)


def _make_parameter(data: object, *_: object) -> TensorRef:
    """A parameter is its tensor."""
    _check_known(data)
    if not isinstance(data, TensorRef):
        raise SourceError("a parameter that is no tensor")
    return data


def _make_storage(data: object, *surplus: object) -> Blob:
    """A storage is the string of bytes that ``torch.save`` wrote."""
    _check_known(data)
    if surplus or not isinstance(data, Blob):
        raise SourceError("a storage that is no string of bytes")
    return data


def _make_scalar(dtype: object, data: object = None) -> int | float | bool | Placeholder:
    """A NumPy number as a plain one; of other types than numbers it is not read."""
    if isinstance(dtype, Placeholder) or isinstance(data, Placeholder):
        return placeholder("numpy.generic")
    if not isinstance(dtype, Dtype) or not isinstance(data, Blob) or data.size != dtype.numpy.itemsize:
        raise SourceError("a NumPy scalar of an unknown kind")
    number: int | float | bool = np.frombuffer(data.read(), dtype.numpy)[0].item()
    return number


def _make_array(*_: object) -> ArrayRef:
    """An array that is given its state later."""
    return ArrayRef()


def _make_filled_array(data: object, dtype: object, shape: object, order: object) -> ArrayRef:
    """An array that has all it needs."""
    array = ArrayRef()
    array.fill(shape, dtype, order == "F", data)
    return array


def _make_mapping(*surplus: object) -> dict[str, Any]:
    """An empty mapping."""
    if surplus:
        raise SourceError("a mapping made from arguments")
    return {}


def _refuse_call(*_: object) -> object:
    """Refuse to call what only stands for a type."""
    raise SourceError("an array type that is called")


def _makers(limits: Limits) -> dict[tuple[str, str], Maker]:
    def strings(items: object = (), *_: object) -> set[str] | Placeholder:
        if not isinstance(items, list | tuple):
            return placeholder("builtins.set")
        limits.spend("opcodes", len(items))
        return set(items) if all(isinstance(item, str) for item in items) else placeholder("builtins.set")

    table: dict[str, Callable[..., object]] = {
        "torch_utils.persistence _reconstruct_persistent_obj": _make_record,
        "dnnlib.util EasyDict": _make_mapping,
        "dnnlib EasyDict": _make_mapping,
        "collections OrderedDict": _make_mapping,
        "collections defaultdict": lambda *_: {},
        "builtins set": strings,
        "__builtin__ set": strings,
        "torch._utils _rebuild_tensor_v2": _make_tensor,
        "torch._utils _rebuild_parameter": _make_parameter,
        "torch.storage _load_from_bytes": _make_storage,
        "numpy dtype": _make_dtype,
        "numpy ndarray": _refuse_call,
        "dnnlib.tflib.network Network": TFNetwork,
        "tfutil Network": TFNetwork,
    }
    for package in ("numpy.core", "numpy._core"):
        table[f"{package}.multiarray scalar"] = _make_scalar
        table[f"{package}.multiarray _reconstruct"] = _make_array
        table[f"{package}.numeric _frombuffer"] = _make_filled_array
    return {(name.split()[0], name.split()[1]): Maker(name, call) for name, call in table.items()}


class Archive:
    """An open pickle.

    Attributes:
        root: what it holds; tensors are references, see :meth:`tensor`.
    """

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file = file
        self.limits = Limits()
        self.budget = 2 * size + SLACK
        self.root: Any = RecordMachine(Reader(file, 0, size), _makers(self.limits), self.limits).load()
        _check_known(self.root)
        self._storage = functools.cache(self._read_storage)

    def tensor(self, ref: object, where: str) -> Tensor:
        """Read a tensor, contiguous; floating ones in float32.

        Raises:
            SourceError: if it reaches beyond its storage, or everything read together beyond what the file can hold.
        """
        _check_known(ref)
        if isinstance(ref, ArrayRef) and ref.data is not None:
            return self._array(ref, where)
        if not isinstance(ref, TensorRef):
            raise SourceError(f"{where} is no tensor")
        dtype, numel, start = self._storage(ref.storage)
        count = math.prod(ref.shape)
        reach = ref.offset + sum((n - 1) * step for n, step in zip(ref.shape, ref.stride, strict=True)) + 1 if count else 0
        if reach > numel or count > numel:
            raise SourceError(f"{where} of shape {ref.shape} and stride {ref.stride} reaches beyond its {numel} stored numbers")
        if not count:
            return torch.empty(ref.shape)
        span = reach - ref.offset
        self._spend(max(count, span) * max(dtype.itemsize, 4), where)
        data = bytearray(span * dtype.itemsize)
        self._fill(data, start + ref.offset * dtype.itemsize)
        flat = torch.frombuffer(data, dtype=dtype)
        value = flat.as_strided(ref.shape, ref.stride).contiguous()
        return value.float() if value.is_floating_point() else value

    def numbers(self, ref: object) -> Any:
        """A setting: a short array as a list, anything else as it is."""
        if isinstance(ref, ArrayRef) and ref.unread is None and math.prod(ref.shape) <= 64:
            return self._array(ref, "a setting").tolist()
        return ref

    def _array(self, ref: ArrayRef, where: str) -> Tensor:
        """Read an array; floating ones in float32."""
        if ref.data is None:
            raise SourceError(f"{where} is an array without content")
        self._spend(ref.data.size, where)
        data = bytearray(ref.data.size)
        self._fill(data, ref.data.start)
        array = np.frombuffer(data, ref.dtype).reshape(ref.shape, order="F" if ref.fortran else "C")
        kind = np.dtype("f4") if ref.dtype.kind == "f" else ref.dtype.newbyteorder("=")
        return torch.from_numpy(np.ascontiguousarray(array, kind).reshape(ref.shape))

    def _spend(self, amount: int, where: str) -> None:
        """Count the memory of tensors against the file's size."""
        self.budget -= amount
        if self.budget < 0:
            raise SourceError(f"{where}: its tensors together are larger than the file")

    def _fill(self, data: bytearray, start: int) -> None:
        """Read bytes from a place in the file."""
        self.file.seek(start)
        if self.file.readinto(data) != len(data):
            raise EOFError("the file ends inside a tensor")

    def _read_storage(self, blob: Blob) -> tuple[torch.dtype, int, int]:
        """Element type, count and place of a storage that ``torch.save`` wrote as bytes."""
        reader = blob.reader()
        makers = {("torch", name): Maker(name, _refuse_call) for name in STORAGES}

        def storage(reference: object) -> tuple[torch.dtype, int]:
            if not isinstance(reference, tuple) or len(reference) != 6:
                raise SourceError("a storage of an unknown layout")
            kind, maker, _key, _location, numel, view = reference
            if kind != "storage" or not isinstance(maker, Maker) or view is not None or type(numel) is not int:
                raise SourceError("a storage of an unknown layout")
            return STORAGES[maker.name], numel

        machine = RecordMachine(reader, makers, self.limits, storage, strict=True)
        magic, version, system, stored, keys = (machine.load() for _ in range(5))
        if magic != LEGACY_MAGIC or version != 1001 or system.get("little_endian") is not True or len(keys) != 1:
            raise SourceError("a storage of an unknown layout")
        if not isinstance(stored, tuple):
            raise SourceError("a storage that holds something else")
        dtype, numel = stored
        count = reader.number("<q")
        if count != numel or count < 0 or count * dtype.itemsize != reader.end - reader.at:
            raise SourceError(f"a storage said to hold {numel} numbers of {dtype} has {reader.end - reader.at} bytes")
        return dtype, count, reader.at


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[Archive]:
    """Open a pickle; whatever goes wrong inside the block becomes one error that names the file.

    Raises:
        SourceError: if the file is damaged or asks for more than plain data.
    """
    try:
        with path.open("rb") as file:
            yield Archive(file, path.stat().st_size)
    except SourceError as error:
        message = str(error)
        raise SourceError(message if message.startswith(str(path)) else f"{path}: {message}") from None
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise SourceError(f"{path}: cannot be read, the pickle is damaged or cut short ({reason})") from None
