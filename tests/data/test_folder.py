"""Walking a folder: links are followed, each real folder and file once."""

import os

import pytest

from regraft.core.errors import DataError
from regraft.data.folder import read_head, walk


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_linked_folders_are_followed(tmp_path):
    make(tmp_path, "store/cat/1.png", "store/dog/1.png", "x/bird/1.png")
    for name in ("cat", "dog"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "store" / name)
    assert sorted(walk(tmp_path / "x").names) == ["bird/1.png", "cat/1.png", "dog/1.png"]


def test_linked_files_are_followed(tmp_path):
    make(tmp_path, "store/1.png")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").symlink_to("../store/1.png")
    assert walk(tmp_path / "x").names == ("a.png",)


def test_loops_end(tmp_path):
    make(tmp_path, "x/a/1.png", "x/b/2.png")
    (tmp_path / "x" / "a" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "a" / "b").symlink_to(tmp_path / "x" / "b")
    (tmp_path / "x" / "b" / "a").symlink_to(tmp_path / "x" / "a")
    (tmp_path / "x" / "self").symlink_to("self")
    tree = walk(tmp_path / "x")
    assert sorted(tree.names) == ["a/1.png", "b/2.png"]
    assert tree.not_followed == ("a/b", "a/up", "b/a", "self")


def test_loops_outside_end(tmp_path):
    make(tmp_path, "p/1.png", "q/2.png", "x/0.png")
    (tmp_path / "p" / "q").symlink_to(tmp_path / "q")
    (tmp_path / "q" / "p").symlink_to(tmp_path / "p")
    (tmp_path / "x" / "p").symlink_to(tmp_path / "p")
    tree = walk(tmp_path / "x")
    assert sorted(tree.names) == ["0.png", "p/1.png", "p/q/2.png"]
    assert tree.not_followed == ("p/q/p",)


def test_a_second_name_of_a_folder_or_file_is_not_followed(tmp_path):
    make(tmp_path, "x/2024/1.png")
    (tmp_path / "x" / "latest").symlink_to("2024")
    (tmp_path / "x" / "best.png").symlink_to("2024/1.png")
    (tmp_path / "x" / "gone.png").symlink_to("nowhere")
    tree = walk(tmp_path / "x")
    assert tree.names == ("2024/1.png",)
    assert tree.not_followed == ("best.png", "gone.png", "latest")


def test_hidden_and_empty_folders_are_named_and_not_entered(tmp_path):
    make(tmp_path, "x/1.png", "x/.git/2.png", "x/@eaDir/3.png", "x/.DS_Store")
    (tmp_path / "x" / "later").mkdir()
    assert sorted(walk(tmp_path / "x").names) == [".DS_Store", ".git/", "1.png", "@eaDir/", "later/"]


def test_pipes_are_no_files(tmp_path):
    make(tmp_path, "x/1.png")
    os.mkfifo(tmp_path / "x" / "pipe.png")
    (tmp_path / "x" / "to-pipe.png").symlink_to("pipe.png")
    assert walk(tmp_path / "x").names == ("1.png",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read_are_named(tmp_path):
    make(tmp_path, "x/1.png", "x/locked/2.png")
    (tmp_path / "x" / "locked").chmod(0)
    try:
        assert walk(tmp_path / "x").unreadable == ("locked",)
        with pytest.raises(DataError, match="may not be read"):
            walk(tmp_path / "x" / "locked")
    finally:
        (tmp_path / "x" / "locked").chmod(0o700)


def test_heads_are_short(tmp_path):
    make(tmp_path, "a-long-name")
    assert read_head(tmp_path / "a-long-name", 6) == b"a-long"
    assert read_head(tmp_path / "missing", 6) == b""
