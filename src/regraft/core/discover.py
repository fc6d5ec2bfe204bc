"""Find plug-ins: the files of the plug-in folders, named as the files are, and the entry points of other packages."""

import importlib
import importlib.metadata
import pkgutil
from typing import Literal, TypeVar

from regraft.core.config import unknown_name
from regraft.core.errors import ConfigError

Folder = Literal["methods", "backbones", "formats", "metrics", "extractors", "regularizers", "containers"]
Kind = TypeVar("Kind")


def names(folder: Folder) -> list[str]:
    """Return the names of all plug-ins of a folder, sorted, without importing them."""
    package = importlib.import_module(_package(folder))
    files = {m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and not m.name.startswith("_")}
    return sorted(files | set(_entry_points(folder)))


def plugin(folder: Folder, name: str, kind: type[Kind]) -> Kind:
    """Import one plug-in: ``PLUGIN`` of ``<folder>/<name>.py``, or an entry point of the group ``regraft.<folder>``.

    Args:
        folder: the plug-in folder.
        name: name of the file or of the entry point.
        kind: class that the plug-in must be an instance of.  The caller gives it because this module lies below the
            plug-ins and cannot import their classes.

    Raises:
        ConfigError: if there is no plug-in of that name, or it is not of that kind.
    """
    if name not in names(folder):
        raise ConfigError(unknown_name(folder[:-1], name, names(folder)))
    points = _entry_points(folder)
    loaded: object = points[name].load() if name in points else importlib.import_module(f"{_package(folder)}.{name}").PLUGIN
    if not isinstance(loaded, kind):
        raise ConfigError(f"the plug-in {name} of regraft.{folder} is a {type(loaded).__name__}, and must be a {kind.__name__}")
    return loaded


def _package(folder: Folder) -> str:
    """Return the package of a plug-in folder; containers lie with the images that they hold."""
    return "regraft.data.containers" if folder == "containers" else f"regraft.{folder}"


def _entry_points(folder: Folder) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"regraft.{folder}")}
