"""Every kind of image file people have, and every way in which a folder can be wrong."""

import io
import json
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.images import open_images
from regraft.data.pixels import UnreadableImage, decode


def ramp(height=12, width=12):
    """Dark at the left, bright at the right."""
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def save(folder, name, picture, **how):
    folder.mkdir(exist_ok=True)
    picture.save(folder / name, **how)


def one(folder, size=(8, 8), channels=3, **how):
    images = open_images(folder).decode(size, channels, **how)
    return images.tensor()[0], images


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "grey copied to three channels"),
        ("RGB", None),
        ("RGBA", "transparency"),
        ("LA", "transparency"),
        ("P", "palette resolved"),
        ("CMYK", "CMYK converted"),
        ("I;16", "16 bits scaled to 8"),
        ("YCbCr", None),
        ("HSV", None),
    ],
)
def test_modes_come_out_alike(tmp_path, mode, note):
    grey = Image.fromarray(ramp())
    if mode == "I;16":
        picture = Image.fromarray(ramp().astype(np.uint16) * 257)
    else:
        picture = grey.convert("RGB").convert(mode) if mode not in ("L", "LA") else grey.convert(mode)
    suffix = "tif" if mode in ("CMYK", "LA", "YCbCr") else "png"
    if mode == "HSV":
        picture = picture.convert("RGB")
    save(tmp_path / "x", f"a.{suffix}", picture)
    image, images = one(tmp_path / "x")
    assert image.shape == (3, 8, 8)
    columns = image.mean((0, 1))
    assert columns[0] < -0.7
    assert columns[-1] > 0.7
    assert (columns.diff() >= -1e-3).all()
    if note:
        assert any(note in said for said in images.notes), images.notes


def test_black_and_white(tmp_path):
    save(tmp_path / "x", "a.png", Image.fromarray(np.where(ramp(8, 8) > 127, 255, 0).astype(np.uint8)).convert("1"))
    image, images = one(tmp_path / "x", channels=1)
    assert image.unique().tolist() == [-1.0, 1.0]
    assert any("black and white" in said for said in images.notes)


def test_transparent_pixels_show_the_ground(tmp_path):
    array = np.zeros((8, 8, 4), np.uint8)
    array[:, 4:] = (255, 0, 0, 255)
    save(tmp_path / "x", "a.png", Image.fromarray(array))
    image, _ = one(tmp_path / "x")
    assert torch.allclose(image[:, 0, 0], torch.ones(3))
    assert torch.allclose(image[:, 0, 7], torch.tensor([1.0, -1.0, -1.0]))


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.fromarray(ramp(8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "x", "a.png", picture, exif=exif)
    image, images = one(tmp_path / "x", channels=1)
    # Turned by a quarter: dark is now at the top.
    assert image[0, 0].mean() < -0.9
    assert image[0, -1].mean() > 0.9
    assert any("EXIF" in said for said in images.notes)


def test_floating_point_and_deep_grey(tmp_path):
    save(tmp_path / "f", "a.tif", Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)))
    image, _ = one(tmp_path / "f", channels=1)
    assert image.min() == -1
    assert image.max() == 1
    save(tmp_path / "bad", "a.tif", Image.fromarray(np.full((8, 8), 1e6, np.float32)))
    with pytest.raises(DataError, match="at most 16 bits"):
        one(tmp_path / "bad")


def test_colour_becomes_luminance_for_a_grey_source(tmp_path):
    save(tmp_path / "x", "a.png", Image.new("RGB", (8, 8), (255, 0, 0)))
    image, images = one(tmp_path / "x", channels=1)
    assert image.shape == (1, 8, 8)
    assert image[0, 0, 0].item() == pytest.approx(76 / 127.5 - 1, abs=0.01)
    assert "1 of 1 images: colour reduced to luminance" in images.notes


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_fit(tmp_path, fit):
    """A wide picture: dark left third, grey middle, bright right third."""
    array = np.repeat(np.array([0, 128, 255], np.uint8), 8)[None].repeat(8, 0)
    save(tmp_path / "x", "a.png", Image.fromarray(array))
    image, images = one(tmp_path / "x", channels=1, fit=fit)
    row = image[0, 4]
    if fit == "crop":
        assert row.abs().max() < 0.3
    else:
        assert row[0] < -0.9
        assert row[-1] > 0.9
    if fit == "pad":
        assert torch.equal(image[0, 0], image[0, 1])
    assert images.aspect == pytest.approx(3)


def test_animation_uses_its_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (0, 255)]
    save(tmp_path / "x", "a.gif", frames[0], save_all=True, append_images=frames[1:])
    image, images = one(tmp_path / "x", channels=1)
    assert image.max() < -0.9
    assert any("first frame" in said for said in images.notes)


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


def png_bytes(array=None):
    buffer = io.BytesIO()
    Image.fromarray(ramp() if array is None else array).save(buffer, "PNG")
    return buffer.getvalue()


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


def bomb(side=60_000):
    """A small PNG that claims to be huge."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_100, 60_000])
def test_decompression_bomb_is_refused(side):
    with pytest.raises(UnreadableImage, match=r"a\.png"):
        decode(bomb(side), "a.png", lambda note: None)


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


def test_pixels_map_to_the_full_range():
    from support.toys import toy_images

    images = toy_images(n=50)
    assert images.tensor().min() == -1
    assert images.tensor().max() == 1
    from regraft.data.pictures import to_picture

    assert np.array_equal(np.asarray(to_picture(images.tensor()[3])), images.pixels[3, 0].numpy())
