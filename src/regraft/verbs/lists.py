"""Lists of sources, methods and metrics, by name."""

from typing import Any

from regraft.core import discover
from regraft.files import catalogue
from regraft.methods.base import Method
from regraft.metrics.base import Metric
from regraft.verbs.load import bundled_records


def list_sources() -> list[dict[str, Any]]:
    """List the sources that have a name: those that ship with regraft, then the public ones of the catalogue.

    Returns:
        For each its ``name``, ``path`` (None while it is not on this machine), ``kind`` (bundled or catalogue), ``cached``,
        ``family``, ``resolution``, ``dataset``, ``licence``, ``noncommercial``, and for public sources ``size_mb``, ``urls``,
        ``page``, ``sha256`` and ``how`` (what to do by hand; None if regraft downloads it).
    """
    return [*bundled_records(), *map(catalogue.record, catalogue.sources().values())]


def list_methods() -> dict[str, str]:
    """List the adaptation methods.

    Returns:
        A line of description for each name.
    """
    return {name: discover.plugin("methods", name, Method).summary for name in discover.names("methods")}


def list_metrics() -> dict[str, str]:
    """List the metrics.

    Returns:
        A line of description for each name.
    """
    return {name: discover.plugin("metrics", name, Metric).summary for name in discover.names("metrics")}
