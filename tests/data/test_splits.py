"""Train, val and test folders: one of them is used."""

import pytest

from regraft.core.errors import DataError
from regraft.data.splits import choose_split


def names(**folders):
    return [f"{folder.replace('_', '/')}/{k}.png" for folder, n in folders.items() for k in range(n)]


def chosen(images, split="train"):
    arranged = choose_split("x", images, split)
    return len(arranged.images), sorted(set(arranged.folders)), " ".join(arranged.notes)


def test_splits_above_classes():
    n, folders, said = chosen(names(train_cat=3, train_dog=4, val_cat=2, val_dog=1))
    assert (n, folders) == (7, [("cat",), ("dog",)])
    assert "only the split train is used, 7 images; there are: train (7), val (3); --split val" in said


def test_splits_below_classes():
    n, folders, _ = chosen(names(bottle_train_good=3, bottle_test_broken=2, cable_train_good=3, cable_test_bent=2), "test")
    assert (n, folders) == (4, [("bottle", "broken"), ("cable", "bent")])


def test_splits_without_classes_and_other_spellings():
    assert chosen(names(Training=5, Validation=2, Testing=1), "val")[:2] == (2, [()])
    assert chosen(names(train2017=5, val2017=2))[0] == 5
    assert chosen([*names(a_train=5), *names(a_test=2)], "test")[:2] == (2, [("a",)])


def test_two_domains():
    assert chosen(names(trainA=5, trainB=4, testA=1, testB=1))[:2] == (9, [("A",), ("B",)])


def test_all_and_the_first_that_is_there():
    images = names(train=5, test=2)
    assert chosen(images, "all")[0] == 7
    assert chosen(images, ("val", "test"))[0] == 2
    assert chosen(images, "TEST")[0] == 2
    with pytest.raises(DataError, match=r"no split val; there are: train \(5\), test \(2\)"):
        chosen(images, "val")


def test_images_beside_the_splits_are_named():
    n, _, said = chosen([*names(train=20, test=20), "preview.png"])
    assert n == 20
    assert "1 image beside the folders of splits left out (preview.png)" in said


@pytest.mark.parametrize(
    "images",
    [
        names(train=5, bus=4),
        names(train=5),
        names(cat=5, dog=5),
        [f"{k}.png" for k in range(4)],
        [*names(train=2, test=2), *[f"{k}.png" for k in range(9)]],
        names(cat_train=3, dog_big=3),
    ],
)
def test_no_splits(images):
    assert chosen(images)[0] == len(images)
    assert chosen(images)[2] == ""
