"""Which file beside a generator's is its critic's, and which file of a folder is the generator's, by their names.

People name the two files of a GAN alike but for one word: ``netG_epoch_99.pth`` and ``netD_epoch_99.pth``, ``model_gen.pt`` and
``model_dis.pt``.  Exchanging that word must leave the same name, numbers included: a critic of another epoch is another's.
"""

import dataclasses
import itertools
import pathlib

from regraft.formats import _roles
from regraft.formats.base import MOST_NAMES

SUFFIXES = frozenset({".pkl", ".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".tar", ".model", ".weights", ".t7"})
PARTNERS = {
    "g": {"d"},
    "gs": {"d", "ds"},
    "netg": {"netd"},
    "gnet": {"dnet"},
    "modelg": {"modeld"},
    "gen": {"dis", "disc", "discr"},
    "gens": {"discs"},
    "generator": {"discriminator"},
    "generators": {"discriminators"},
}
"""The usual word for the critic beside each word for the generator."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to read a name: which word says what the file is, and the rest.

    Attributes:
        mark: that word.
        rest: the other words in order, a star in the mark's place, without those that say average.
        average: whether the name says so.
    """

    mark: str
    rest: tuple[str, ...]
    average: bool

    @property
    def core(self) -> tuple[str, ...]:
        """The other words without those that only wrap, such as net and model."""
        return tuple(word for word in self.rest if word not in _roles.FILLERS)


@dataclasses.dataclass(frozen=True)
class Critics:
    """Files that may hold a generator's critic.

    Attributes:
        file: the one that fits best; None if none fits, or several as well as one another.
        rivals: those, where they are several.
    """

    file: pathlib.Path | None = None
    rivals: tuple[pathlib.Path, ...] = ()


def _readings(name: str, role: _roles.Role) -> list[Reading]:
    """Ways to read a name as that of a generator's or critic's file; none if it is of an optimiser or another network."""
    words = _roles.words(name)
    if _roles.WORDS["other"].intersection(words):
        return []
    found = []
    for place, mark in enumerate(words):
        if mark in _roles.WORDS[role]:
            rest = [
                "*" if k == place else word for k, word in enumerate(words) if k == place or word not in _roles.AVERAGE - {"gs"}
            ]
            found.append(Reading(mark, tuple(rest), bool((_roles.AVERAGE - {"gs"}).intersection(words)) or mark == "gs"))
    return found


def _stem(path: pathlib.Path) -> str:
    """A file's name without the suffixes of weights."""
    name = path.name
    while pathlib.PurePath(name).suffix.lower() in SUFFIXES and pathlib.PurePath(name).stem:
        name = pathlib.PurePath(name).stem
    return name


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files of weights in a folder, sorted; none if the folder is larger than any that holds a source."""
    try:
        entries = list(itertools.islice(folder.iterdir(), MOST_NAMES + 1))
        return sorted(p for p in entries if p.suffix.lower() in SUFFIXES and p.is_file()) if len(entries) <= MOST_NAMES else []
    except OSError:
        return []


def critics_of(path: pathlib.Path) -> Critics:
    """Files that may hold the critic of a generator's file: beside it, or of the same name in the folder beside its own."""
    path = path.absolute()
    own, suffix = _readings(_stem(path), "generator"), path.suffix
    beside = _best(own, suffix, [(other, _stem(other)) for other in _files(path.parent) if other != path])
    by_folder = _readings(path.parent.name, "generator")
    if beside.file or beside.rivals or not by_folder:
        return beside
    try:
        folders = sorted(p for p in itertools.islice(path.parent.parent.iterdir(), MOST_NAMES) if p.is_dir())
    except OSError:
        return beside
    folders = [p for p in folders if _best(by_folder, suffix, [(p, p.name)]).file]
    if own:
        return _best(own, suffix, [(other, _stem(other)) for folder in folders for other in _files(folder)])
    return _best(by_folder, suffix, [(folder / path.name, folder.name) for folder in folders if (folder / path.name).is_file()])


def generator_beside(path: pathlib.Path) -> pathlib.Path | None:
    """The file beside a critic's of whose generator it is; None if its name is none of a critic's, or that is not clear."""
    path = path.absolute()
    named = [(path, _stem(path))]
    beside = [other for other in _files(path.parent) if other != path and _readings(_stem(path), "critic")]
    own = [other for other in beside if _best(_readings(_stem(other), "generator"), path.suffix, named).file]
    averages = [other for other in own if any(reading.average for reading in _readings(_stem(other), "generator"))]
    own = averages if len(averages) == 1 else own
    return own[0] if len(own) == 1 else None


def _best(own: list[Reading], suffix: str, candidates: list[tuple[pathlib.Path, str]]) -> Critics:
    """Of candidates, each with the name that says what it is, the file that fits best."""
    fits: dict[pathlib.Path, tuple[bool, ...]] = {}
    for other, name in candidates:
        for ours, theirs in itertools.product(own, _readings(name, "critic")):
            if ours.core == theirs.core:
                fit = (ours.rest != theirs.rest, other.suffix != suffix, theirs.mark not in PARTNERS.get(ours.mark, ()))
                fits[other] = min(fits.get(other, (True,) * 4), (*fit, theirs.average))
    best = sorted(other for other, fit in fits.items() if fit == min(fits.values()))
    return Critics(best[0]) if len(best) == 1 else Critics(rivals=tuple(best))


def generator_in(folder: pathlib.Path) -> pathlib.Path | None:
    """The generator's file in a folder that holds the files of one GAN; averaged weights before the latest ones.

    None if a name says neither generator nor critic nor something that a GAN does not need, or several generators differ in
    more than that, as those of several epochs do.
    """
    generators: list[tuple[pathlib.Path, Reading]] = []
    for file in _files(folder):
        words = _roles.words(_stem(file))
        marks = [w for w in words if w in _roles.WORDS["generator"] | _roles.WORDS["critic"]]
        if marks and marks[-1] in _roles.WORDS["generator"] and (readings := _readings(_stem(file), "generator")):
            generators.append((file, readings[-1]))
        elif not marks and not _roles.WORDS["other"].intersection(words):
            return None
    if len({reading.core for _, reading in generators}) != 1:
        return None
    averages = [file for file, reading in generators if reading.average]
    if len(generators) == 1 or len(averages) == 1:
        return averages[0] if averages else generators[0][0]
    return None
