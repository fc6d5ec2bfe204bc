"""Which networks a file holds: state dicts under keys, parts of one state dict under prefixes, averages of either.

One state dict may hold a generator, a critic and more (``generator.main.0.weight``, ``discriminator.main.0.weight``); it is
split before anything is read as layers.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats import _roles
from regraft.formats._roles import Role

MOST_FOUND = 256
DEEPEST = 5
PLURALS = frozenset(["generators", "gens", "discriminators", "discs", "critics", "decoders", "encoders"])
LIGHTNING_AVERAGE = {"averaging_state", "current_model_state"}
"""Keys of Lightning's WeightAveraging, which puts the average where the latest weights would be, under ``state_dict``."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclasses.dataclass(frozen=True)
class Found:
    """One network of a file.

    Attributes:
        keys: of the mappings around it, from the outermost on.
        prefix: what its names begin with in the file, dot included; empty if they are all of the state dict's.
        tensors: by the file's names, without the prefix and without those of wrappers.
        role: which network its keys and prefix say that it is.
        average: whether they say that it is an average.
        unnamed: whether it is a list of parameters without names, whose names are their numbers.
    """

    keys: tuple[str, ...]
    prefix: str
    tensors: dict[str, Tensor]
    role: Role | None
    average: bool
    unnamed: bool = False

    @property
    def place(self) -> str:
        """Where it is, for a reader: ``state_dict > generator.*``."""
        prefix = f"{self.prefix}*" if self.prefix.endswith(".") else self.prefix
        return " > ".join((*self.keys, *([prefix] if prefix else []))) or "the file itself"

    @property
    def hint(self) -> str:
        """What a source card says to name it."""
        said = [f"key: {'.'.join(self.keys)}"] if self.keys else []
        return ", ".join([*said, *([f"prefix: {self.prefix}"] if self.prefix else [])])


def networks_in(content: object, where: str) -> list[Found]:
    """All networks of a file, in its order; lists of unnamed parameters only where a key says that they are an average.

    Raises:
        SourceError: if there are more than any file of one GAN has.
    """
    found: list[Found] = []
    for keys, tensors, unnamed in state_dicts_in(content, where):
        if unnamed:
            found.append(Found(keys, "", tensors, _role(keys), average=True, unnamed=True))
        else:
            found += _split(tensors, keys)
        if len(found) > MOST_FOUND:
            raise SourceError(f"{where}: holds more than {MOST_FOUND} sets of weights; save the networks of one GAN alone")
    if isinstance(content, dict) and content.keys() >= LIGHTNING_AVERAGE:
        return [dataclasses.replace(f, average=f.average or f.keys[:1] == ("state_dict",)) for f in found]
    return found


def state_dicts_in(
    content: object, where: str, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor], bool]]:
    """Keys, names to tensors, and whether the names are mere numbers: every state dict and every list that is an average.

    A mapping that holds numbers or texts beside named tensors counts as a state dict; what optimisers keep does not.

    Raises:
        SourceError: if something else has the name of a layer's tensor.
    """
    if not isinstance(content, dict) or len(keys) > DEEPEST or "param_groups" in content:
        return
    if keys and "optim" in keys[-1].lower():
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors and (len(tensors) == len(content) or sum("." in name for name in tensors) > 1):
        for name, value in content.items():
            if name not in tensors and isinstance(name, str) and "." in name and not name.endswith("._extra_state"):
                place = f": {' > '.join(keys)}" if keys else ""
                raise SourceError(
                    f"{where}{place}: must map names to tensors (a state dict); {name} is a {type(value).__name__}"
                )
        yield keys, tensors, False
    for name, value in itertools.islice(content.items(), MOST_FOUND * 16):
        inner = (*keys, str(name))
        if isinstance(value, dict):
            yield from state_dicts_in(value, where, inner)
        elif _roles.is_average(inner) and _are_tensors(value):
            yield inner, {str(number): entry for number, entry in enumerate(value)}, True


def _are_tensors(value: object) -> TypeGuard[Sequence[Tensor]]:
    """Whether a value is a list of several tensors and of nothing else."""
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(entry, Tensor) for entry in value)


