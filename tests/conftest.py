"""Small sources and images that every test can afford."""

import numpy as np
import pytest
import torch

from support.pictures import save_arrays
from support.toys import SHARED, toy_gan, toy_images


@pytest.fixture
def gan():
    """The toy GAN."""
    return toy_gan()


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 small PNGs with some structure."""
    rng, arrays = np.random.default_rng(0), np.zeros((12, 8, 8), np.uint8)
    for k, array in enumerate(arrays):
        array[2:6, 1 + k % 4 : 4 + k % 4] = rng.integers(120, 255)
    save_arrays(tmp_path / "photos", arrays)
    return tmp_path / "photos"


@pytest.fixture
def photos_by_class(tmp_path):
    """Folders ``bars`` and ``blobs`` of 12 small PNGs each."""
    rng = np.random.default_rng(0)
    for name, rows in (("bars", slice(0, 8)), ("blobs", slice(2, 6))):
        arrays = np.zeros((12, 8, 8), np.uint8)
        for k, array in enumerate(arrays):
            array[rows, 1 + k % 4 : 3 + k % 4] = rng.integers(120, 255)
        save_arrays(tmp_path / "by-class" / name, arrays)
    return tmp_path / "by-class"


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
