"""Damaged and hostile containers of images: nothing but regraft's own errors, no code, no memory beyond the file's size."""

import resource
import shutil

import pytest

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support import container_files as files
from support.fuzz_containers import arrow_bomb, damaged_container, outcome
from support.fuzz_files import Canary, seeded

CASES = 240
PARTS = 6


def test_every_container_is_fuzzed():
    assert set(files.WRITERS) == set(discover.names("containers"))


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return files.templates(tmp_path_factory.mktemp("valid"))


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_containers_end_in_clear_errors(valid, tmp_path, part):
    for seed in range(part, CASES, PARTS):
        folder = tmp_path / f"case{seed}"
        opened, how = damaged_container(valid[seed % len(valid)], seeded(seed), folder)
        came = outcome(opened, folder.name)
        assert came in ("loaded", "refused"), f"seed {seed} ({how}): {came}"
        shutil.rmtree(folder)
    assert Canary.sung == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20


def test_what_a_compressed_message_would_take_is_known_before(tmp_path):
    with pytest.raises(DataError, match=r"x\.feather: its content would take 4\d\d\d MB"):
        open_images(arrow_bomb(tmp_path / "x.feather"))
