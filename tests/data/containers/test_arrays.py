"""Arrays and tensors of images under the names that people give them, with splits, label shapes and ranges."""

import os

import numpy as np
import pytest
import torch

from regraft.core.errors import DataError
from regraft.data.opening import open_images

rng = np.random.default_rng(0)


def pictures(n=12, side=8):
    return rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def medmnist(path):
    sizes = {"train": 12, "val": 6, "test": 9}
    images = {f"{split}_images": pictures(n) for split, n in sizes.items()}
    np.savez(path, **images, **{f"{split}_labels": np.arange(n)[:, None] % 3 for split, n in sizes.items()})
    return images


@pytest.mark.parametrize(("split", "part"), [("train", None), ("val", None), ("test", None), ("train", "val_images")])
def test_the_split_that_is_asked_for(split, part, tmp_path):
    images = medmnist(tmp_path / "x.npz")
    listed = open_images(f"{tmp_path / 'x.npz'}:{part}" if part else tmp_path / "x.npz", split=split)
    wanted = images[part or f"{split}_images"]
    assert torch.equal(listed.decode((8, 8), 3).pixels, torch.from_numpy(wanted.transpose(0, 3, 1, 2).copy()))
    assert listed.counts == [len(wanted) // 3] * 3
    if part is None:
        assert (
            f"only the split {split} is used, {len(wanted)} images; there are: test (9), train (12), val (6)" in listed.notes[0]
        )


def test_a_split_is_a_part_and_all_are_one_set(tmp_path):
    medmnist(tmp_path / "x.npz")
    assert len(open_images(f"{tmp_path / 'x.npz'}:validation")) == 6
    both = open_images(tmp_path / "x.npz", split="all")
    assert len(both) == 27
    assert both.counts == [9, 9, 9]
    with pytest.raises(DataError, match=r"x\.npz: there is no split other; there are: test \(9\), train \(12\), val \(6\)"):
        open_images(tmp_path / "x.npz", split="other")


@pytest.mark.parametrize(
    "names",
    [("X", "Y"), ("x_train", "y_train"), ("trainX", "trainY"), ("data", "targets"), ("arr_0", "arr_1"), ("imgs", "label")],
)
@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_names_and_shapes_of_labels(names, shape, tmp_path):
    images, labels = names
    np.savez(tmp_path / "x.npz", **{images: pictures(), labels: (np.arange(12) % 3 * 2 + 1).reshape(shape)})
    listed = open_images(tmp_path / "x.npz")
    assert listed.classes == ("1", "3", "5")
    assert [item.label for item in listed.items] == [0, 1, 2] * 4


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[1, 1, 0], [0, 1, 0]] * 6), "a vector of 3 values .* is no class"),
        (np.zeros((12, 8, 8), np.uint8), r"shape \(12, 8, 8\) is no class"),
        (np.arange(12), "different for every image"),
    ],
)
def test_labels_that_are_no_classes_are_said_and_not_used(labels, words, tmp_path):
    np.savez(tmp_path / "x.npz", x=pictures(), y=labels)
    listed = open_images(tmp_path / "x.npz")
    assert listed.classes == ()
    assert len(listed) == 12
    import re

    assert any(re.search(words, note) for note in listed.notes), listed.notes


def test_measurements_are_refused_as_labels(tmp_path):
    np.savez(tmp_path / "x.npz", x=pictures(), y=np.linspace(0, 1, 12))
    with pytest.raises(DataError, match=r"x\.npz: y: the label 0\.0909.* --no-labels"):
        open_images(tmp_path / "x.npz")
    assert len(open_images(tmp_path / "x.npz", labels=False)) == 12


@pytest.mark.parametrize("kind", ["npz", "npy", "pt"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1)])
def test_floats_are_read_by_their_range_which_is_said(kind, layout, low, high, tmp_path):
    given = pictures()
    floats = (given / np.float32(255) * (high - low) + low).astype(np.float32)
    floats = floats if layout == "NHWC" else np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    path = tmp_path / f"x.{kind}"
    if kind == "pt":
        torch.save(torch.from_numpy(floats), path)
    else:
        (np.savez if kind == "npz" else np.save)(path, floats)
    listed = open_images(path)
    assert torch.equal(listed.decode((8, 8), 3).pixels, torch.from_numpy(given.transpose(0, 3, 1, 2).copy()))
    assert any(f"read as the range [{low}, {high}]" in note for note in listed.notes)


