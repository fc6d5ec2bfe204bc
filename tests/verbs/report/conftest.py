"""Finished runs on bundled digits, for pages to show."""

import shutil

import pytest

import regraft
from regraft.verbs.load import bundled_images
from support.once import made_once


def _adapted(tmp_path_factory, name, sources, **settings):
    def make(folder):
        regraft.adapt(bundled_images("scanned-sixes"), sources, out=folder / name, batch=8, **settings)

    return made_once(tmp_path_factory, f"report-{name}", make) / name


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A short run on bundled digits with everything a page can show."""
    return _adapted(tmp_path_factory, "digits-run", "digits-high", steps=60, evaluate_every=20)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """The same images and source, another method."""
    return _adapted(tmp_path_factory, "other", "digits-high", steps=40, evaluate_every=20, method="transfergan")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A few steps of mining two sources."""
    steps = {"steps": 6, "mining_steps": 3, "evaluate_every": 2, "supersamples": 50}
    return _adapted(tmp_path_factory, "mixed", ["digits-low", "digits-high"], **steps)


@pytest.fixture(scope="session")
def mined(tmp_path_factory):
    """A few steps of mining the classes of a conditional source."""
    return _adapted(tmp_path_factory, "mined", "digits", method="minegan", steps=2, evaluate_every=0)


@pytest.fixture
def copied(digits_run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(digits_run, tmp_path / "copy")
