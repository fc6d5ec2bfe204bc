"""Plug-ins by name, for tests that do not care about their class."""

from typing import Any

from regraft.core import discover


def find_plugin(folder: discover.Folder, name: str) -> Any:
    """Import one plug-in."""
    return discover.plugin(folder, name, object)


def backbones_and_classes():
    """Every backbone with no classes, and with three where it has a conditional form."""
    names = discover.names("backbones")
    return [(name, k) for name in names for k in (0, 3) if not k or find_plugin("backbones", name).conditional]
