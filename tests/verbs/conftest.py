"""A source and finished runs that tests of several verbs look at."""

import pytest

import regraft
from support.running import FAST
from support.toys import toy_gan


@pytest.fixture
def source():
    """The toy GAN with an autoencoder."""
    return toy_gan(autoencoder=True)


@pytest.fixture
def run(photos, source_folder, tmp_path):
    """A finished FreezeD run on twelve photos."""
    return regraft.adapt(photos, source_folder, method="freezed", out=tmp_path / "run", **FAST)


@pytest.fixture
def labelled_run(photos_by_class, source_folder, tmp_path):
    """A finished TransferGAN run on two classes of photos, ``bars`` and ``blobs``."""
    return regraft.adapt(photos_by_class, source_folder, method="transfergan", out=tmp_path / "run", steps=4, batch=4)
