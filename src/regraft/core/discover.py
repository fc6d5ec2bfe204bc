"""Plug-ins: a file in a plug-in folder is a plug-in of that name; other packages add theirs by entry points."""

import importlib
import importlib.metadata
import pkgutil
from typing import Literal, TypeVar

from regraft.core.config import unknown_name
from regraft.core.errors import ConfigError

Folder = Literal["methods", "backbones", "formats", "metrics", "extractors", "regularizers"]
Kind = TypeVar("Kind")


def names(folder: Folder) -> list[str]:
    """Return the names of all plug-ins of a folder, sorted, without importing them."""
    package = importlib.import_module(f"regraft.{folder}")
    own = {m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and not m.name.startswith("_")}
    return sorted(own | set(_entry_points(folder)))


def plugin(folder: Folder, name: str, kind: type[Kind]) -> Kind:
    """Import one plug-in: ``PLUGIN`` of ``regraft/<folder>/<name>.py``, or an entry point of the group ``regraft.<folder>``.

    Args:
        folder: the plug-in folder.
        name: the file's name, or the entry point's.
        kind: the class that it must be an instance of; the result has this type.  This module lies below the plug-ins and
            cannot name their classes itself.

    Raises:
        ConfigError: if there is no plug-in of that name, or it is not of that kind.
    """
    if name not in names(folder):
        raise ConfigError(unknown_name(folder[:-1], name, names(folder)))
    others = _entry_points(folder)
    found: object = others[name].load() if name in others else importlib.import_module(f"regraft.{folder}.{name}").PLUGIN
    if not isinstance(found, kind):
        raise ConfigError(f"the plug-in {name} of regraft.{folder} is a {type(found).__name__}, and must be a {kind.__name__}")
    return found


def _entry_points(folder: Folder) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"regraft.{folder}")}
