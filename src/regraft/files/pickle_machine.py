"""A pickle reader that can do nothing but build plain data.

Python's own unpicklers call whatever a file names.  This one knows the opcodes of protocols 2 to 5, calls only the makers that
its owner lists, leaves long byte strings in the file, and bounds opcodes, depth and text, so that memory and time stay in
proportion to the file.

Source: the opcode descriptions of Python's ``pickletools`` module.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from regraft.core.errors import SourceError

MAX_OPCODES = 1_000_000
MAX_CALLS = 200_000
MAX_DEPTH = 1000
MAX_TEXT = 64 << 20
MAX_NAME = 256
NAMES = {"opcodes": "opcodes", "calls": "calls", "text": "bytes of text"}


@dataclasses.dataclass
class Limits:
    """What reading one file may still cost, nested pickles included."""

    opcodes: int = MAX_OPCODES
    calls: int = MAX_CALLS
    text: int = MAX_TEXT

    def spend(self, what: str, amount: int = 1) -> None:
        """Count something down.

        Raises:
            SourceError: if the file is past its limit.
        """
        left = getattr(self, what) - amount
        if left < 0:
            raise SourceError(f"more than {getattr(Limits, what)} {NAMES[what]}, which no checkpoint needs")
        setattr(self, what, left)


class Reader:
    """A part of a file, read in order."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.at, self.end = file, start, end
        file.seek(start)

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes.

        Raises:
            EOFError: if the part is shorter.
        """
        if n > self.end - self.at:
            raise EOFError(f"{n} bytes wanted at {self.at}, {self.end - self.at} left")
        data = self.file.read(n)
        if len(data) != n:
            raise EOFError(f"the file ends at {self.at + len(data)}")
        self.at += n
        return data

    def number(self, layout: str) -> Any:
        """The next number, as ``struct`` lays it out."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """The next short line of ASCII."""
        data = self.file.readline(min(MAX_NAME, self.end - self.at))
        if not data.endswith(b"\n"):
            raise EOFError(f"no name at {self.at}")
        self.at += len(data)
        return data[:-1].decode("ascii")

    def skip(self, n: int) -> "Blob":
        """Leave the next ``n`` bytes in the file."""
        if n > self.end - self.at:
            raise EOFError(f"{n} bytes wanted at {self.at}, {self.end - self.at} left")
        blob = Blob(self.file, self.at, n)
        self.at += n
        self.file.seek(self.at)
        return blob


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that were left in the file."""

    file: BinaryIO
    start: int
    size: int

    def read(self) -> bytes:
        """All of them; whoever reads the file goes on where it was."""
        here = self.file.tell()
        data = self.reader().take(self.size)
        self.file.seek(here)
        return data

    def reader(self) -> Reader:
        """Read them in order, once whoever reads the file is done."""
        return Reader(self.file, self.start, self.start + self.size)


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """The only kind of thing that a pickle may call."""

    name: str
    call: Callable[..., Any]


class Stub:
    """Something made by a :class:`Maker` that may be given state afterwards."""

    def set_state(self, state: Any) -> None:
        """Take over pickled state."""
        raise SourceError(f"a {type(self).__name__} takes no state")


