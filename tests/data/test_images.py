"""Sets of images: bad files, parts of many, mirrored batches."""

import pytest
import torch
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support.pictures import png_bytes, ramp, save


def test_some_images_are_of_all_classes(photos_by_class):
    listed = open_images(photos_by_class)
    some = listed.some(8, seed=0)
    assert {i.label for i in some.items} == {0, 1}
    assert [i.name for i in some.items] == sorted(i.name for i in some.items)
    assert listed.some(24, seed=0) == listed.some(100, seed=1) == listed


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
