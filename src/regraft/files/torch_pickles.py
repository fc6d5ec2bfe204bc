"""Pickles of ``torch.save`` looked through before torch reads them: what they would build, and how much memory it would take.

``torch.load(weights_only=True)`` runs no code, yet it believes every size: a storage longer than its record, a tensor longer
than its storage, a byte array of a terabyte.  Here the operations are followed with stand-ins for everything but plain data,
so that such a file is refused before anything is allocated.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable, Collection
from typing import Any

from regraft.core.errors import SourceError

MAX_OPERATIONS = 2_000_000
MAX_TENSORS = 200_000
MAX_PICKLE = 64 << 20

ITEM_SIZES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
STORAGES = {f"{module}.{name}Storage": size for name, size in ITEM_SIZES.items() for module in ("torch", "torch.cuda")}
REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
PARAMETER = "torch._utils._rebuild_parameter"
CONTAINERS = {"collections.OrderedDict", "collections.Counter", "builtins.set", "__builtin__.set"}
PLAIN_CALLS = {"torch.device", "torch.Size"}
NUMPY = {f"numpy.{part}.multiarray.{name}" for part in ("core", "_core") for name in ("_reconstruct", "scalar")}
NUMPY |= {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}
"""What pickles of NumPy's arrays and numbers are made of, for readers that take these among their stubs."""
PUSHED = {
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINSTRING",
    "LONG1",
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
    item: int


class Opaque:
    """An object that is known to be harmless and whose content does not matter."""


class TensorStandIn(Opaque):
    """A tensor that was checked."""


class NumPyStandIn(Opaque):
    """An array, number, type or the bytes of one, which nobody reads."""


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


class _Mark:
    """Where a group on the stack begins."""


MARK = _Mark()


class Walk:
    """Follows the operations of one pickle."""

    def __init__(self, where: str, stubs: Collection[str] = ()) -> None:
        """Refuse what is neither plain data, a tensor nor one of ``stubs`` (full names of classes)."""
        self.where, self.stubs = where, frozenset(stubs)
        self.totals = Totals()
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def refuse(self, reason: str) -> SourceError:
        """The error for a pickle that asks for something else."""
        return SourceError(
            f"{self.where}: refused, because it holds more than tensors and plain data ({reason[:200]}). Save only the "
            "state_dict (torch.save(net.state_dict(), ...)) and try again."
        )

    def damaged(self, reason: str) -> SourceError:
        """The error for a pickle that contradicts itself."""
        return SourceError(
            f"{self.where}: cannot be read as a torch file, it is damaged, cut short or made up: {reason[:200]}; "
            "get the file again"
        )

    def run(self, stream: Any) -> Any:
        """Follow a stream to its end and return what is built, with stand-ins.

        Raises:
            SourceError: for an operation, name or size that has no place in saved weights.
        """
        self.stack, self.memo = [], {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._spend(1)
                if opcode.name == "STOP":
                    return self._pop()
                self._follow(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            if isinstance(error, SourceError):
                raise
            raise self.damaged(f"{type(error).__name__} {' '.join(str(error).split())}") from None
        raise self.damaged("it has no end")

    def _spend(self, amount: int) -> None:
        self.work += amount
        if self.work > MAX_OPERATIONS:
            raise self.damaged(f"its pickle takes more than {MAX_OPERATIONS} operations")

    def _follow(self, name: str, argument: Any) -> None:
        if name in PUSHED:
            constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
            self.stack.append(constants.get(name, argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(self._named(argument.replace(" ", ".")))
        elif name == "PROTO":
            if argument != 2:
                raise self.damaged(f"pickle protocol {argument}, torch writes 2")
        else:
            operation: Callable[[], None] | None = getattr(self, f"_{name.lower()}", None)
            if operation is None:
                raise self.refuse(f"pickle operation {name}")
            operation()

    def _named(self, name: str) -> Global:
        known = name in STORAGES or name in REBUILD or name in CONTAINERS or name in PLAIN_CALLS or name in self.stubs
        # Types of tensors and data appear as values only; nothing is made from them.
        plain = name.startswith("torch.") and name.count(".") == 1 and not name.endswith("Storage")
        if not (known or plain or name in (PARAMETER, "torch.nn.parameter.Parameter")):
            raise self.refuse(f"GLOBAL {name}")
        return Global(name)

    def _top(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise self.damaged("nothing to take")
        return self.stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self.stack.pop()

    def _group(self) -> list[Any]:
        """Everything above the last mark, which is taken away too."""
        items: list[Any] = []
        while self.stack:
            item = self.stack.pop()
            if item is MARK:
                return items[::-1]
            items.append(item)
        raise self.damaged("a group without a beginning")

    def _mark(self) -> None:
        self.stack.append(MARK)

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _empty_list(self) -> None:
        self.stack.append([])

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _empty_set(self) -> None:
        self.stack.append(Opaque())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._group()))

    def _tuple1(self) -> None:
        self.stack.append((self._pop(),))

    def _tuple2(self) -> None:
        second, first = self._pop(), self._pop()
        self.stack.append((first, second))

    def _tuple3(self) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self.stack.append((first, second, third))

    def _append(self) -> None:
        item, target = self._pop(), self._top()
        self._extend(target, [item])

    def _appends(self) -> None:
        items = self._group()
        self._extend(self._top(), items)

    def _extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is not list:
            raise self.damaged(f"appends to a {type(target).__name__}")
        target.extend(items)

    def _setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._group())

    def _set(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict or len(items) % 2:
            raise self.damaged(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self._key(key)] = value

    def _key(self, key: Any) -> Any:
        """A key, if hashing it takes no time: nested tuples could take years."""
        plain = str | int | float | bytes | None
        if isinstance(key, plain) or (isinstance(key, tuple) and len(key) <= 64 and all(isinstance(k, plain) for k in key)):
            return key
        raise self.refuse(f"a {type(key).__name__} as the key of a mapping")

    def _newobj(self) -> None:
        arguments, made = self._pop(), self._pop()
        if not (isinstance(made, Global) and (made.name in self.stubs or made.name in CONTAINERS) and arguments == ()):
            raise self.refuse(f"NEWOBJ of {getattr(made, 'name', type(made).__name__)}")
        self.stack.append({} if made.name in CONTAINERS else Opaque())

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, NumPyStandIn):
            return
        if isinstance(target, TensorStandIn) or type(target) not in (dict, Opaque) or not isinstance(state, dict):
            raise self.refuse(f"BUILD of a {type(target).__name__}")
        if not all(isinstance(key, str) for key in state):
            raise self.damaged("attributes without names")

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise self.damaged("calls what is no function")
        if function.name in REBUILD:
            self._tensor(arguments)
            self.stack.append(TensorStandIn())
        elif function.name == PARAMETER:
            if not arguments or not isinstance(arguments[0], TensorStandIn):
                raise self.damaged("a parameter without a tensor")
            self.stack.append(TensorStandIn())
        elif function.name in CONTAINERS:
            self.stack.append(self._container(function.name, arguments))
        elif function.name in NUMPY & self.stubs:
            self.stack.append(self._numpy(function.name, arguments))
        elif function.name in PLAIN_CALLS:
            flat = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
            if len(flat) > 64 or not all(isinstance(a, int | str) for a in flat):
                raise self.refuse(f"REDUCE of {function.name} with unusual arguments")
            self.stack.append(Opaque())
        else:
            raise self.refuse(f"REDUCE of {function.name}")

    def _numpy(self, name: str, arguments: tuple[Any, ...]) -> NumPyStandIn:
        """Bytes are written as text, which torch turns back each time that it is asked."""
        if name == "_codecs.encode":
            if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
                raise self.refuse(f"REDUCE of {name} with unusual arguments")
            self.totals.tensor_bytes += len(arguments[0])
        return NumPyStandIn()

    def _container(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) > 1 or (arguments and not isinstance(arguments[0], list | dict | tuple)):
            raise self.refuse(f"REDUCE of {name} with unusual arguments")
        content = arguments[0] if arguments else []
        self._spend(len(content))
        if name.endswith("set"):
            for item in content:
                self._key(item)
            return Opaque()
        pairs = list(content.items()) if isinstance(content, dict) else list(content)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise self.refuse(f"REDUCE of {name} with unusual arguments")
        return {self._key(key): value for key, value in pairs}

    def _binpersid(self) -> None:
        token = self._pop()
        if type(token) is not tuple or len(token) not in (5, 6) or token[0] != "storage" or token[5:] not in ((), (None,)):
            raise self.refuse("a persistent id that is no whole storage")
        _, kind, key, location, numel = token[:5]
        item = STORAGES.get(kind.name) if isinstance(kind, Global) else None
        if item is None or not isinstance(key, str) or not isinstance(location, str) or type(numel) is not int or numel < 0:
            raise self.refuse(f"a storage of {getattr(kind, 'name', type(kind).__name__)}")
        size = numel * item
        if self.totals.storages.setdefault(key, size) != size:
            raise self.damaged(f"storage {key[:40]} has two sizes")
        self.stack.append(Storage(key, numel, item))

    def _tensor(self, arguments: tuple[Any, ...]) -> None:
        """Check that a tensor lies inside its storage."""
        if len(arguments) < 4 or not isinstance(arguments[0], Storage):
            raise self.damaged("a tensor without a storage")
        storage, offset, size, stride = arguments[:4]
        numbers = (offset, *size, *stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(size) != len(stride) or len(size) > 16:
            raise self.damaged(f"a tensor of size {str(size)[:60]} and strides {str(stride)[:60]}")
        numel = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if numel else min(offset, storage.numel)
        if (last >= storage.numel and numel) or numel > storage.numel or any(n > 1 << 40 for n in numbers):
            raise self.damaged(
                f"a tensor of size {str(tuple(size))[:60]}, strides {str(tuple(stride))[:60]} and offset {offset} goes beyond "
                f"its storage of {storage.numel} values"
            )
        self.totals.tensors += 1
        self.totals.tensor_bytes += numel * max(4, storage.item)
        if self.totals.tensors > MAX_TENSORS:
            raise self.damaged(f"more than {MAX_TENSORS} tensors")
