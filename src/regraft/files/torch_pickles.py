"""Pickles of ``torch.save`` looked through before torch reads them: what they would build, and how much memory it would take.

``torch.load(weights_only=True)`` runs no code, yet it believes every size: a storage longer than its record, a tensor longer
than its storage, a byte array of a terabyte.  Here the operations are followed with stand-ins for everything but plain data,
so that such a file is refused before anything is allocated.

The interpreter is that of :mod:`regraft.files.pickle_machine`, held to the opcodes and the protocol that torch writes.
"""

import dataclasses
import math
import pickle
import reprlib
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Collection
from typing import Any

import torch

from regraft.core.errors import SourceError
from regraft.files import inert
from regraft.files.byte_reader import Reader
from regraft.files.pickle_machine import OPERATIONS, STORAGES, Damaged, Limits, Operation, PickleMachine

MAX_OPERATIONS = 2_000_000
MAX_TENSORS = 200_000
MAX_PICKLE = 64 << 20

TYPES = STORAGES | {"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128}
ITEM_SIZES = {f"{module}.{name}": dtype.itemsize for name, dtype in TYPES.items() for module in ("torch", "torch.cuda")}
REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
PARAMETER = "torch._utils._rebuild_parameter"
CONTAINERS = {"collections.OrderedDict", "collections.Counter", "builtins.set", "__builtin__.set"}
PLAIN_CALLS = {"torch.device", "torch.Size", "torch.serialization._get_layout"}
BYTES = {"_codecs.encode", "builtins.bytearray"}
"""How this protocol writes strings of bytes: as text, with the codec that turns it back."""
INTERNAL = ("torch._utils.", "torch._tensor.", "torch.serialization.", "torch.storage.", "torch.nested.", "torch.sparse.")
"""What torch's reader knows and would call; of these, only what is checked here may appear."""
DAMAGE = (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError, struct.error)
PLAIN = str | int | float | bytes | None

TORCH_OPCODES = (
    "PROTO NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET MARK "
    "EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS GLOBAL REDUCE "
    "NEWOBJ BUILD BINPERSID"
)
"""What torch's reader knows; short strings of bytes, which it knows too, are read as ASCII."""
TORCH_OPERATIONS: dict[int, Operation] = {
    **{code: OPERATIONS[code] for code in (getattr(pickle, name)[0] for name in TORCH_OPCODES.split())},
    pickle.SHORT_BINSTRING[0]: lambda m: m.text(m.reader.number("<B"), "ascii"),
}


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function that the pickle names."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """Memory that the pickle asks for."""

    key: str
    numel: int
    item_size: int


@dataclasses.dataclass(eq=False)
class Opaque:
    """An object that is known to be harmless and whose content does not matter.

    Attributes:
        name: name of its type if that is unknown and its content is dropped, else None.
    """

    name: str | None = None


class TensorStandIn(Opaque):
    """A tensor that was checked."""


@dataclasses.dataclass(eq=False)
class ByteStandIn(Opaque):
    """A string of bytes."""

    size: int = 0


@dataclasses.dataclass
class Totals:
    """What a pickle asks for.

    Attributes:
        storages: bytes of each storage by its key.
        tensor_bytes: bytes of all tensors, held in float32 where they are narrower.
        tensors: how many.
    """

    storages: dict[str, int] = dataclasses.field(default_factory=dict)
    tensor_bytes: int = 0
    tensors: int = 0


class PickleChecker(PickleMachine):
    """Follows the pickles of a file; refuses what is neither plain data, a tensor nor a stub.

    Args:
        reader: where the pickles are.
        where: names the file in errors.
        stubs: full names of harmless classes that the file may hold.

    Attributes:
        totals: what the pickles ask for.
        inert: names of types that nothing is kept of.
        mappings, lists: inert types that the pickles fill like a mapping, and like a list.
    """

    protocols = range(2, 3)
    longest_integer = 255
    operations = TORCH_OPERATIONS

    def __init__(self, reader: Reader, where: str, stubs: Collection[str] = ()) -> None:
        super().__init__(reader, Limits(opcodes=MAX_OPERATIONS, calls=MAX_OPERATIONS, text=MAX_PICKLE))
        self.where, self.stubs = where, frozenset(stubs)
        self.totals = Totals()
        self.inert: set[str] = set()
        self.mappings: set[str] = set()
        self.lists: set[str] = set()

    def load(self) -> Any:
        """Follow the next pickle to its end and return what is built, with stand-ins.

        Raises:
            SourceError: for an operation, name or size that has no place in saved weights.
        """
        try:
            return super().load()
        except Damaged as error:
            raise self._damaged(str(error)) from None
        except SourceError as error:
            raise self._refused(str(error)) from None
        except DAMAGE as error:
            raise self._damaged(f"{type(error).__name__} {' '.join(str(error).split())}") from None

    def check_whole(self) -> None:
        """Follow the pickle that holds the weights; types that are unknown may lie beside them, not in their place.

        Raises:
            SourceError: as :meth:`load`, or if it holds no tensors, and something unknown.
        """
        root = self.load()
        unknown = next((name for name in sorted(self.inert) if not inert.is_bookkeeping(name)), None)
        if isinstance(root, Opaque) and root.name is not None:
            raise self._refused(f"GLOBAL {root.name}")
        if unknown is not None and not self.totals.tensors:
            raise self._refused(f"GLOBAL {unknown}")

    def _refused(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.where}: refused, because it holds more than tensors and plain data ({reason[:200]}). Save only the "
            "state_dict (torch.save(net.state_dict(), ...)) and try again."
        )

    def _damaged(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.where}: cannot be read as a torch file, it is damaged, cut short or made up: {reason[:200]}; "
            "get the file again"
        )

    def find(self, module: str, name: str) -> Global:
        """A stand-in for a class or function that torch's reader may know."""
        raw = f"{module}.{name}"
        # torch's reader knows most names of Python 2, too.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        known = full in ITEM_SIZES or full in REBUILD or full in CONTAINERS or full in PLAIN_CALLS or full in BYTES
        # Types of tensors appear as values only; nothing is made from them.
        plain = full in (PARAMETER, "torch.nn.parameter.Parameter", "torch.Tensor")
        plain = plain or (full.startswith("torch.") and full.count(".") == 1 and full.endswith("Tensor"))
        internal = full.startswith(INTERNAL) or (full.startswith("torch.") and full.endswith(("Tensor", "Storage")))
        if inert.acts(full) or (internal and not known and not plain):
            raise SourceError(f"GLOBAL {full}")
        if not (known or plain or full in self.stubs):
            self.inert |= {raw, full}
        return Global(full)

    def call(self, function: object, arguments: object, new: bool) -> object:
        """A stand-in for what a known function or class gives."""
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise Damaged("calls what is no function")
        name = function.name
        if name in self.inert:
            return Opaque(name)
        if new:
            if (name in self.stubs or name in CONTAINERS) and arguments == ():
                return {} if name in CONTAINERS else Opaque()
            raise SourceError(f"NEWOBJ of {name}")
        if name in REBUILD:
            return self._tensor(arguments)
        if name == PARAMETER:
            if not arguments or not isinstance(arguments[0], TensorStandIn):
                raise Damaged("a parameter without a tensor")
            return TensorStandIn()
        if name in CONTAINERS:
            return self._container(name, arguments)
        if name in BYTES:
            return self._bytes(name, arguments)
        if name in PLAIN_CALLS:
            flat = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
            if len(flat) <= 64 and all(isinstance(a, int | str) for a in flat):
                return Opaque()
            raise SourceError(f"REDUCE of {name} with unusual arguments")
        raise SourceError(f"REDUCE of {name}")

    def set_state(self, target: object, state: object) -> None:
        """Let attributes of containers and stubs go by; their content does not matter."""
        if isinstance(target, Opaque) and target.name is not None:
            if target.name in self.lists or (target.name in self.mappings and not isinstance(state, dict | Opaque)):
                raise SourceError(f"BUILD of {target.name}")
            return
        if isinstance(target, TensorStandIn) or type(target) not in (dict, Opaque) or not isinstance(state, dict):
            raise SourceError(f"BUILD of a {type(target).__name__}")
        if not all(isinstance(key, str) for key in state):
            raise Damaged("attributes without names")

    def extend(self, items: list[Any]) -> None:
        """Append to a list, or let what a placeholder is given go by."""
        target = self.stack[-1]
        if isinstance(target, Opaque) and target.name is not None:
            self.lists.add(target.name)
        else:
            super().extend(items)

    def assign(self, items: list[Any]) -> None:
        """Set items of a mapping, or let what a placeholder is given go by."""
        target = self.stack[-1]
        if isinstance(target, Opaque) and target.name is not None:
            self.mappings.add(target.name)
            for key in items[::2]:
                self.check_key(key)
        else:
            super().assign(items)

    def refer(self, reference: object) -> Storage:
        """A storage, noted with its size."""
        if type(reference) is not tuple or len(reference) not in (5, 6) or reference[0] != "storage":
            raise SourceError("a persistent id that is no storage")
        _, kind, key, location, numel = reference[:5]
        if reference[5:] not in ((), (None,)):
            raise SourceError("a persistent id that is no whole storage")
        item_size = ITEM_SIZES.get(kind.name) if isinstance(kind, Global) else None
        plain = isinstance(key, str) and isinstance(location, str) and type(numel) is int and numel >= 0
        if item_size is None or not plain:
            raise SourceError(f"a storage of {getattr(kind, 'name', type(kind).__name__)}")
        size = numel * item_size
        if self.totals.storages.setdefault(key, size) != size:
            raise Damaged(f"storage {key[:40]} has two sizes")
        return Storage(key, numel, item_size)

    def check_key(self, key: object) -> None:
        """Refuse keys of mappings that may take exponential time to hash, as nested tuples can."""
        flat = key if isinstance(key, tuple) and len(key) <= 64 else (key,)
        if not all(isinstance(part, PLAIN | Opaque | Global) for part in flat):
            raise SourceError(f"a {type(key).__name__} as the key of a mapping")

    def _bytes(self, name: str, arguments: tuple[Any, ...]) -> Opaque:
        """Bytes are written as text, which torch turns back each time that it is asked."""
        if name == "builtins.bytearray" and (arguments == () or (len(arguments) == 1 and type(arguments[0]) is ByteStandIn)):
            self.totals.tensor_bytes += arguments[0].size if arguments else 0
            return ByteStandIn()
        if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
            raise SourceError(f"REDUCE of {name} (GLOBAL {name}) with unusual arguments")
        self.totals.tensor_bytes += len(arguments[0])
        return ByteStandIn(size=len(arguments[0]))

    def _container(self, name: str, arguments: tuple[Any, ...]) -> object:
        if len(arguments) > 1 or (arguments and not isinstance(arguments[0], list | dict | tuple)):
            raise SourceError(f"REDUCE of {name} with unusual arguments")
        content = arguments[0] if arguments else []
        self.limits.spend("opcodes", len(content))
        if name.endswith("set"):
            for item in content:
                self.check_key(item)
            return Opaque()
        pairs = list(content.items()) if isinstance(content, dict) else list(content)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise SourceError(f"REDUCE of {name} with unusual arguments")
        for key, _ in pairs:
            self.check_key(key)
        return dict(pairs)

    def _tensor(self, arguments: tuple[Any, ...]) -> TensorStandIn:
        """Check that a tensor lies inside its storage."""
        if len(arguments) < 4 or not isinstance(arguments[0], Storage):
            raise Damaged("a tensor without a storage")
        storage, offset, size, stride = arguments[:4]
        if not isinstance(size, tuple | list) or not isinstance(stride, tuple | list):
            raise Damaged(_shown(size, stride, offset))
        numbers = (offset, *size, *stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(size) != len(stride) or len(size) > 16:
            raise Damaged(_shown(size, stride, offset))
        numel = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if numel else min(offset, storage.numel)
        if (last >= storage.numel and numel) or numel > storage.numel or any(n > 1 << 40 for n in numbers):
            raise Damaged(f"{_shown(size, stride, offset)} goes beyond its storage of {storage.numel} values")
        self.totals.tensors += 1
        self.totals.tensor_bytes += numel * max(4, storage.item_size)
        if self.totals.tensors > MAX_TENSORS:
            raise Damaged(f"more than {MAX_TENSORS} tensors")
        return TensorStandIn()


def _shown(size: object, stride: object, offset: object) -> str:
    """A tensor's place in its storage, cut short: nested tuples may be endless when written out."""
    return f"a tensor of size {reprlib.repr(size)}, strides {reprlib.repr(stride)} and offset {reprlib.repr(offset)}"
