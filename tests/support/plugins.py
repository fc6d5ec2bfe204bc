"""Plug-ins by name, for tests that do not care about their class."""

from typing import Any

from regraft.core import discover


def find_plugin(folder: discover.Folder, name: str) -> Any:
    """Import one plug-in."""
    return discover.plugin(folder, name, object)
