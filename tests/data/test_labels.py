"""Labels from a dataset.json or from folders, and what is said about them."""

import json

import pytest

from regraft.core.errors import DataError
from regraft.data.labels import NoClasses, label_images, number_classes
from regraft.data.splits import choose_split

IMAGES = [f"00000/img{k}.png" for k in range(4)]


def labelled(images, description=None, asked=None, name="dataset.json"):
    content = {} if description is None else {name: json.dumps(description).encode()}
    names = {image: image for image in [*images, *content]}
    return label_images("x", choose_split("x", images, "all"), names, content.__getitem__, asked)


def rows(labels, names=IMAGES):
    return {"labels": [[name, label] for name, label in zip(names, labels, strict=True)]}


class TestDescription:
    def test_null_means_no_labels(self):
        chunks = [f"{k // 2:05d}/{k}.png" for k in range(4)]
        for images in (chunks, [f"{c}/{k}.png" for c in ("cat", "dog") for k in range(4)]):
            found = labelled(images, {"labels": None})
            assert (found.labels, found.classes) == (None, ())
            assert "dataset.json says that the images have no labels, so folders are not taken for classes" in found.notes[0]
        assert labelled(images, {"labels": None}, asked=True).classes == ("cat", "dog")

    @pytest.mark.parametrize(
        ("labels", "numbers", "classes"),
        [
            ([0, 1, 1, 0], (0, 1, 1, 0), ("0", "1")),
            ([1, 2, 3, 1], (0, 1, 2, 0), ("1", "2", "3")),
            ([0, 5, 9, 5], (0, 1, 2, 1), ("0", "5", "9")),
            ([[5], [7], [5], [7]], (0, 1, 0, 1), ("5", "7")),
            ([1.0, 2.0, 1.0, 2.0], (0, 1, 0, 1), ("1", "2")),
            ([[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]], (0, 1, 0, 1), ("1", "2")),
            (["dog", "cat", "cat", "dog"], (1, 0, 0, 1), ("cat", "dog")),
        ],
    )
    def test_labels_are_mapped_and_keep_their_names(self, labels, numbers, classes):
        found = labelled(IMAGES, rows(labels))
        assert (found.labels, found.classes) == (numbers, classes)
        renumbered = classes not in (("0", "1"), ("cat", "dog"))
        assert any("numbered from 0, and keep their names" in note for note in found.notes) == renumbered

    @pytest.mark.parametrize("vector", [[0.2, 0.8], [1, 1], [0, 0], [0, 2], [0.5] * 25])
    def test_vectors_are_no_classes(self, vector):
        found = labelled(IMAGES, rows([vector] * 4))
        assert found.labels is None
        assert f"a vector of {len(vector)} values" in found.notes[0]
        assert "the images are used without classes" in found.notes[0]
        with pytest.raises(NoClasses, match="not one-hot"):
            labelled(IMAGES, rows([vector] * 4), asked=True)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, "cat", 1], "some labels are numbers and some are texts"),
            ([0, -1, 1, 1], "the label -1 is negative"),
            ([0, 1.5, 1, 1], "the label 1.5 is no whole number"),
            ([0, None, 1, 1], "the label None is no whole number"),
            ([0, {"a": 1}, 1, 1], "is no whole number"),
        ],
    )
    def test_labels_that_cannot_be_used(self, labels, message):
        with pytest.raises(DataError, match=message):
            labelled(IMAGES, rows(labels))
        assert labelled(IMAGES, rows(labels), asked=False).labels is None

    def test_rows_that_do_not_fit(self):
        with pytest.raises(DataError, match=r"has no label for 00000/img3.png.*--no-labels"):
            labelled(IMAGES, rows([0, 1, 0], IMAGES[:3]))
        assert labelled(IMAGES, rows([0, 1, 0], IMAGES[:3]), asked=False).labels is None
        found = labelled(IMAGES, rows([0, 1, 0, 1, 0], [*IMAGES, "gone.png"]))
        assert found.labels == (0, 1, 0, 1)
        assert "dataset.json names 1 files that are not used (gone.png)" in found.notes[0]

    def test_names_of_windows_and_places(self):
        windows = rows([0, 1, 0, 1], [name.replace("/", "\\") for name in IMAGES])
        assert labelled(IMAGES, windows).labels == (0, 1, 0, 1)
        below = [f"set/{name}" for name in IMAGES]
        assert labelled(below, rows([0, 1, 0, 1]), name="set/dataset.json").labels == (0, 1, 0, 1)
        assert labelled(below, rows([0, 1, 0, 1]), name="notes/dataset.json").labels is None

    def test_a_description_of_another_kind(self):
        found = labelled(["cat/1.png", "dog/1.png"], {"title": "pets"})
        assert found.classes == ("cat", "dog")
        assert "is of another kind than StyleGAN's" in found.notes[0]
        for content in (b"{", b"\xff", b"[" * 5000, b'{"labels": 3}', b'{"labels": [3]}'):
            with pytest.raises(DataError, match="is not a StyleGAN data set description"):
                label_images("x", choose_split("x", IMAGES, "all"), {"dataset.json": "r"}, {"r": content}.__getitem__, None)


def pets(*more, each=15):
    return [*(f"pets/{c}/{k:02d}.png" for c in ("cat", "dog") for k in range(each)), *more]


class TestFolders:
    def test_a_stray_picture_is_left_out(self):
        for stray in ("preview.png", "pets/preview.png"):
            found = labelled(pets(stray))
            assert (len(found.images), found.classes) == (30, ("cat", "dog"))
            assert found.notes == (f"1 image beside the class folders left out: {stray}",)

    def test_many_loose_pictures_mean_no_classes(self):
        loose = [f"pets/{k}.png" for k in range(4)]
        found = labelled(pets(*loose))
        assert (len(found.images), found.labels) == (34, None)
        assert "4 of 34 images lie beside folders" in found.notes[0]
        asked = labelled(pets(*loose), asked=True)
        assert (len(asked.images), asked.classes) == (30, ("cat", "dog"))
        assert "4 images beside the class folders left out" in asked.notes[0]

    def test_parts_are_no_classes_unless_asked_for(self):
        images = [f"{c:05d}/{k}.png" for c in (0, 1000, 2000) for k in range(14)]
        found = labelled(images)
        assert (len(found.images), found.labels) == (42, None)
        assert "folders 00000, 01000, 02000 are taken for parts of one set and not for classes" in found.notes[0]
        assert "--labels takes them" in found.notes[0]
        assert labelled(images, asked=True).classes == ("00000", "01000", "02000")

    def test_digits_are_classes_and_it_is_said(self):
        found = labelled([f"{c}/{k}.png" for c in range(10) for k in range(5)])
        assert len(found.classes) == 10
        assert "folders 0, 1, 2, 3, ... are taken for classes" in found.notes[0]
        assert "--no-labels" in found.notes[0]

    def test_one_folder_or_none(self):
        assert labelled([f"a/b/{k}.png" for k in range(4)]).labels is None
        assert labelled([f"{k}.png" for k in range(4)]).notes == ()


def test_numbers_are_ordered_as_numbers():
    assert number_classes([10, 9, 2], "x")[1] == ("2", "9", "10")
    assert number_classes([True, False], "x")[:2] == ((1, 0), ("0", "1"))
    assert number_classes([], "x") == ((), (), ())
