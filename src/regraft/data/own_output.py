"""Which files among images are regraft's own output, so that no run trains on the sample grids of another.

Runs, adapters and sources are recognised by their records, wherever they lie; single pictures by a mark that
:mod:`regraft.data.pictures` writes into them.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping

from regraft.core.errors import DataError
from regraft.data.pictures import is_marked
from regraft.files import known_records

_RECORDS = {
    known_records.ADAPTER: (known_records.ADAPTER_FORMAT, "adapter"),
    known_records.SOURCE: (known_records.SOURCE_FORMAT, "source"),
}
"""Name of a record, the format that it states, and what its folder is."""

_RUN_SAMPLE = re.compile(r"final\.png|step-\d{6,}\.png")


@dataclasses.dataclass(frozen=True)
class OwnOutput:
    """What of a folder or archive regraft made.

    Attributes:
        folders: what each folder of it is (``run``, ``adapter``, ``source``, ``samples of a run``), by name; the empty name
            is the folder or archive itself, of which only the parts named here are left out.
        pictures: names of single pictures, outside of these folders.
    """

    folders: Mapping[str, str]
    pictures: frozenset[str]

    def folder_of(self, name: str) -> str | None:
        """Return the outermost of the folders that a file lies in, other than the empty one; None if it lies in none."""
        parents = [str(p) for p in pathlib.PurePosixPath(name).parents][-2::-1]
        return next((p for p in parents if p in self.folders), None)


def find_folders(names: Mapping[str, str], read: Callable[[str], bytes]) -> dict[str, str]:
    """Find the folders that regraft made: runs, adapters, sources, and samples of runs.

    Args:
        names: the name of every file by which ``read`` knows it, by the name in which folders are looked for.
        read: returns the bytes of a file.

    Returns:
        What each folder is, by its name.
    """
    folders: dict[str, str] = {}
    samples: dict[str, bool] = {}
    for name in names:
        path = pathlib.PurePosixPath(name)
        folder = _folder(path.parent)
        if path.parent.name == known_records.SAMPLES and path.suffix.lower() == ".png":
            samples[folder] = samples.get(folder, True) and _RUN_SAMPLE.fullmatch(path.name) is not None
        elif path.name == known_records.RUN and path.parent.name == known_records.STATE:
            run = path.parent.parent
            if str(run / known_records.SETTINGS) in names:
                folders[_folder(run)] = "run"
        elif path.name in _RECORDS:
            stated, kind = _RECORDS[path.name]
            if re.search(rf'"format"\s*:\s*"{stated}"'.encode(), _read(names[name], read)):
                folders.setdefault(folder, kind)
    return {folder: "samples of a run" for folder, own in samples.items() if own} | folders


def find_pictures(names: Mapping[str, str], head: Callable[[str], bytes]) -> frozenset[str]:
    """Find pictures with regraft's mark.

    Args:
        names: as for :func:`find_folders`, of pictures only.
        head: returns the first bytes of a file.

    Returns:
        Their names.
    """
    return frozenset(name for name in names if name.lower().endswith((".png", ".gif")) and is_marked(_read(names[name], head)))


def _folder(path: pathlib.PurePosixPath) -> str:
    """Return the name of a folder, empty for the outermost one."""
    return "" if str(path) == "." else str(path)


def _read(name: str, read: Callable[[str], bytes]) -> bytes:
    """Return what can be read of a file; nothing if it cannot be."""
    try:
        return read(name)
    except DataError:
        return b""
