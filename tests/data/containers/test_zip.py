"""Images in .zip archives, with labels or without; archives that are damaged or would unpack to far too much."""

import json
import zipfile

import pytest

from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support.pictures import png_bytes, ramp, zipped


def test_zip_equals_folder(tmp_path):
    entries = {f"set/{c}/{k}.png": png_bytes(ramp() // (k + 1)) for c in "ab" for k in range(2)}
    listed = open_images(zipped(tmp_path / "x.zip", entries))
    for name, content in entries.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    folder = open_images(tmp_path / "x")
    assert listed.classes == folder.classes == ("a", "b")
    assert listed.decode((8, 8), 3).digest == folder.decode((8, 8), 3).digest


def test_stylegan_zip(tmp_path):
    entries = {f"00000/img{k:08d}.png": png_bytes() for k in range(3)}
    labels = [[name, k % 2] for k, name in enumerate(entries)]
    path = zipped(tmp_path / "x.zip", entries | {"dataset.json": json.dumps({"labels": labels})})
    assert open_images(path).decode((8, 8), 3).labels.tolist() == [0, 1, 0]
    path = zipped(tmp_path / "y.zip", entries | {"dataset.json": json.dumps({"labels": None})})
    assert open_images(path).classes == ()
    path = zipped(tmp_path / "z.zip", entries | {"dataset.json": json.dumps({"labels": labels[:1]})})
    with pytest.raises(DataError, match="has no label for"):
        open_images(path)
    path = zipped(tmp_path / "w.zip", entries | {"dataset.json": "{"})
    with pytest.raises(DataError, match=r"dataset\.json is not a StyleGAN"):
        open_images(path)


def test_zip_bomb_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": b"\0" * (600 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="would unpack to more than 512 MB"):
        open_images(path).decode((8, 8), 1)


def test_damaged_zip_entry_is_named(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": png_bytes(), "b.png": png_bytes()})
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        open_images(path).decode((8, 8), 1)


def test_utf8_names_without_the_flag(tmp_path):
    """Info-ZIP and others write the bytes and do not say that they are UTF-8."""
    path = zipped(tmp_path / "x.zip", {f"{name}/{k}.png": png_bytes() for name in ("XXpfel", "XXl") for k in range(2)})
    path.write_bytes(path.read_bytes().replace(b"XXpfel", "Äpfel".encode()).replace(b"XXl", "Öl".encode()))
    assert open_images(path).classes == ("Äpfel", "Öl")


def test_names_of_an_old_pc(tmp_path):
    path = zipped(tmp_path / "x.zip", {f"{name}/{k}.png": png_bytes() for name in ("Xpfel", "b") for k in range(2)})
    path.write_bytes(path.read_bytes().replace(b"Xpfel", "Äpfel".encode("cp437")))
    assert open_images(path).classes == ("b", "Äpfel")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_said(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": png_bytes(ramp())})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.png", png_bytes(ramp() // 2))
    listed = open_images(path)
    assert len(listed) == 1
    assert listed.notes == ("1 names are there twice, and the last file of each counts (a.png)",)
    assert listed.decode((12, 12), 1).pixels.max() == 127


def test_an_archive_is_read_by_many_threads_at_once(tmp_path):
    entries = {f"{k:03d}.png": png_bytes(ramp() // (1 + k % 7)) for k in range(200)}
    images = open_images(zipped(tmp_path / "x.zip", entries)).decode((12, 12), 1)
    assert [int(p.max()) for p in images.pixels] == [255 // (1 + k % 7) for k in range(200)]
