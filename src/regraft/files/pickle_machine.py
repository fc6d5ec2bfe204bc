"""The one interpreter of pickles: it builds plain data, and asks a sub-class about everything else.

Python's own unpicklers call whatever a file names.  This one knows the opcodes of protocols 2 to 5 and calls nothing itself.
What a name, an object's state or a persistent reference means is up to a sub-class, of which there are two:

* :class:`regraft.files.record_machine.RecordMachine` reads: it makes records of NVlabs' modules, and tensors stay in the file.
* :class:`regraft.files.torch_pickles.PickleChecker` checks: it follows what torch's reader would do, with stand-ins, and adds
  up the memory that it would take.

Opcodes, calls, depth and text are bounded and long byte strings stay in the file, so that memory and time stay in proportion to
the file.

Source: the opcode descriptions of Python's ``pickletools`` module.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from regraft.core.errors import SourceError
from regraft.files.byte_reader import Reader
from regraft.files.inert import Placeholder, placeholder

MAX_OPCODES = 1_000_000
MAX_CALLS = 200_000
MAX_DEPTH = 1000
MAX_TEXT = 64 << 20
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Element types of torch's storages of real numbers, by the class that a pickle names."""


class Damaged(SourceError):
    """A pickle contradicts itself; says how, not where."""


@dataclasses.dataclass
class Limits:
    """What reading one file may still cost, nested pickles included."""

    opcodes: int = MAX_OPCODES
    calls: int = MAX_CALLS
    text: int = MAX_TEXT

    def spend(self, what: str, amount: int = 1) -> None:
        """Count ``opcodes``, ``calls`` or bytes of ``text`` down.

        Raises:
            Damaged: if the file is past its limit.
        """
        left = getattr(self, what) - amount
        if left < 0:
            kind = "bytes of text" if what == "text" else what
            raise Damaged(f"more {kind} than any checkpoint needs")
        setattr(self, what, left)


class PickleMachine(abc.ABC):
    """Runs pickles that follow each other.

    Args:
        reader: where they are.
        limits: what they may cost.

    Attributes:
        protocols: protocols that are read.
        longest_integer: bytes that an integer may have.
        operations: what each opcode does; others are refused.
    """

    protocols: ClassVar[range] = range(2, 6)
    longest_integer: ClassVar[int] = 32
    operations: ClassVar[dict[int, "Operation"]]

    def __init__(self, reader: Reader, limits: Limits) -> None:
        self.reader, self.limits = reader, limits
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    @abc.abstractmethod
    def find(self, module: str, name: str) -> object:
        """What a name in the file stands for.

        Raises:
            SourceError: if it is not allowed.
        """

    @abc.abstractmethod
    def call(self, function: object, arguments: object, new: bool) -> object:
        """What calling something gives.

        Args:
            function: what :meth:`find` or a call gave.
            arguments: of the call.
            new: whether the file asks for an instance of a class, not for a function's result.

        Raises:
            SourceError: if it is not allowed.
        """

    @abc.abstractmethod
    def set_state(self, target: object, state: object) -> None:
        """Give an object its pickled attributes.

        Raises:
            SourceError: if it takes none.
        """

    def refer(self, reference: object) -> object:
        """What a persistent reference stands for.

        Raises:
            SourceError: if it is not allowed.
        """
        raise SourceError("a persistent reference where none belongs")

    def check_key(self, key: object) -> None:
        """Refuse keys of mappings that may take exponential time to hash, as nested tuples can."""
        flat = key if isinstance(key, tuple) and 0 < len(key) <= 64 else (key,)
        if not all(isinstance(part, str | int | float | None | Placeholder) for part in flat):
            raise SourceError(f"a dict key of type {type(key).__name__}")

    def load(self) -> Any:
        """Run the next pickle to its end.

        Raises:
            SourceError: if it asks for anything that is not allowed, or contradicts itself.
            Exception: many kinds, if it is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        reader, limits, operations = self.reader, self.limits, self.operations
        while True:
            code = reader.take(1)[0]
            limits.opcodes -= 1
            if limits.opcodes < 0:
                raise Damaged("more opcodes than any checkpoint needs")
            if code == 0x2E:
                return self.stack.pop()
            operation = operations.get(code)
            if operation is None:
                raise SourceError(f"opcode {code:#04x} at byte {reader.at - 1} is not one that checkpoints use")
            operation(self)

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def mark(self) -> None:
        """Begin a group."""
        if len(self.marks) >= MAX_DEPTH:
            raise Damaged(f"nested deeper than {MAX_DEPTH}")
        self.marks.append(self.stack)
        self.stack = []

    def protocol(self) -> None:
        """Check the protocol."""
        version = self.reader.take(1)[0]
        if version not in self.protocols:
            read = " or ".join(map(str, self.protocols))
            raise SourceError(f"pickle protocol {version}, and regraft reads protocol {read} here")

    def integer(self, digits: int) -> None:
        """A little-endian integer of a few bytes."""
        if digits > self.longest_integer:
            raise Damaged(f"an integer of {digits} bytes")
        self.stack.append(int.from_bytes(self.reader.take(digits), "little", signed=True))

    def text(self, n: int, encoding: str = "utf-8") -> None:
        """A string."""
        data = self.reader.take(n)
        self.limits.spend("text", n)
        self.stack.append(data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def get(self, index: int) -> None:
        """Push a remembered object."""
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        """Remember the top object."""
        self.memo[index] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        """Append to a list; a placeholder forgets what it is given."""
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            return
        if type(target) is not list:
            raise Damaged(f"appends to a {type(target).__name__}")
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        """Add to a set; a placeholder takes the place of what is no text."""
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            return
        if type(target) is not set:
            raise Damaged(f"adds to a {type(target).__name__}")
        target.update(item if isinstance(item, str) else placeholder("builtins.set") for item in items)

    def assign(self, items: list[Any]) -> None:
        """Set items of a dict; a placeholder forgets what it is given."""
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            return
        if type(target) is not dict:
            raise Damaged(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.check_key(key)
            target[key] = value

    def find_on_stack(self) -> None:
        """Push what a name on the stack stands for."""
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Damaged("names a type by something else than text")
        self.push(self.find(module, name))

    def reduce(self, new: bool = False) -> None:
        """Call something on the stack."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self.limits.spend("calls")
        self.stack.append(self.call(function, arguments, new))

    def make_with_names(self) -> None:
        """Make an object from arguments by place and by name, which only placeholders take."""
        self.stack.pop()
        self.reduce(new=True)
        if not isinstance(self.stack[-1], Placeholder):
            raise Damaged(f"arguments by name for a {type(self.stack[-1]).__name__}")

    def build(self) -> None:
        """Give an object its state."""
        state = self.stack.pop()
        self.set_state(self.stack[-1], state)

    def tuple_of(self, n: int) -> None:
        """Make a tuple of the top ``n`` objects."""
        if len(self.stack) < n:
            raise IndexError("the stack is empty")
        items = tuple(self.stack[-n:])
        del self.stack[-n:]
        self.stack.append(items)

    def push(self, value: object) -> None:
        """Push a value."""
        self.stack.append(value)


