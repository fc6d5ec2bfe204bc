"""Sources that tests of several parts of MineGAN mine."""

import pytest

from support.mining import families_of_four, two_families


@pytest.fixture
def two():
    """Two toy GANs of different families."""
    return two_families()


@pytest.fixture
def families():
    """Four toy GANs of different families."""
    return families_of_four()
