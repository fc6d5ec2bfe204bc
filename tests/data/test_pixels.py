"""Pixels of single images: colour modes, transparency, rotation, depth, fits, and files that would unpack to far too much."""

import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.errors import DataError
from regraft.data import rules
from regraft.data.opening import open_images
from regraft.data.pixels import UnreadableImage, decode
from support.pictures import one, ramp, save


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
    save(tmp_path / "x", "b.png", frames[0])
    images = open_images(tmp_path / "x").decode((8, 8), 1)
    assert images.tensor().max() < -0.9
    assert any("first frame" in said for said in images.notes)


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


def _saved_deep(folder, *arrays, suffix="png"):
    for k, array in enumerate(arrays):
        save(folder, f"{k}.{suffix}", Image.fromarray(array))
    return open_images(folder)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_whole_set_tells_how_many_bits_are_used(tmp_path, bits):
    high = (1 << bits) - 1
    bright = np.rint(ramp(8, 8) / 255 * high).astype(np.uint16)
    dark = bright // 4
    images = _saved_deep(tmp_path / "x", bright, dark).decode((8, 8), 1)
    assert images.pixels[0].float().sub(torch.from_numpy(ramp(8, 8).astype(np.float32))).abs().max() <= 1
    assert images.pixels[1].float().mul(4).sub(images.pixels[0].float()).abs().max() <= 4
    assert images.notes == (f"2 of 2 images: {bits} bits in 16 scaled to 8: the greatest value of the set, {high}, is white",)


def test_a_maximum_that_is_no_number_of_bits(tmp_path):
    images = _saved_deep(tmp_path / "x", np.full((8, 8), 3000, np.uint16)).decode((8, 8), 1)
    assert images.pixels.unique().tolist() == [187]
    assert "taken for 12 bits in 16" in images.notes[0]
    images = _saved_deep(tmp_path / "y", np.full((8, 8), 9000, np.uint16)).decode((8, 8), 1)
    assert images.pixels.unique().tolist() == [35]
    assert "9000 of 65535" in images.notes[0]


def test_the_rules_of_earlier_runs_scale_by_65535(tmp_path):
    listed = _saved_deep(tmp_path / "x", np.full((8, 8), 4095, np.uint16))
    assert listed.decode((8, 8), 1, version=rules.FIRST).pixels.unique().tolist() == [16]
    assert listed.decode((8, 8), 1).pixels.unique().tolist() == [255]


def test_a_part_of_a_measured_set_is_scaled_as_the_whole(tmp_path):
    listed = _saved_deep(tmp_path / "x", np.full((8, 8), 2000, np.uint16), np.full((8, 8), 4095, np.uint16))
    assert listed.measured().take(0, 1).decode((8, 8), 1).pixels.unique().tolist() == [125]


def test_floats_are_scaled_by_the_range_of_the_set(tmp_path):
    values = ramp(8, 8).astype(np.float32)
    images = _saved_deep(tmp_path / "x", values / 127.5 - 1, values / 510, suffix="tif").decode((8, 8), 1)
    assert (images.pixels[0, 0].numpy() == ramp(8, 8)).all()
    assert images.pixels[1].min() == 128
    assert "read as the range [-1, 1]" in images.notes[0]


def test_one_bad_deep_image_does_not_hide_the_others(tmp_path):
    listed = _saved_deep(tmp_path / "x", np.full((8, 8), np.nan, np.float32), ramp(8, 8) / np.float32(255), suffix="tif")
    images = listed.decode((8, 8), 1, on_bad="skip")
    assert (images.pixels[0, 0].numpy() == ramp(8, 8)).all()
    assert "not numbers" in images.notes[-1]


def test_a_postscript_file_is_not_drawn(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("drawn"))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nquit\n%%EOF\n"
    with pytest.raises(UnreadableImage, match=r"photo\.jpg: cannot be read as an image"):
        decode(program, "photo.jpg", lambda note: None)


def test_heic_that_is_called_jpg_says_what_to_do(monkeypatch):
    from regraft.data import kinds

    monkeypatch.setattr(kinds, "missing_plugin", lambda kind: "install it" if kind == "HEIC" else None)
    with pytest.raises(UnreadableImage, match=r"IMG_1\.jpg: Pillow cannot read this kind of image here; install it"):
        decode(b"\0\0\0\x24ftypheic" + bytes(200), "IMG_1.jpg", lambda note: None)