@pytest.mark.parametrize("kind", ["npz", "npy", "pt"])
def test_other_ranges_are_refused_with_what_was_seen(kind, tmp_path):
    floats = (pictures() / np.float32(255) - 0.45) / 0.22
    path = tmp_path / f"x.{kind}"
    if kind == "pt":
        torch.save(torch.from_numpy(floats), path)
    else:
        (np.savez if kind == "npz" else np.save)(path, floats)
    with pytest.raises(DataError, match=rf"x\.{kind}: .*float32 from -2.* to 2.*; floats are pixels in \[0, 1\] or \[-1, 1\]"):
        open_images(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((12, 784), np.uint8), "flat rows; reshape them"),
        (np.zeros((8, 8, 3), np.uint8), "one image with its channels"),
        (np.zeros((12, 8, 8, 7), np.uint8), "no axis can be the channels"),
        (np.zeros((0, 8, 8, 3), np.uint8), "is empty"),
        (np.array([{"a": 1}], dtype=object), "Python objects, which are never read"),
        (np.zeros((12, 8, 8), "c16"), "images are numbers"),
        (np.array(["a"] * 12), "no pixels|flat|axes"),
    ],
)
def test_arrays_that_are_no_images(array, words, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=rf"x\.npy: .*({words})"):
        open_images(tmp_path / "x.npy")


@pytest.mark.parametrize("size", [0, 5, 60, 127, 1000])
def test_cut_arrays_are_named(size, tmp_path):
    np.save(tmp_path / "whole.npy", pictures())
    (tmp_path / "x.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:size])
    with pytest.raises(DataError, match=r"x\.npy: "):
        open_images(tmp_path / "x.npy")


def test_grey_arrays_of_few_images_are_images(tmp_path):
    np.save(tmp_path / "x.npy", pictures(4)[..., 0])
    assert len(open_images(tmp_path / "x.npy")) == 4


def test_arrays_stay_in_their_file(tmp_path):
    """An array larger than the limit of memory is opened and read one image at a time."""
    import resource

    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (4000, 512, 512, 3)})
        file.truncate(file.tell() + 4000 * 512 * 512 * 3)  # 3 GB that take no place on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    listed = open_images(tmp_path / "x.npy")
    assert listed.items[3999].read().max() == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    ("content", "count", "classes"),
    [
        (torch.zeros(12, 3, 8, 8, dtype=torch.uint8), 12, ()),
        ((torch.zeros(12, 28, 28, dtype=torch.uint8), torch.arange(12) % 2), 12, ("0", "1")),
        ([torch.zeros(3, 8, 8)] * 5, 5, ()),
        ({"images": torch.zeros(12, 3, 8, 8), "labels": [0, 1] * 6, "classes": ["no", "yes"]}, 12, ("no", "yes")),
        (
            {"x_train": torch.zeros(12, 3, 8, 8, dtype=torch.bfloat16), "y_train": torch.eye(3).repeat(4, 1)},
            12,
            ("0", "1", "2"),
        ),
    ],
)
def test_tensor_files(content, count, classes, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    listed = open_images(tmp_path / "x.pt")
    assert len(listed) == count
    assert listed.classes == classes
    assert listed.decode((8, 8), 3).n == count


class Code:
    def __reduce__(self):
        return (os.mkdir, ("code-of-a-file-ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv.weight": torch.zeros(4, 3, 3, 3)}, "a checkpoint, the weights of networks, and no images"),
        ({"g_ema": {"conv.weight": torch.zeros(4, 3, 3, 3)}, "step": 3}, "a checkpoint"),
        ({"epoch": 3}, "holds a dict with epoch and no tensor of images"),
        (torch.zeros(12, 784), r"holds images \(12, 784\).* flat rows have to be reshaped"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 9, 8), torch.zeros(3, 8, 8)], "tensors of several shapes"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.complex64), "images are plain numbers"),
        ({"images": np.zeros((4, 8, 8, 3))}, "holds a dict with images and no tensor of images"),
        ({"images": Code()}, "no code of a file is run"),
    ],
)
def test_tensor_files_that_are_no_images(content, words, tmp_path, monkeypatch):
    torch.save(content, tmp_path / "x.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"x\.pt: .*({words})"):
        open_images(tmp_path / "x.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
