"""Every container gives the pictures that were written into it, with their labels."""

import numpy as np
import pytest
import torch

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support import container_files as files

CASES = [(kind, writer) for kind, writers in sorted(files.WRITERS.items()) for writer in writers]
UNLABELLED = {"write_legacy_tensor", "write_gif", "write_tiff", "write_lmdb"}
NAMED = {"zip", "parquet", "arrow", "tar"}


def test_every_container_is_written_here():
    assert set(files.WRITERS) == set(discover.names("containers"))


def in_order(images):
    """The pictures in the order in which they were made; folders sort them by class."""
    by_class = np.argsort(files.LABELS, kind="stable")
    return (
        torch.from_numpy(files.PLANES)[torch.from_numpy(by_class)] if "/" in images.names[0] else torch.from_numpy(files.PLANES)
    )


@pytest.mark.parametrize(("kind", "writer"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_pictures_are_those_that_were_written(kind, writer, tmp_path):
    listed = open_images(writer(tmp_path))
    side = 32 if kind == "cifar" else files.SIDE
    images = listed.decode((side, side), 1 if kind == "idx" else 3)
    pixels = images.pixels[:, :, :: side // files.SIDE, :: side // files.SIDE]
    if kind == "idx":
        assert torch.equal(pixels[:, 0], torch.from_numpy(files.GREY))
    else:
        differences = (pixels.int() - in_order(images).int()).abs()
        assert differences.max() <= (80 if writer is files.write_gif else 0)
        assert differences.float().mean() < 10
    assert (images.labels is None) == (writer.__name__ in UNLABELLED)
    if images.labels is not None:
        assert listed.counts == [4, 4, 4]
        named = kind in NAMED and writer is not files.write_shard or writer is files.write_cifar
        assert images.classes == (files.NAMES if named else ("0", "1", "2"))


@pytest.mark.parametrize(("kind", "writer"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_no_labels_are_asked_for(kind, writer, tmp_path):
    listed = open_images(writer(tmp_path), labels=False)
    assert listed.classes == ()
    assert {item.label for item in listed.items} == {None}
    assert len(listed) == files.N


@pytest.mark.parametrize(
    "writer",
    [
        files.write_npy,
        files.write_idx,
        files.write_shard,
        files.write_cifar,
        files.write_gif,
        files.write_parquet,
        files.write_arrow,
        files.write_lmdb,
        files.write_hdf5,
        files.write_npz,
    ],
)
def test_a_folder_with_nothing_else_is_opened_like_the_file(writer, tmp_path):
    path = writer(tmp_path)
    folder, file = open_images(path.parent), open_images(path)
    assert folder.decode((16, 16), 3).digest == file.decode((16, 16), 3).digest
    assert any(f"images are those of 1 file: {path.name}" in note for note in folder.notes)


def test_shards_of_a_pattern_are_one_set(tmp_path):
    for k in range(3):
        files.write_shard(tmp_path, f"s-{k:04d}.tar")
    for pattern, count in (("s-{0000..0002}.tar", 3), ("s-*.tar", 3), ("s-000{0,2}.tar", 2), ("s-{0002..0001}.tar", 2)):
        listed = open_images(tmp_path / pattern)
        assert len(listed) == count * files.N
        assert listed.classes == ("0", "1", "2")
        assert len({item.name for item in listed.items}) == len(listed)
    assert open_images(tmp_path / "s-{0002..0001}.tar").items[0].name == "s-0002.tar/000000.png"
    with pytest.raises(DataError, match=r"s-\{0001\.\.0003\}\.tar: there is no .*s-0003\.tar"):
        open_images(tmp_path / "s-{0001..0003}.tar")
    with pytest.raises(DataError, match="no file or folder of images is of this pattern"):
        open_images(tmp_path / "t-*.tar")
    with pytest.raises(DataError, match="more than 100000 names"):
        open_images(tmp_path / "s-{0..99}{0..99}{0..99}.tar")


def test_a_pattern_of_pictures_is_a_set_too(tmp_path):
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(files.picture(k))
    assert [item.name for item in open_images(tmp_path / "[1-3].png").items] == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize(("split", "counts"), [("train", 12), ("test", 12), ("all", 24)])
def test_splits_by_the_names_of_files(split, counts, tmp_path):
    files.write_idx(tmp_path, "train")
    files.write_idx(tmp_path, "t10k", packed=True)
    files.write_idx(tmp_path, "train", packed=True)  # the packed copy that download scripts leave
    listed = open_images(tmp_path, split=split)
    assert len(listed) == counts
    assert any("there are: test (1 file), train (1 file)" in note for note in listed.notes)
    assert {"t10k" in item.name for item in listed.items} == {"train": {False}, "test": {True}, "all": {True, False}}[split]


def test_optional_packages_are_named_where_they_are_missing(tmp_path, monkeypatch):
    import importlib

    real = importlib.import_module

    def missing(name, *rest):
        if name.split(".")[0] in ("pyarrow", "pyfive"):
            raise ImportError(name)
        return real(name, *rest)

    paths = []
    for writer in (files.write_parquet, files.write_arrow, files.write_hdf5):
        paths.append(writer(tmp_path))
    monkeypatch.setattr(importlib, "import_module", missing)
    for path in paths:
        with pytest.raises(DataError, match=rf"{path.name}: reading it needs \w+; install it with pip install regraft\[data\]"):
            open_images(path)
