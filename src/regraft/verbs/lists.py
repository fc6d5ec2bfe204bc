"""What there is: sources, methods and metrics by name."""

from typing import Any

from regraft.core import discover
from regraft.files import catalogue
from regraft.methods.base import Method
from regraft.metrics.base import Metric
from regraft.verbs.load import bundled_records


def list_sources() -> list[dict[str, Any]]:
    """Sources that can be named: those that ship with regraft, then the catalogue of public ones.

    Returns:
        For each ``name``, ``path`` (None while it is not on this machine), ``kind`` (bundled or catalogue), ``cached``,
        ``family``, ``resolution``, ``dataset``, ``licence``, ``noncommercial``, and for public ones ``size_mb``, ``urls``,
        ``page``, ``sha256`` and ``how`` (what to do by hand, None where regraft downloads it).
    """
    return [*bundled_records(), *map(catalogue.record, catalogue.sources().values())]


def list_methods() -> dict[str, str]:
    """Names of all adaptation methods, each with one line on it."""
    return {name: discover.plugin("methods", name, Method).summary for name in discover.names("methods")}


def list_metrics() -> dict[str, str]:
    """Names of all metrics, each with one line on it."""
    return {name: discover.plugin("metrics", name, Metric).summary for name in discover.names("metrics")}
