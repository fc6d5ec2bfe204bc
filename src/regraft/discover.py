"""Plug-ins: a file in a plug-in folder is a plug-in of that name; other packages add theirs by entry points."""

import importlib
import importlib.metadata
import pkgutil
from typing import Any, Literal

from regraft.config import unknown
from regraft.errors import ConfigError

Folder = Literal["methods", "backbones", "formats", "metrics", "extractors", "regularizers"]


def names(folder: Folder) -> list[str]:
    """Names of all plug-ins of a folder, sorted, without importing them."""
    package = importlib.import_module(f"regraft.{folder}")
    own = {m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base" and not m.name.startswith("_")}
    return sorted(own | set(_entry_points(folder)))


def plugin(folder: Folder, name: str) -> Any:
    """Import one plug-in: the ``PLUGIN`` of ``regraft/<folder>/<name>.py`` or of an entry point ``regraft.<folder>``.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in names(folder):
        raise ConfigError(unknown(folder[:-1], name, names(folder)))
    others = _entry_points(folder)
    if name in others:
        return others[name].load()
    return importlib.import_module(f"regraft.{folder}.{name}").PLUGIN


def _entry_points(folder: Folder) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"regraft.{folder}")}
