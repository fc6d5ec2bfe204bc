"""Every kind of image file people have, and every way in which a folder can be wrong."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support.pictures import png_bytes, ramp, save


def test_class_folders_and_their_order(tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for k in (2, 0, 1):
            Image.fromarray(ramp()).save(tmp_path / "x" / name / f"{k}.png")
    listed = open_images(tmp_path / "x")
    assert listed.classes == ("cat", "dog")
    assert [i.name for i in listed.items] == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert listed.decode((8, 8), 1).labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(listed.only("dog")) == 3
    with pytest.raises(DataError, match="no class bird; there are: cat, dog"):
        listed.only("bird")


def test_some_images_are_of_all_classes(photos_by_class):
    listed = open_images(photos_by_class)
    some = listed.some(8, seed=0)
    assert {i.label for i in some.items} == {0, 1}
    assert [i.name for i in some.items] == sorted(i.name for i in some.items)
    assert listed.some(24, seed=0) == listed.some(100, seed=1) == listed


def test_loose_images_beside_folders_mean_no_classes(tmp_path):
    (tmp_path / "x" / "a").mkdir(parents=True)
    Image.fromarray(ramp()).save(tmp_path / "x" / "a" / "0.png")
    Image.fromarray(ramp()).save(tmp_path / "x" / "1.png")
    assert open_images(tmp_path / "x").classes == ()


def zipped(path, entries, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


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


def test_npz(tmp_path):
    pixels = np.stack([ramp(8, 8) // (k + 1) for k in range(4)])
    np.savez(tmp_path / "x.npz", x_train=pixels, y_train=np.array([7, 3, 3, 7]), x_test=pixels[:1, :, :, None])
    images = open_images(tmp_path / "x.npz").decode((8, 8), 1)
    assert torch.equal(images.pixels[:, 0], torch.from_numpy(pixels))
    assert images.classes == ("3", "7")
    assert images.labels.tolist() == [1, 0, 0, 1]
    assert len(open_images(f"{tmp_path / 'x.npz'}:x_test")) == 1
    with pytest.raises(DataError, match=r"no array of images x_other; it holds x_train"):
        open_images(f"{tmp_path / 'x.npz'}:x_other")


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError):
        open_images(tmp_path / "x.npz")


def npz(path, **arrays):
    """An archive of arrays whose headers say what they like: (dtype, shape, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (dtype, shape, content) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
                file.write(content)
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ("|u1", (2**32, 2**32, 1), b"")}, r"x is uint8 \(4294967296, .*; images must be uint8.* at most 16 GB"),
        ({"x": ("|u1", (-2, 8, 8), b"")}, r"x has the shape \(-2, 8, 8\)"),
        ({"x": ("|u1", (4, 8, 8), bytes(255))}, r"x\.npy cannot be read \(ValueError"),
        ({"x": ("|u1", (4, 8, 8), bytes(256)), "y": ("|O", (4,), b"")}, r"y is object \(4,\), not one integer per image of x"),
        ({"x": ("|u1", (4, 8, 8), bytes(256)), "y": ("<i8", (2**40,), b"")}, "y is int64 .*, not one integer per image of x"),
    ],
)
def test_npz_whose_headers_do_not_fit(tmp_path, arrays, message):
    path = npz(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=rf"x\.npz: .*{message}"):
        open_images(path)


def test_labels_are_not_unpacked_before_their_number_is_known(tmp_path, monkeypatch):
    path = npz(tmp_path / "x.npz", x=("|u1", (4, 8, 8), bytes(256)), y=("<i8", (1 << 20,), bytes(8 << 20)))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(DataError, match="not one integer per image of x"):
        open_images(path)


def test_two_arrays_of_one_name(tmp_path):
    """Readers would differ on which one counts."""
    path = npz(tmp_path / "x.npz", x=("|u1", (4, 8, 8), bytes(256)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", archive.read("x.npy"))
    with pytest.raises(DataError, match="x is there twice"):
        open_images(path)


def test_npz_that_is_no_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=r"not an \.npz"):
        open_images(tmp_path / "x.npz")


def test_bad_files_are_named_and_fatal_or_skipped(tmp_path):
    save(tmp_path / "x", "good.png", Image.fromarray(ramp()))
    (tmp_path / "x" / "cut.png").write_bytes(png_bytes()[:40])
    (tmp_path / "x" / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"cut\.png.*text\.jpg.*--on-bad skip"):
        open_images(tmp_path / "x").decode((8, 8), 1)
    images = open_images(tmp_path / "x").decode((8, 8), 1, on_bad="skip")
    assert images.n == 1
    assert any("2 unreadable images skipped" in said for said in images.notes)
    (tmp_path / "x" / "good.png").unlink()
    with pytest.raises(DataError, match="none of its 2 images can be read"):
        open_images(tmp_path / "x").decode((8, 8), 1, on_bad="skip")


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
    with pytest.raises(DataError, match=r"not a folder, a \.zip or an \.npz"):
        open_images(tmp_path / "file.bin")


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


def test_flips_are_drawn_per_image():
    import dataclasses

    from support.toys import toy_images

    images = dataclasses.replace(toy_images(n=200), flip=True)
    rng = torch.Generator().manual_seed(0)
    batch = images.batch(torch.arange(200), rng, torch.device("cpu")).data
    plain = images.tensor()
    flipped = (batch == plain.flip(3)).all(3).all(2).all(1)
    kept = (batch == plain).all(3).all(2).all(1)
    assert torch.equal(flipped, ~kept)
    assert 70 < flipped.sum() < 130
