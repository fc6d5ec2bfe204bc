"""Labels that are given from Python."""

import numpy as np
import pytest
import torch

from regraft.core.errors import DataError
from regraft.data.given_labels import with_labels
from regraft.data.opening import open_images

LISTED = open_images(np.zeros((4, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([0, 1, 1, 0], ("0", "1"), [0, 1, 1, 0]),
        ([1, 2, 2, 1], ("1", "2"), [0, 1, 1, 0]),
        ([10, 2, 2, 10], ("2", "10"), [1, 0, 0, 1]),
        (np.array([5, 7, 7, 5], np.uint8), ("5", "7"), [0, 1, 1, 0]),
        (torch.tensor([0, 1, 1, 0]), ("0", "1"), [0, 1, 1, 0]),
        (torch.tensor([[0], [1], [1], [0]]), ("0", "1"), [0, 1, 1, 0]),
        (np.array([0.0, 1.0, 1.0, 0.0]), ("0", "1"), [0, 1, 1, 0]),
        (np.eye(3)[[0, 2, 2, 0]], ("0", "2"), [0, 1, 1, 0]),
        ([[1, 0], [0, 1], [0, 1], [1, 0]], ("0", "1"), [0, 1, 1, 0]),
        ([torch.tensor(3), torch.tensor(4), torch.tensor(4), torch.tensor(3)], ("3", "4"), [0, 1, 1, 0]),
        (["dog", "cat", "cat", "dog"], ("cat", "dog"), [1, 0, 0, 1]),
        (np.array(["dog", "cat", "cat", "dog"]), ("cat", "dog"), [1, 0, 0, 1]),
        (iter("abba"), ("a", "b"), [0, 1, 1, 0]),
        (["e\u0301", "x", "x", "\u00e9"], ("x", "\u00e9"), [1, 0, 0, 1]),
    ],
)
def test_classes_have_the_names_of_their_labels(labels, classes, numbers):
    listed = with_labels(LISTED, labels)
    assert listed.classes == classes
    assert [item.label for item in listed.items] == numbers


def test_names_of_numbers_and_classes_without_images():
    listed = with_labels(LISTED, [2, 0, 0, 2], ["zebra", "ant", "mole"])
    assert listed.classes == ("zebra", "mole")
    assert [item.label for item in listed.items] == [1, 0, 0, 1]
    assert listed.notes == ("1 of 3 classes have no images (ant) and are left out",)


def test_unknown_labels_are_no_classes():
    listed = with_labels(LISTED, [-1] * 4, ["a", "b"])
    assert listed.classes == ()
    assert "all labels are -1" in listed.notes[0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 1], "3 labels for 4 images"),
        ([0, 1, None, 0], "label 2 is None"),
        ([0, 0.5, 1, 0], "label 1 is 0.5"),
        ([0, "", 1, 0], "label 1 is ''"),
        ("abba", "in a list"),
        (5, "labels are int"),
        (np.zeros((4, 2, 2)), "shape"),
        (np.ones((4, 3)), "rows of 3 numbers that are not one-hot"),
        (np.array([[0.9, 0.1]] * 4), "not one-hot"),
        ([[1, 0], [1], [0, 1], [1, 0]], "different lengths"),
    ],
)
def test_what_is_no_label_is_refused(labels, words):
    with pytest.raises(DataError, match=f"^array .*{words}"):
        with_labels(LISTED, labels)


def test_a_number_beyond_the_names():
    with pytest.raises(DataError, match="label 1 is 2, and there are 2 classes"):
        with_labels(LISTED, [0, 2, 1, 0], ["a", "b"])
