"""Every format found on disk leaves files alone that are not its own."""

import pytest

import regraft
from regraft.core import discover
from regraft.formats.base import Probe
from support.plugins import find_plugin


@pytest.mark.parametrize("name", discover.names("formats"))
class TestEveryFormat:
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"{}", b"a: 1\n", b"\x89PNG\r\n", b"\xff" * 64])
    @pytest.mark.parametrize("suffix", [".pth", ".yaml", ".safetensors", ".json", ".pkl"])
    def test_other_files_are_not_claimed_or_end_in_a_clear_error(self, name, tmp_path, content, suffix):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        form = find_plugin("formats", name)
        if form.matches(Probe(path)):
            with pytest.raises(regraft.RegraftError, match="x"):
                form.read(Probe(path))

    def test_an_empty_folder_is_not_claimed(self, name, tmp_path):
        assert not find_plugin("formats", name).matches(Probe(tmp_path))
