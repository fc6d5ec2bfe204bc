"""Plug-ins are found by their file names, and other packages add theirs by entry points."""

import importlib
import pathlib

import pytest

import regraft
from regraft.core import discover
from regraft.core.errors import ConfigError
from regraft.methods.base import Method
from support.plugins import find_plugin


@pytest.mark.parametrize("folder", ["methods", "backbones", "formats", "metrics", "extractors"])
def test_unknown_names_get_the_nearest_known_one(folder):
    known = discover.names(folder)[0]
    with pytest.raises(ConfigError, match=f"did you mean {known}"):
        find_plugin(folder, known + "x")


def test_other_packages_add_plugins_by_entry_point(monkeypatch, tmp_path):
    """A real distribution on the path, as pip would leave it."""
    (tmp_path / "other.py").write_text(
        "from regraft.metrics.base import Metric\n"
        "class Theirs(Metric):\n"
        "    summary = 'theirs'\n"
        "    def measure(self, comparison): return []\n"
        "PLUGIN = Theirs()\n"
    )
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[regraft.metrics]\ntheirs = other:PLUGIN\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert "theirs" in discover.names("metrics")
    assert regraft.list_metrics()["theirs"] == "theirs"
    with pytest.raises(ConfigError, match="theirs of regraft.metrics is a Theirs, and must be a Method"):
        discover.plugin("metrics", "theirs", Method)


def test_names_are_files():
    for folder in ("methods", "backbones", "formats", "metrics", "extractors"):
        root = pathlib.Path(regraft.__file__).parent / folder
        assert discover.names(folder) == sorted(
            p.stem for p in root.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")
        )
