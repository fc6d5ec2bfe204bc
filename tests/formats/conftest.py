"""Files of other people's code, as their code writes them."""

import pytest

from support import biggan_files
from support.zoo_files import zoo_run


@pytest.fixture
def zoo_file(tmp_path):
    """Write a checkpoint of pytorch_GAN_zoo and return its path."""

    def write(*content, **options):
        return zoo_run(tmp_path, *content, **options)

    return write


@pytest.fixture(autouse=True)
def _same_biggans():
    """Random tensors of BigGAN files are the same in every test."""
    biggan_files.rng.manual_seed(0)
