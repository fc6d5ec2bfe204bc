"""A run made on the command line."""

import pytest

from support.commands import FAST, call


@pytest.fixture
def finished(capsys, photos, source_folder, tmp_path):
    """Folder, output and errors of ``regraft adapt``."""
    code, out, err = call(capsys, "adapt", photos, "-s", source_folder, "--method", "freezed", "--out", tmp_path / "run", *FAST)
    assert code == 0, err
    return tmp_path / "run", out, err
