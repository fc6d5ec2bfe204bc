"""What pickles hold beside weights: every type that is no tensor and no plain data becomes a placeholder, which does nothing.

Both machines ask here.  A name is one of three kinds: an acting one, such as ``os.system``, has no place in a checkpoint, and
a file that names it is refused wherever it stands; bookkeeping, such as NumPy's numbers or paths, is known to be harmless; and
anything else is unknown, and is passed over as long as no weight depends on it.  Nothing of any of the three is ever called.
"""

import collections
import struct
from collections.abc import Callable
from typing import Any

ACTING_MODULES = frozenset(
    {"_io", "_pickle", "_posixsubprocess", "asyncio", "bdb", "code", "codeop", "commands", "ctypes", "cffi", "ftplib", "gc"}
    | {"http", "imp", "importlib", "inspect", "io", "marshal", "multiprocessing", "nt", "ntpath", "operator", "os", "pdb"}
    | {"pickle", "pip", "pkgutil", "platform", "posix", "posixpath", "profile", "pty", "pydoc", "requests", "runpy", "shutil"}
    | {"signal", "site", "smtplib", "socket", "subprocess", "sys", "tempfile", "threading", "timeit", "trace", "urllib"}
    | {"webbrowser", "winreg"}
)
"""Modules, by the first part of their names, whose functions reach beyond the process or run code."""
PLAIN_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range", "set"}
    | {"slice", "str", "tuple", "type", "Ellipsis", "NotImplemented", "xrange", "long", "unicode"}
)
"""Built-in names that bookkeeping needs; ``getattr`` is how enumerations and nested classes are pickled, and is not called."""
ACTING = frozenset({"torch.load", "torch.hub.load", "torch.jit.load", "torch.serialization.load", "numpy.load", "joblib.load"})

BOOKKEEPING = (
    "argparse.",
    "collections.",
    "datetime.",
    "decimal.",
    "enum.",
    "fractions.",
    "numpy.",
    "_codecs.encode",
    "pathlib.",
    "random.",
    "types.SimpleNamespace",
    "uuid.",
    "torch._C.Generator",
    *(f"builtins.{name}" for name in sorted(PLAIN_BUILTINS)),
    *("addict.", "attrdict.", "box.", "dnnlib.", "easydict.", "ml_collections.", "munch.", "omegaconf.", "pytz.", "zoneinfo."),
)
"""Beginnings of the names of types that are known to be bookkeeping."""


class Placeholder:
    """Stands for an object that is not read; whatever the file gives it is forgotten.

    Attributes:
        name: full name of its type in the file.
    """

    name = "an object"

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{self.name}, not read>"


def placeholder(name: str) -> Placeholder:
    """A placeholder for an object of a type."""
    made = Placeholder()
    made.name = name
    return made


def acts(name: str) -> bool:
    """Whether a name, module first, is that of something that runs code or reaches files, processes or networks."""
    module, _, last = name.partition(".")
    if module in ("builtins", "__builtin__"):
        first = last.partition(".")[0]
        return first not in PLAIN_BUILTINS and not first.endswith(("Error", "Exception", "Warning"))
    return module in ACTING_MODULES or name in ACTING


def is_bookkeeping(name: str) -> bool:
    """Whether a name is that of a type that is known to be harmless beside weights."""
    return name.startswith(BOOKKEEPING)


def shown(value: object) -> str:
    """The type of a value, as an error says it: a placeholder by the name in the file."""
    return f"{value.name[:80]} (not read)" if isinstance(value, Placeholder) else type(value).__name__


class Number(Placeholder):
    """The element type of a NumPy number, as far as :func:`number` needs it."""

    name = "numpy.dtype"

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            self.code = None


NUMBERS = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I"}
NUMBERS |= {"u8": "Q", "b1": "?"}


def number(dtype: object = None, data: object = None, *_: object) -> object:
    """A NumPy number as Python's, where it is a little-endian one; else a placeholder."""
    code = dtype.code if isinstance(dtype, Number) else None
    layout = NUMBERS.get(code.lstrip("<|=")) if isinstance(code, str) else None
    if layout is None or not isinstance(data, bytes) or len(data) != struct.calcsize(f"<{layout}"):
        return placeholder("numpy.generic")
    return struct.unpack(f"<{layout}", data)[0]


class _Mapping(Placeholder):
    """Becomes a mapping when it is made, because the file sets items of it."""

    def __new__(cls, *_: object) -> Any:
        return collections.OrderedDict()


class _List(Placeholder):
    """Becomes a list when it is made, because the file adds items to it."""

    def __new__(cls, *_: object) -> Any:
        return []


def stand_in(name: str, mapping: bool = False, listed: bool = False) -> Callable[..., object]:
    """What torch's reader may call where a file names a type that nothing is kept of.

    Args:
        name: full name of the type.
        mapping, listed: whether the file sets items of its objects, or adds items to them.
    """
    if name == "numpy.dtype":
        return Number
    if name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
        return number
    kind = _Mapping if mapping else _List if listed else Placeholder
    return type(kind.__name__, (kind,), {"name": name})
