"""Which axis of an array of images holds the channels."""

import pytest

from regraft.core.errors import DataError
from regraft.data.layouts import channel_axis_of_many, channel_axis_of_one


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5, 8, 8), None),
        ((1, 8, 8), None),
        ((5, 8, 8, 1), 3),
        ((5, 8, 9, 3), 3),
        ((3, 8, 9, 4), 3),
        ((5, 3, 8, 9), 1),
        ((1, 1, 8, 8), 1),
    ],
)
def test_the_axis_of_many_images(shape, axis):
    assert channel_axis_of_many(shape, "array") == axis


@pytest.mark.parametrize(("shape", "axis"), [((8, 9), None), ((8, 9, 3), 2), ((1, 8, 9), 0), ((4, 8, 8), 0)])
def test_the_axis_of_one_image(shape, axis):
    assert channel_axis_of_one(shape, "array") == axis


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 3, 3, 3), "first or its last axis"),
        ((100, 1, 28, 1), "first or its last axis"),
        ((64, 64, 3), "one image with its channels, or some grey images"),
        ((3, 64, 64), "one image with its channels, or some grey images"),
        ((70000, 784), "reshape them"),
        ((5, 8, 8, 7), "no axis can be the channels"),
        ((0, 8, 8, 3), "is empty"),
        ((2, 5, 3, 8, 8), "has 5 axes"),
        ((5,), "has 1 axes"),
    ],
)
def test_other_shapes_are_refused(shape, words):
    with pytest.raises(DataError, match=f"^array: {words}|array: .*{words}"):
        channel_axis_of_many(shape, "array")


@pytest.mark.parametrize("shape", [(3, 3, 3), (8, 8, 5), (2, 8, 8, 3), (8,), (0, 8)])
def test_other_shapes_of_one_image_are_refused(shape):
    with pytest.raises(DataError, match=r"array: .*shape"):
        channel_axis_of_one(shape, "array")
