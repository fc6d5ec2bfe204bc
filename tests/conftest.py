"""Small sources and images that every test can afford."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.toys import SHARED, toy_gan, toy_images


@pytest.fixture
def gan():
    """The toy GAN."""
    return toy_gan()


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 small PNGs with some structure."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        array = np.zeros((8, 8), np.uint8)
        array[2:6, 1 + k % 4 : 4 + k % 4] = rng.integers(120, 255)
        Image.fromarray(array).save(folder / f"{k:03d}.png")
    return folder


@pytest.fixture
def photos_by_class(tmp_path):
    """Folders ``bars`` and ``blobs`` of 12 small PNGs each."""
    folder = tmp_path / "by-class"
    rng = np.random.default_rng(0)
    for name in ("bars", "blobs"):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            array = np.zeros((8, 8), np.uint8)
            rows = slice(0, 8) if name == "bars" else slice(2, 6)
            array[rows, 1 + k % 4 : 3 + k % 4] = rng.integers(120, 255)
            Image.fromarray(array).save(folder / name / f"{k:03d}.png")
    return folder


@pytest.fixture
def labelled_images():
    """Twelve random images of three classes, as training sees them."""
    return toy_images(labels=[k % 3 for k in range(12)])


@pytest.fixture
def source_folder(tmp_path, gan):
    """The toy GAN in regraft's own format."""
    import regraft

    return regraft.convert(gan, tmp_path / "toy-source")


@pytest.fixture(scope="session")
def shared():
    """Real data beside the project; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data, which is not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    """What a test draws without a seed of its own is the same in every run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
