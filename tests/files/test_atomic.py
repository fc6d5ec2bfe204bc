"""Writes are whole or not at all."""

import os

import pytest
import torch

from regraft.files.atomic import replacing, write_json, write_tensors


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="broken"), replacing(path) as file:
        file.write(b"half of the ne")
        raise ValueError("broken")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_tensors_that_are_views_are_written_whole(tmp_path):
    base = torch.arange(6.0).view(2, 3)
    write_tensors(tmp_path / "t.safetensors", {"a": base.T, "b": base[0]})
    from safetensors.torch import load_file

    loaded = load_file(tmp_path / "t.safetensors")
    assert torch.equal(loaded["a"], base.T)
    assert torch.equal(loaded["b"], base[0])
