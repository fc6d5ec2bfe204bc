"""Opening images: paths with nothing in them are refused by name."""

import pytest

from regraft.core.errors import DataError
from regraft.data.opening import open_images


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_images(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_images(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no images \(\.txt\)"):
        open_images(tmp_path / "empty")
    (tmp_path / "file.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="a text file, and no images"):
        open_images(tmp_path / "file.bin")
