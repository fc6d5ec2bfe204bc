"""Loading files and folders: those that are no source are refused by name, and nothing of them runs."""

import pytest
import torch
from torch import nn

import regraft
from regraft.core.errors import SourceError
from support.home_made import deconvs


class TestUnreadable:
    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"<html>", b"\x89PNG....", b"PK\x03\x04garbage", b"\x00" * 99])
    def test_other_files_are_named_for_what_they_are(self, tmp_path, content):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(SourceError, match=r"x\.pth: .*regraft reads"):
            regraft.load(tmp_path / "x.pth")

    @pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
    @pytest.mark.parametrize("modern", [True, False])
    def test_cut_short(self, tmp_path, keep, modern):
        torch.save(deconvs(8, 6).state_dict(), tmp_path / "G.pth", _use_new_zipfile_serialization=modern)
        content = (tmp_path / "G.pth").read_bytes()
        (tmp_path / "G.pth").write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(SourceError, match=r"G\.pth"):
            regraft.load(tmp_path / "G.pth")

    def test_a_pickled_module_is_refused(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "G.pth")
        with pytest.raises(SourceError, match=r"refused, .* Save only the state_dict"):
            regraft.load(tmp_path / "G.pth")

    def test_hostile_pickle_does_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        torch.save({"weight": Evil()}, tmp_path / "G.pth")
        with pytest.raises(SourceError, match="refused"):
            regraft.load(tmp_path / "G.pth")
        assert not (tmp_path / "ran").exists()

    def test_nothing_there(self, tmp_path):
        with pytest.raises(SourceError, match="there is no such file or folder"):
            regraft.load(tmp_path / "G.pth")
        with pytest.raises(SourceError, match="a folder with nothing in it"):
            regraft.load(tmp_path)

    def test_a_folder_with_one_file_of_weights_means_that_file(self, tmp_path):
        torch.save(dict(deconvs(8, 6).state_dict()), tmp_path / "G.pth")
        (tmp_path / "notes.txt").write_text("not weights")
        assert regraft.load(tmp_path).provenance.name == "G"
        torch.save(dict(deconvs(8, 6).state_dict()), tmp_path / "other.pth")
        with pytest.raises(SourceError, match=r"holds 2 files of weights .* G\.pth, other\.pth"):
            regraft.load(tmp_path)
