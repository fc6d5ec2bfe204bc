"""Which of a file's networks are the generator and the critic: what the names say, averages before the latest weights.

Where the names do not say it, the choice is the user's: the error names the candidates and what a source card must say.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats import _roles
from regraft.formats._networks import Found, completed, networks_in, same_shapes, state_dicts_in
from regraft.formats._state_dicts import described, under_key

Test = Callable[[dict[str, Tensor]], bool]
PLAIN_KEYS = ("state_dict", "model_state_dict", "model", "net", "params", "weights")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """One network of a file.

    Attributes:
        found: where it is.
        tensors: of an average, with the statistics that it lacks.
        notes: what has to be said of the choice, one sentence each.
        base: the network that it is an average of.
    """

    found: Found
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    base: Found | None = None


def choose_generator(found: Sequence[Found], where: str) -> Chosen | None:
    """The generator among a file's networks; None if there is none, or only critics.

    Raises:
        SourceError: if several could be it.
    """
    named = [f for f in found if f.role == "generator"] or [f for f in found if f.role == "decoder"]
    nameless = [f for f in found if f.role is None]
    latest = [f for f in named if not f.average] or ([] if named else _plain(nameless, where))
    if not named and not latest:
        named = [f for f in nameless if f.average]
    averages = [f for f in named if f.average and not (f.unnamed and not latest)]
    averages += [f for f in nameless if f.average and f not in averages and any(completed(f, base) for base in latest)]
    averages = [f for f in averages if not f.unnamed or any(completed(f, base) for base in latest)]
    rivals = [f for f in nameless if not f.average and f not in latest and any(same_shapes(f, base) for base in latest)]
    candidates = averages or [*latest, *rivals]
    if not candidates:
        return None
    if len(candidates) > 1:
        raise SourceError(several("generator", candidates, where))
    if not averages:
        return Chosen(candidates[0], candidates[0].tensors)
    return _averaged(averages[0], latest)


def _plain(nameless: Sequence[Found], where: str) -> list[Found]:
    """The one set of weights that is meant where no name says generator."""
    latest = [f for f in nameless if not f.average]
    plain = [f for key in PLAIN_KEYS for f in latest if f.keys and f.keys[-1] == key]
    chosen = plain[:1] or latest
    if len(chosen) > 1:
        raise SourceError(several("generator", chosen, where))
    return chosen


def _averaged(average: Found, latest: Sequence[Found]) -> Chosen:
    """An average, with the statistics that it may lack from the network that it is of."""
    for base in latest:
        whole = completed(average, base)
        if whole is None:
            continue
        notes = [f"The averaged weights under {average.place} are used, not the latest ones under {base.place}."]
        if average.unnamed:
            notes.append(
                f"The average {average.place} is a list without names; its {len(average.tensors)} tensors were given to the "
                "generator's parameters in their order, and all shapes agree."
            )
        if len(average.tensors) < len(whole):
            notes.append(f"The average holds no batch statistics; those of {base.place} are used.")
        return Chosen(average, whole, tuple(notes), base)
    return Chosen(average, average.tensors, (f"The weights under {average.place} are an average.",))


def choose_critic(found: Sequence[Found], where: str) -> tuple[Chosen | None, list[str]]:
    """The critic among a file's networks, the latest weights before an average; None and a sentence if several could be it."""
    named = [f for f in found if f.role == "critic" and not f.unnamed]
    candidates = [f for f in named if not f.average] or named
    if len(candidates) > 1:
        return None, [several("critic", candidates, where) + " Until then no critic is used."]
    return (Chosen(candidates[0], candidates[0].tensors), []) if candidates else (None, [])


def several(which: str, candidates: Sequence[Found], where: str) -> str:
    """Say that several networks could be meant, and how a source card names one."""
    places = "; ".join(f.place for f in candidates[:8]) + ("; ..." if len(candidates) > 8 else "")
    file, hint = pathlib.Path(where).name, candidates[0].hint
    card = f"{which}: {{{', '.join(filter(None, (f'file: {file}', hint)))}}}"
    return (
        f"{where}: holds several networks that could be the {which}, and their names do not say which one is meant: {places}. "
        f"Name one in a source card (source.yaml beside the file), for example: regraft_card: 1, {card}"
    )


def not_used(found: Sequence[Found], *used: Chosen | None) -> list[str]:
    """Say which networks of a file are left out and have not been named, in one sentence."""
    known = [f for chosen in used if chosen for f in (chosen.found, chosen.base)]
    rest = [f.place for f in found if not any(f is other for other in known)]
    more = f" and {len(rest) - 8} more" if len(rest) > 8 else ""
    return [f"Not used: {', '.join(rest[:8])}{more}."] if rest else []


