"""Classes of images: folders in their order, and none where loose images lie beside them."""

import pytest
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.opening import open_images
from support.pictures import ramp


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


def test_loose_images_beside_folders_mean_no_classes(tmp_path):
    (tmp_path / "x" / "a").mkdir(parents=True)
    Image.fromarray(ramp()).save(tmp_path / "x" / "a" / "0.png")
    Image.fromarray(ramp()).save(tmp_path / "x" / "1.png")
    assert open_images(tmp_path / "x").classes == ()
