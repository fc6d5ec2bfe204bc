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