def _split(tensors: dict[str, Tensor], keys: tuple[str, ...]) -> list[Found]:
    """Networks of one state dict: the parts under prefixes that name networks, or all of it."""
    counters = [n for n, value in tensors.items() if n.rpartition(".")[2] in _roles.BOOKKEEPING and value.numel() == 1]
    averaged = [n.removesuffix("n_averaged") for n in counters if n.endswith("n_averaged")]  # torch's AveragedModel
    weights = {name: value for name, value in tensors.items() if name not in counters}
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        groups.setdefault(_prefix_of(name), {})[name] = value
    loose = groups.pop("", {})

    def network(prefix: str, group: dict[str, Tensor], role: Role | None, words: str) -> Found:
        names = (*keys, *words.split("."))
        inner = _roles.unwrapped({name.removeprefix(prefix): value for name, value in group.items()})
        average = _roles.is_average(names) or any(words.startswith(start) for start in averaged)
        return Found(keys, prefix, inner, role, average)

    if not weights:
        return []
    if not _are_several(groups, loose):
        words = next(iter(groups)) if len(groups) == 1 and not loose else ""
        return [network("", weights, _role((*keys, *words.split("."))), words)]
    found = [network(prefix, group, _role((*keys, *prefix.split("."))), prefix) for prefix, group in groups.items()]
    others: dict[str, dict[str, Tensor]] = {}
    for name, value in loose.items():
        others.setdefault(name.partition(".")[0] + ("." if "." in name else ""), {})[name] = value
    return found + [network(prefix, group, "other", prefix) for prefix, group in others.items()]


def _are_several(groups: dict[str, dict[str, Tensor]], loose: dict[str, Tensor]) -> bool:
    """Whether parts under prefixes are networks of their own, rather than the modules of one (``dec1.*``, ``dec2.*``).

    They are if all of a state dict lies under prefixes that mean different networks, or both a generator and a critic do.
    """
    if any(len(group) < 2 and _role(prefix.split(".")) != "other" for prefix, group in groups.items()):
        return False
    meanings = {(_role(prefix.split(".")), _roles.is_average(prefix.split("."))) for prefix in groups}
    return len(meanings) > 1 and (not loose or {"generator", "critic"} <= {role for role, _ in meanings})


def _prefix_of(name: str) -> str:
    """The beginning of a name that says which network it is of, dot included; empty if nothing does."""
    *parts, layer, _ = ("", *name.split("."))[-max(2, name.count(".") + 1) :]
    marked = 0
    if not parts and _roles.is_average([layer]):  # some code drops the dots of an average's names
        return f"{layer}."
    for depth, part in enumerate(parts[:4]):
        if part.isdecimal():
            break
        # A small letter below something is a layer (the g of an attention), a capital one is not.
        stands = len(part) > 1 or part.isupper() or all(_roles.is_wrapper(before) for before in parts[:depth])
        if _roles.role(part) is not None and stands:
            plural = part.lower() in PLURALS and depth + 1 < len(parts) and parts[depth + 1].isdecimal()
            return ".".join(parts[: depth + 1 + plural]) + "."
        if _roles.is_average([part]) or _roles.LATEST.intersection(_roles.words(part)):
            marked = depth + 1
    return ".".join(parts[:marked]) + "." if marked else ""


def _role(names: tuple[str, ...] | list[str]) -> Role | None:
    """What the innermost of several names that says it says."""
    return next((which for name in reversed(names) if (which := _roles.role(name)) is not None), None)


def completed(average: Found, base: Found) -> dict[str, Tensor] | None:
    """Tensors of a network with those of its average in their place; None if it is no average of that network.

    An average of parameters alone lacks statistics and counters, which are then the network's own.  Some code drops the dots of
    names, some keeps a list without names.
    """
    if average.unnamed:
        own = [name for name in base.tensors if name.rpartition(".")[2] not in STATISTICS]
        if len(own) != len(average.tensors):
            return None
        named = dict(zip(own, average.tensors.values(), strict=True))
    else:
        bare = {name.replace(".", ""): name for name in base.tensors}
        named = {bare.get(name.replace(".", ""), name): value for name, value in average.tensors.items()}
    if any(name not in base.tensors or value.shape != base.tensors[name].shape for name, value in named.items()):
        return None
    if any(name not in named and name.rpartition(".")[2] not in STATISTICS for name in base.tensors):
        return None
    return {name: named.get(name, value) for name, value in base.tensors.items()}


def same_shapes(one: Found, other: Found) -> bool:
    """Whether two networks have the same names and shapes."""
    return {n: t.shape for n, t in one.tensors.items()} == {n: t.shape for n, t in other.tensors.items()}