class Machine:
    """Runs one pickle.

    Args:
        reader: where it is.
        makers: what a file may name: ("module", "name") to a maker.
        limits: what it may cost.
        persistent: resolves persistent references, for torch's storages.
    """

    def __init__(
        self,
        reader: Reader,
        makers: Mapping[tuple[str, str], Maker],
        limits: Limits,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.reader, self.makers, self.limits, self.persistent = reader, makers, limits, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Run it.

        Raises:
            SourceError: if the pickle asks for anything that is not allowed.
            Exception: many kinds, if it is damaged.
        """
        reader, limits, operations = self.reader, self.limits, OPERATIONS
        while True:
            code = reader.take(1)[0]
            limits.opcodes -= 1
            if limits.opcodes < 0:
                raise SourceError(f"more than {MAX_OPCODES} opcodes, which no checkpoint needs")
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
            raise SourceError(f"nested deeper than {MAX_DEPTH}")
        self.marks.append(self.stack)
        self.stack = []

    def protocol(self) -> None:
        """Check the protocol."""
        version = self.reader.take(1)[0]
        if not 2 <= version <= 5:
            raise SourceError(f"pickle protocol {version}; 2 to 5 are read")

    def integer(self, digits: int) -> None:
        """A little-endian integer of a few bytes."""
        if digits > 32:
            raise SourceError(f"an integer of {digits} bytes")
        self.stack.append(int.from_bytes(self.reader.take(digits), "little", signed=True))

    def text(self, n: int) -> None:
        """A string."""
        data = self.reader.take(n)
        self.limits.spend("text", n)
        self.stack.append(data.decode("utf-8", "surrogatepass"))

    def get(self, index: int) -> None:
        """Push a remembered object."""
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        """Remember the top object."""
        self.memo[index] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        """Append to a list."""
        target = self.stack[-1]
        if type(target) is not list:
            raise SourceError(f"appends to a {type(target).__name__}")
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        """Add to a set."""
        target = self.stack[-1]
        if type(target) is not set:
            raise SourceError(f"adds to a {type(target).__name__}")
        target.update(plain_set(items))

    def assign(self, items: list[Any]) -> None:
        """Set items of a dict."""
        target = self.stack[-1]
        if type(target) is not dict:
            raise SourceError(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Tuples would do too, but nested ones can take exponential time to hash.
            if not isinstance(key, str | int):
                raise SourceError(f"a dict key of type {type(key).__name__}")
            target[key] = value

    def find(self, module: str, name: str) -> None:
        """Push a maker that the file names."""
        maker = self.makers.get((module, name))
        if maker is None:
            raise SourceError(
                f"refused, because it names {module[:80]}.{name[:80]}, and nothing but known types is made from a file"
            )
        self.stack.append(maker)

    def find_on_stack(self) -> None:
        """Push a maker whose names are on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise SourceError("names a type by something else than text")
        self.find(module, name)

    def call(self) -> None:
        """Call a maker."""
        arguments, maker = self.stack.pop(), self.stack.pop()
        if not isinstance(maker, Maker) or not isinstance(arguments, tuple):
            raise SourceError(f"calls a {type(maker).__name__}, which is no known type")
        self.limits.spend("calls")
        self.stack.append(maker.call(*arguments))

    def build(self) -> None:
        """Give an object its state."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is dict and isinstance(state, dict):
            self.limits.spend("opcodes", len(state))
            target.update(state)
        elif isinstance(target, Stub):
            target.set_state(state)
        else:
            raise SourceError(f"gives state to a {type(target).__name__}")

    def refer(self) -> None:
        """Resolve a persistent reference."""
        if self.persistent is None:
            raise SourceError("a persistent reference where none belongs")
        self.stack.append(self.persistent(self.stack.pop()))

    def tuple_of(self, n: int) -> None:
        """Make a tuple of the top ``n`` objects."""
        if len(self.stack) < n:
            raise IndexError("the stack is empty")
        items = tuple(self.stack[-n:])
        del self.stack[-n:]
        self.stack.append(items)

    def push(self, value: Any) -> None:
        """Push a value."""
        self.stack.append(value)


def plain_set(items: list[Any]) -> set[str]:
    """A set of strings.

    Raises:
        SourceError: if it holds anything else.
    """
    if not all(isinstance(item, str) for item in items):
        raise SourceError("a set of something else than text")
    return set(items)


def _two(m: Machine) -> list[Any]:
    value, key = m.stack.pop(), m.stack.pop()
    return [key, value]


Operation = Callable[[Machine], Any]
OPERATIONS: dict[int, Operation] = {
    ord(code): operation
    for code, operation in {
        "\x80": Machine.protocol,
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
        "1": Machine.pop_mark,
        "2": lambda m: m.push(m.stack[-1]),
        "(": Machine.mark,
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
        "s": lambda m: m.assign(_two(m)),
        "u": lambda m: m.assign(m.pop_mark()),
        "\x8f": lambda m: m.push(set()),
        "\x90": lambda m: m.add(m.pop_mark()),
        "c": lambda m: m.find(m.reader.line(), m.reader.line()),
        "\x93": Machine.find_on_stack,
        "R": Machine.call,
        "\x81": Machine.call,  # NEWOBJ: makers stand for classes too
        "b": Machine.build,
        "Q": Machine.refer,
    }.items()
}
