"""Images in .npz archives, with labels or without; archives whose headers do not fit."""

import zipfile

import numpy as np
import pytest
import torch

from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support.pictures import ramp


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
        (
            {"x": ("|u1", (2**32, 2**32, 1), b"")},
            r"x is uint8 \(4294967296, .*, which would take .* MB; of a file of this size at most 256 MB",
        ),
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