def _top_pair(m: PickleMachine) -> list[Any]:
    value, key = m.stack.pop(), m.stack.pop()
    return [key, value]


Operation = Callable[[Any], object]
OPERATIONS: dict[int, Operation] = {
    ord(code): operation
    for code, operation in {
        "\x80": PickleMachine.protocol,
        "\x95": lambda m: m.reader.take(8),  # FRAME
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "J": lambda m: m.push(m.reader.number("<i")),
        "K": lambda m: m.push(m.reader.number("<B")),
        "M": lambda m: m.push(m.reader.number("<H")),
        "\x8a": lambda m: m.integer(m.reader.number("<B")),
        "\x8b": lambda m: m.integer(m.reader.number("<I")),
        "G": lambda m: m.push(m.reader.number(">d")),
        "C": lambda m: m.push(m.reader.skip(m.reader.number("<B"))),
        "B": lambda m: m.push(m.reader.skip(m.reader.number("<I"))),
        "\x8e": lambda m: m.push(m.reader.skip(m.reader.number("<Q"))),
        "\x96": lambda m: m.push(m.reader.skip(m.reader.number("<Q"))),
        "\x8c": lambda m: m.text(m.reader.number("<B")),
        "X": lambda m: m.text(m.reader.number("<I")),
        "\x8d": lambda m: m.text(m.reader.number("<Q")),
        "0": lambda m: m.stack.pop() if m.stack else m.pop_mark(),
        "1": PickleMachine.pop_mark,
        "2": lambda m: m.push(m.stack[-1]),
        "(": PickleMachine.mark,
        "h": lambda m: m.get(m.reader.number("<B")),
        "j": lambda m: m.get(m.reader.number("<I")),
        "q": lambda m: m.put(m.reader.number("<B")),
        "r": lambda m: m.put(m.reader.number("<I")),
        "\x94": lambda m: m.put(len(m.memo)),
        ")": lambda m: m.push(()),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "t": lambda m: m.push(tuple(m.pop_mark())),
        "]": lambda m: m.push([]),
        "a": lambda m: m.extend([m.stack.pop()]),
        "e": lambda m: m.extend(m.pop_mark()),
        "}": lambda m: m.push({}),
        "s": lambda m: m.assign(_top_pair(m)),
        "u": lambda m: m.assign(m.pop_mark()),
        "\x8f": lambda m: m.push(set()),
        "\x90": lambda m: m.add(m.pop_mark()),
        "\x91": lambda m: m.push(placeholder("builtins.frozenset") if m.pop_mark() is not None else None),  # FROZENSET
        "\x92": PickleMachine.make_with_names,
        "c": lambda m: m.push(m.find(m.reader.line(), m.reader.line())),
        "\x93": PickleMachine.find_on_stack,
        "R": PickleMachine.reduce,
        "\x81": lambda m: m.reduce(new=True),
        "b": PickleMachine.build,
        "Q": lambda m: m.push(m.refer(m.stack.pop())),
    }.items()
}
"""What the opcodes of checkpoints do."""
