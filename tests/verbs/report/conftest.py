"""Finished runs on bundled digits, for pages to show."""

import shutil

import pytest

import regraft
from regraft.verbs.load import bundled_images


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A short run on bundled digits with everything a page can show."""
    folder = tmp_path_factory.mktemp("report") / "digits-run"
    regraft.adapt(bundled_images("scanned-sixes"), "digits-high", out=folder, steps=60, evaluate_every=20, batch=8)
    return folder


@pytest.fixture(scope="session")
def other(digits_run):
    """The same images and source, another method."""
    folder = digits_run.parent / "other"
    images = bundled_images("scanned-sixes")
    regraft.adapt(images, "digits-high", out=folder, steps=40, evaluate_every=20, batch=8, method="transfergan")
    return folder


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A few steps of mining two sources."""
    folder = tmp_path_factory.mktemp("mining") / "mixed"
    steps = {"steps": 6, "mining_steps": 3, "evaluate_every": 2, "batch": 8, "supersamples": 50}
    regraft.adapt(bundled_images("scanned-sixes"), ["digits-low", "digits-high"], out=folder, **steps)
    return folder


@pytest.fixture(scope="session")
def mined(tmp_path_factory):
    """A few steps of mining the classes of a conditional source."""
    folder = tmp_path_factory.mktemp("mining") / "mined"
    regraft.adapt(bundled_images("scanned-sixes"), "digits", out=folder, method="minegan", steps=2, evaluate_every=0, batch=8)
    return folder


@pytest.fixture
def copied(digits_run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(digits_run, tmp_path / "copy")
