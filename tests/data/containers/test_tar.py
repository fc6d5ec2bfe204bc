"""Tar archives: webdataset shards, links, and archives made to do harm."""

import bz2
import gzip
import io
import json
import lzma
import tarfile

import pytest

from regraft.core.errors import DataError
from regraft.data.containers import base
from regraft.data.opening import open_images
from support.container_files import NAMES, add, picture, write_shard, write_tree


def sample(archive, k, **files):
    for suffix, data in files.items():
        add(
            archive, f"shard/{k:06d}.{suffix.replace('_', '.')}", data if isinstance(data, bytes) else json.dumps(data).encode()
        )


@pytest.mark.parametrize(
    ("content", "classes"),
    [
        ({"label": 3}, ("1", "3")),
        ({"cls": "owl"}, ("cat", "owl")),
        ({"label": [1, 0]}, ("0", "1")),
        (5, ("1", "5")),
        ({"caption": "an owl", "url": "x"}, ()),
    ],
)
def test_labels_of_json(content, classes, tmp_path):
    first = {"label": 1} if isinstance(content, int) or content.get("label") == 3 else {"cls": "cat"}
    first = {"label": [0, 1]} if content == {"label": [1, 0]} else {"caption": "x"} if not classes else first
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for k in range(4):
            sample(archive, k, png=picture(k), json=content if k % 2 else first, txt=b"words")
    listed = open_images(tmp_path / "x.tar")
    assert listed.classes == classes
    assert len(listed) == 4
    assert any("not taken: .txt (4)" in note for note in listed.notes)
    assert bool(classes) or any("no labels: the .json files hold none of the keys" in note for note in listed.notes)


def test_classes_win_over_json_and_missing_labels_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for k in range(5):
            sample(archive, k, png=picture(k), json={"label": 9})
            if k != 2:
                sample(archive, k, cls=str(k % 2).encode())
    listed = open_images(tmp_path / "x.tar")
    assert listed.classes == ("0", "1")
    assert [item.name for item in listed.items] == [f"shard/{k:06d}.png" for k in (0, 1, 3, 4)]
    assert any("1 of 5 images have no label and are left out, first: shard/000002.png" in note for note in listed.notes)


def test_several_images_of_a_sample(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for k in range(4):
            sample(archive, k, photo_png=picture(k), mask_png=picture(k + 4), cls=str(k % 2).encode())
    listed = open_images(tmp_path / "x.tar")
    assert len(listed) == 8
    assert any(".mask.png (4), .photo.png (4)" in note for note in listed.notes)
    assert [item.name for item in open_images(f"{tmp_path / 'x.tar'}:photo.png").items] == [
        f"shard/{k:06d}.photo.png" for k in range(4)
    ]
    with pytest.raises(DataError, match=r"x\.tar: no images \.jpg; it holds \.mask\.png, \.photo\.png"):
        open_images(f"{tmp_path / 'x.tar'}:jpg")


def test_names_of_classes_in_json(tmp_path):
    write_shard(tmp_path, "x.tar", labels=("json",))
    assert open_images(tmp_path / "x.tar").classes == NAMES


@pytest.mark.parametrize("packed", ["", ":gz", ":bz2", ":xz"])
def test_links_lead_to_files_of_the_archive_and_nowhere_else(packed, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(0))
    with tarfile.open(tmp_path / "x.tar", f"w{packed}") as archive:
        for k in range(4):
            add(archive, f"set/a/{k}.png", picture(k))
        for name, target, kind in (
            ("set/b/inside.png", "../a/1.png", tarfile.SYMTYPE),
            ("set/b/hard.png", "set/a/2.png", tarfile.LNKTYPE),
            ("set/b/outside.png", "../../secret.png", tarfile.SYMTYPE),
            ("set/b/absolute.png", str(tmp_path / "secret.png"), tarfile.SYMTYPE),
            ("set/b/circle.png", "circle.png", tarfile.SYMTYPE),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            archive.addfile(link)
        add(archive, "../../../escaped.png", picture(5))
    listed = open_images(tmp_path / "x.tar")
    names = [item.name for item in listed.items]
    assert "set/b/inside.png" in names
    assert "set/b/hard.png" in names
    assert not any("outside" in name or "absolute" in name or "circle" in name for name in names)
    assert any(note.startswith("3 links out of the archive") for note in listed.notes)
    by_name = {item.name: item.read() for item in listed.items}
    assert by_name["set/b/inside.png"] == picture(1)
    assert not (tmp_path.parent.parent.parent / "escaped.png").exists()


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_bombs_are_refused_before_they_fill_memory(pack, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SPARE", 1 << 20)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        add(archive, "a.png", bytes(48 << 20))
    path = tmp_path / f"x.tar.{suffix}"
    path.write_bytes(pack(inner.getvalue()))
    with pytest.raises(DataError, match=rf"x\.tar\.{suffix}: would unpack to more than \d+ MB"):
        open_images(path)


def test_cut_and_damaged_archives_are_named(tmp_path):
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz")):
        content = write_tree(tmp_path, name, mode).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"{name}: .*(cut short|get it again|get the file again)"):
            open_images(tmp_path / name).decode((8, 8), 3)


def test_streams_one_behind_the_other_are_one(tmp_path):
    """As pigz and bgzip write."""
    content = write_tree(tmp_path, "x.tar", "w").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(b"".join(gzip.compress(content[k : k + 3000]) for k in range(0, len(content), 3000)))
    assert open_images(tmp_path / "x.tar.gz").counts == [4, 4, 4]


def test_archives_of_archives_are_said(tmp_path):
    write_tree(tmp_path, "inner.tar", "w")
    with tarfile.open(tmp_path / "outer.tar", "w") as archive:
        archive.add(tmp_path / "inner.tar", "data/inner.tar")
    with pytest.raises(
        DataError, match=r"outer\.tar: holds no images.*Unpack it, and name the folder that data/inner\.tar is in"
    ):
        open_images(tmp_path / "outer.tar")
