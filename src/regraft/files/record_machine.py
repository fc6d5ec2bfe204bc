"""The machine that reads pickles: names in a file stand for makers out of a table, and nothing else is ever called."""

import dataclasses
from collections.abc import Callable, Mapping

from regraft.core.errors import SourceError
from regraft.files import inert
from regraft.files.byte_reader import Reader
from regraft.files.pickle_machine import OPERATIONS, Limits, PickleMachine


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """The only kind of thing that these pickles may call."""

    name: str
    call: Callable[..., object]


class Stub:
    """Something made by a :class:`Maker` that may be given state afterwards."""

    def set_state(self, state: object) -> None:
        """Take over pickled state.

        Raises:
            SourceError: if it is not what such a thing has.
        """
        raise SourceError(f"a {type(self).__name__} takes no state")


def refusal(name: str) -> str:
    """Why a file is refused that names something that is not known, in place of what is."""
    return f"refused, because it names {name}, and nothing but known types is made from a file"


class RecordMachine(PickleMachine):
    """Makes records, settings and references to tensors.

    Args:
        reader: where the pickles are.
        makers: what a file may name, by module and name.
        limits: what they may cost.
        storage: what a persistent reference stands for, in torch's streams.
        strict: whether every name must be one of the makers'.
    """

    operations = OPERATIONS

    def __init__(
        self,
        reader: Reader,
        makers: Mapping[tuple[str, str], Maker],
        limits: Limits,
        storage: Callable[[object], object] | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__(reader, limits)
        self.makers, self.storage, self.strict = makers, storage, strict

    def find(self, module: str, name: str) -> Maker:
        """A maker that the file names; types that are not known give placeholders."""
        maker = self.makers.get((module, name))
        if maker is not None:
            return maker
        full = f"{module[:80]}.{name[:80]}"
        if self.strict or inert.acts(full):
            raise SourceError(refusal(full))
        return Maker(full, lambda *_: inert.placeholder(full))

    def check_key(self, key: object) -> None:
        """As in any pickle; a type may be a key, too."""
        if not isinstance(key, Maker):
            super().check_key(key)

    def call(self, function: object, arguments: object, new: bool) -> object:
        """What a maker makes; makers stand for classes and functions alike."""
        if not isinstance(function, Maker) or not isinstance(arguments, tuple):
            raise SourceError(f"calls a {type(function).__name__}, which is no known type")
        return function.call(*arguments)

    def set_state(self, target: object, state: object) -> None:
        """Add state to a mapping, or hand it to a stub."""
        if type(target) is dict and isinstance(state, dict):
            self.limits.spend("opcodes", len(state))
            target.update(state)
        elif isinstance(target, Stub):
            target.set_state(state)
        elif isinstance(target, inert.Placeholder):
            return
        else:
            raise SourceError(f"gives state to a {type(target).__name__}")

    def refer(self, reference: object) -> object:
        """A storage of torch."""
        return super().refer(reference) if self.storage is None else self.storage(reference)