def refuse_shared_embedding(found: Sequence[Found], where: str) -> None:
    """Refuse a file whose networks share a table of classes that lies beside them.

    Raises:
        SourceError: naming the table.
    """
    for other in found:
        if other.role == "other" and other.prefix and _roles.is_embedding(other.prefix):
            raise SourceError(_roles.conditional(where, other.prefix.removesuffix(".")))


def generator_of(content: object, where: str) -> tuple[Chosen, list[Found]]:
    """The generator of a file, and all of its networks.

    Raises:
        SourceError: if there is none, if several could be it, or if it takes classes in a way that the file does not say.
    """
    found = networks_in(content, where)
    if not found:
        raise SourceError(
            f"{where}: holds no state dict (names to tensors), but {described(content)}; save the networks by name, for "
            "example torch.save({'generator': g.state_dict(), 'critic': d.state_dict()}, ...)"
        )
    refuse_shared_embedding(found, where)
    chosen = choose_generator(found, where)
    if chosen is None:
        places = ", ".join(f"a {'network' if f.role in (None, 'other') else f.role} ({f.place})" for f in found[:8])
        raise SourceError(f"{where}: holds no generator, only {places}; name the generator's file instead")
    return chosen, found


def critic_of(content: object, where: str) -> Chosen | None:
    """The critic of a file that holds one: the one under a critic's name, or the only network."""
    found = networks_in(content, where)
    chosen, _ = choose_critic(found, where)
    if chosen is None and len(found) == 1 and found[0].role is None:
        return Chosen(found[0], found[0].tensors)
    return chosen


def passing(content: object, test: Test, where: str, which: str = "generator") -> Chosen | None:
    """The network of a file whose names pass a test, wherever it lies in the file; None if there is none.

    Of a generator an average is taken before the latest weights, of a critic the latest weights.

    Args:
        content: what the file holds.
        test: of names and tensors, without the prefixes of wrappers.
        where: names the file in errors.
        which: ``generator`` or ``critic``.

    Raises:
        SourceError: if several pass and no name says which one is meant.
    """
    found = [f for f in networks_in(content, where) if not f.unnamed and test(f.tensors)]
    latest, averages = [f for f in found if not f.average], [f for f in found if f.average]
    candidates = (averages or latest) if which == "generator" else (latest or averages)
    if len(candidates) > 1:
        raise SourceError(several(which, candidates, where))
    if not candidates:
        return None
    return _averaged(candidates[0], latest) if candidates[0].average else Chosen(candidates[0], candidates[0].tensors)


def any_passes(content: object, test: Test) -> bool:
    """Whether the names of some network of a file pass a test; never raises."""
    try:
        return any(not f.unnamed and test(f.tensors) for f in networks_in(content, ""))
    except SourceError:
        return False


def by_card(content: object, where: str, which: str, key: str | None, prefix: str | None) -> Chosen:
    """The generator or critic of a file that a source card names, by key and prefix where it gives them.

    Args:
        content: what the file holds.
        where: names the file in errors.
        which: ``generator`` or ``critic``.
        key: of the state dict, ``outer.inner``.
        prefix: of the network's names in it, with its dot or without.

    Raises:
        SourceError: if there is nothing of that name, or several networks could be meant.
    """
    content = content if key is None else under_key(content, key, where)
    if prefix is not None:
        return _under_prefix(content, where, which, prefix.removesuffix(".") + ".")
    if key is not None:
        own = [f for f in networks_in(content, where) if not f.keys and not f.prefix and not f.unnamed]
        if own:
            return Chosen(own[0], own[0].tensors)
    if which == "generator":
        return generator_of(content, where)[0]
    chosen = critic_of(content, where)
    if chosen is None:
        raise SourceError(several("critic", networks_in(content, where), where))
    return chosen


def _under_prefix(content: object, where: str, which: str, prefix: str) -> Chosen:
    """The network whose names begin with a prefix, as the file has them or without those of wrappers."""
    dicts = [(keys, tensors) for keys, tensors, unnamed in state_dicts_in(content, where) if not unnamed]
    networks = [(f.keys, f.tensors) for f in networks_in(content, where) if f.role in (which, None)]
    for keys, tensors in [*dicts, *((keys, _roles.unwrapped(tensors)) for keys, tensors in dicts), *networks]:
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if own:
            found = Found(keys, prefix, _roles.unwrapped(own), None, average=False)
            return Chosen(found, found.tensors)
    there = [branch for _, tensors in dicts for branch in _roles.branches(tensors)]
    raise SourceError(f"{where}: no name begins with {prefix}; there are: {', '.join(there[:8]) or 'no prefixes'}")
