"""Images that are given from Python are the pixels of the files that they came from."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

import regraft
from regraft.core.errors import DataError
from regraft.data import python
from regraft.data.opening import open_images
from support import data_sets
from support.data_sets import ClassLabel, Pictures, Rows, Stream, Value, hugging_face
from support.pictures import save

N = 10
COLOUR = np.random.default_rng(0).integers(0, 256, (N, 9, 8, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (N, 9, 8), dtype=np.uint8)
COLOUR[0, 0, 0], COLOUR[0, 0, 1], GREY[0, 0, 0], GREY[0, 0, 1] = 0, 255, 0, 255
TENSOR = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
LABELS = [k % 2 for k in range(N)]


def _read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def _png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _pictures():
    return [Image.fromarray(array) for array in COLOUR]


COLOUR_KINDS = {
    "array": lambda: COLOUR,
    "array, channels first": lambda: COLOUR.transpose(0, 3, 1, 2),
    "read-only array": lambda: _read_only(COLOUR),
    "every other one of an array": lambda: np.repeat(COLOUR, 2, axis=0)[::2],
    "mirrored twice": lambda: COLOUR[:, :, ::-1].copy()[:, :, ::-1],
    "int64": lambda: COLOUR.astype(np.int64),
    "16 bits": lambda: COLOUR.astype(np.uint16) * 257,
    "float64 in [0, 1]": lambda: COLOUR / 255,
    "float32 in [-1, 1]": lambda: (COLOUR / 127.5 - 1).astype(np.float32),
    "float16 in [0, 1]": lambda: (COLOUR / 255).astype(np.float16),
    "tensor": lambda: TENSOR,
    "tensor, channels last": lambda: torch.from_numpy(COLOUR),
    "tensor in channels_last memory": lambda: TENSOR.contiguous(memory_format=torch.channels_last),
    "tensor in [0, 1]": lambda: TENSOR / 255,
    "tensor with a gradient": lambda: (TENSOR / 127.5 - 1).requires_grad_(),
    "float16 tensor": lambda: (TENSOR / 255).half(),
    "list of pictures": _pictures,
    "tuple of pictures": lambda: tuple(_pictures()),
    "list of arrays": lambda: list(COLOUR),
    "list of float tensors": lambda: list(TENSOR / 255),
    "list of arrays with one image each": lambda: [array[None] for array in COLOUR],
    "list of bytes": lambda: [_png(array) for array in COLOUR],
    "list of open files": lambda: [io.BytesIO(_png(array)) for array in COLOUR],
    "list of nested lists": lambda: COLOUR.tolist(),
    "object array of pictures": lambda: _object_array(_pictures()),
    "list of pairs": lambda: list(zip(_pictures(), LABELS, strict=True)),
    "list of dictionaries": lambda: [{"image": picture, "label": 0} for picture in _pictures()],
    "generator": lambda: (array for array in COLOUR),
    "map": lambda: map(Image.fromarray, COLOUR),
    "images and labels": lambda: (COLOUR, np.array(LABELS)),
    "dictionary of columns": lambda: {"label": LABELS, "img": _pictures()},
    "data set of pictures": lambda: Pictures(_pictures()),
    "data set of pairs": lambda: Pictures(_pictures(), LABELS),
    "data set of tensors": lambda: Pictures(TENSOR / 255, LABELS),
    "TensorDataset": lambda: TensorDataset(TENSOR, torch.tensor(LABELS)),
    "TensorDataset of one tensor": lambda: TensorDataset(TENSOR / 127.5 - 1),
    "Subset": lambda: Subset(Pictures([*_pictures(), *_pictures()], [*LABELS, *LABELS]), range(N)),
    "ConcatDataset": lambda: ConcatDataset([Pictures(_pictures()[:4]), Pictures(_pictures()[4:])]),
    "loader": lambda: DataLoader(TensorDataset(TENSOR / 255, torch.tensor(LABELS)), batch_size=4),
    "data set that streams": lambda: Stream(list(zip(_pictures(), LABELS, strict=True))),
    "Hugging Face": lambda: hugging_face(_pictures(), LABELS, ["cat", "dog"]),
    "Hugging Face, not decoded": lambda: hugging_face([{"bytes": _png(array), "path": None} for array in COLOUR]),
    "Hugging Face, as tensors": lambda: hugging_face(list(TENSOR), LABELS),
    "Hugging Face, with a transform": lambda: _Transformed(_pictures(), LABELS),
    "Hugging Face, with splits": lambda: {"test": hugging_face([]), "train": hugging_face(_pictures())},
}


class _Transformed(Rows):
    """Rows that a transform has given other names."""

    def __init__(self, images, labels):
        made = hugging_face(images, labels, ["cat", "dog"])
        super().__init__(made._columns, made.features)

    def __getitem__(self, key):
        row = super().__getitem__(key)
        if isinstance(key, str):
            return row
        return {"pixel_values": torch.from_numpy(np.array(row["image"])).permute(2, 0, 1) / 127.5 - 1, "labels": row["label"]}


def _object_array(pictures):
    array = np.empty(len(pictures), object)
    for k, picture in enumerate(pictures):
        array[k] = picture
    return array


GREY_KINDS = {
    "array without channels": lambda: GREY,
    "array with one channel": lambda: GREY[..., None],
    "tensor with one channel": lambda: torch.from_numpy(GREY)[:, None],
    "float tensor without channels": lambda: torch.from_numpy(GREY) / 127.5 - 1,
    "bfloat16 tensor": lambda: (torch.from_numpy(GREY) / 255).bfloat16(),
    "list of arrays": lambda: list(GREY),
    "list with and without channels": lambda: [g[..., None] if k % 2 else g for k, g in enumerate(GREY)],
}


@pytest.mark.parametrize("kind", COLOUR_KINDS)
def test_colour_images_have_the_pixels_of_their_files(kind):
    images = open_images(COLOUR_KINDS[kind]()).decode((9, 8), 3)
    assert (images.pixels.permute(0, 2, 3, 1).numpy() == COLOUR).all()


@pytest.mark.parametrize("kind", GREY_KINDS)
def test_grey_images_have_the_pixels_of_their_files(kind):
    images = open_images(GREY_KINDS[kind]()).decode((9, 8), 1)
    difference = images.pixels[:, 0].int() - torch.from_numpy(GREY).int()
    assert difference.abs().max() <= (1 if kind == "bfloat16 tensor" else 0)


def test_black_and_white():
    images = open_images(GREY > 100).decode((9, 8), 1)
    assert (images.pixels[:, 0].numpy() == np.where(GREY > 100, 255, 0)).all()


def test_transparency_is_laid_on_white_as_in_a_file(tmp_path):
    transparent = np.concatenate([COLOUR, GREY[..., None]], -1)
    for k, array in enumerate(transparent):
        save(tmp_path / "x", f"{k}.png", Image.fromarray(array))
    expected = open_images(tmp_path / "x").decode((9, 8), 3)
    for kind in (transparent, torch.from_numpy(transparent).permute(0, 3, 1, 2), [Image.fromarray(a) for a in transparent]):
        images = open_images(kind).decode((9, 8), 3)
        assert images.digest == expected.digest
        assert images.notes == expected.notes


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA", "1", "I;16"])
def test_pictures_of_every_mode_are_read_like_files(tmp_path, mode):
    for k, array in enumerate(GREY[:4]):
        picture = Image.fromarray(array.astype(np.uint16) * 16) if mode == "I;16" else Image.fromarray(array).convert(mode)
        save(tmp_path / "x", f"{k}.{'tif' if mode == 'CMYK' else 'png'}", picture)
    paths = sorted((tmp_path / "x").iterdir())
    expected = open_images(tmp_path / "x").decode((9, 8), 3)
    for given in ([Image.open(path) for path in paths], paths, [str(path) for path in paths], str(tmp_path / "x" / "*.*")):
        images = open_images(given).decode((9, 8), 3)
        assert (images.digest, images.notes) == (expected.digest, expected.notes)


class TestPatterns:
    def test_a_pattern_is_the_folder_of_its_files(self, photos_by_class):
        expected = open_images(photos_by_class)
        for pattern in ("*/*.png", "**/*.png", "b*"):
            listed = open_images(photos_by_class / pattern)
            assert [i.name for i in listed.items] == [i.name for i in expected.items]
            assert listed.classes == expected.classes
        assert len(open_images(f"{photos_by_class}/bars/00[0-4].png")) == 5

    def test_a_pattern_of_nothing(self, tmp_path):
        with pytest.raises(DataError, match=r"no file or folder of images is of this pattern"):
            open_images(tmp_path / "*.jpg")

    def test_a_folder_with_the_name_of_a_pattern(self, tmp_path):
        save(tmp_path / "x[1]", "a.png", Image.fromarray(GREY[0]))
        assert len(open_images(tmp_path / "x[1]")) == 1


class TestLabels:
    @pytest.mark.parametrize(
        "kind",
        [
            lambda: hugging_face(_pictures(), LABELS, ["cat", "dog"]),
            lambda: hugging_face(list(TENSOR), [torch.tensor(k) for k in LABELS], ["cat", "dog"]),
            lambda: Pictures(_pictures(), LABELS, ["cat", "dog"]),
            lambda: Subset(Pictures(_pictures(), LABELS, ["cat", "dog"]), range(N)),
            lambda: ConcatDataset([Pictures(_pictures(), LABELS, ["cat", "dog"])]),
            lambda: [(picture, ["cat", "dog"][k % 2]) for k, picture in enumerate(_pictures())],
            lambda: [{"image": picture, "label": ["cat", "dog"][k % 2]} for k, picture in enumerate(_pictures())],
            lambda: {"image": COLOUR, "label": np.array(["cat", "dog"] * (N // 2))},
        ],
    )
    def test_names_come_with_the_data(self, kind):
        listed = open_images(kind())
        assert listed.classes == ("cat", "dog")
        assert [item.label for item in listed.items] == LABELS

    def test_labels_that_are_given_replace_those_of_the_data(self):
        listed = open_images(Pictures(_pictures(), LABELS), ["b", "a"] * 5)
        assert listed.classes == ("a", "b")
        assert [item.label for item in listed.items] == [1, 0] * 5
        assert open_images(Pictures(_pictures(), LABELS), False).classes == ()

    def test_what_is_no_class_is_left_out_and_said(self):
        boxes = [{"boxes": [1, 2]} for _ in range(N)]
        listed = open_images(Pictures(_pictures(), boxes))
        assert (listed.classes, listed.notes) == ((), (f"{N} of {N} items hold more, which is left out: dict",))
        attributes = [torch.tensor([1, 1, 0])] * N
        listed = open_images(Pictures(_pictures(), attributes))
        assert listed.classes == ()
        assert "not one-hot" in listed.notes[0]

    def test_a_column_of_classes_is_found_by_its_kind(self):
        made = Rows(
            {"img": _pictures(), "fine": LABELS, "id": list(range(N))},
            {"img": data_sets.Image(), "fine": ClassLabel("ab"), "id": Value()},
        )
        assert open_images(made).classes == ("a", "b")
        assert len(made.read) <= 6  # no picture is decoded for the labels


class TestRefused:
    @pytest.mark.parametrize(
        ("images", "words"),
        [
            (COLOUR[0], "one image with its channels, or some grey images"),
            (np.zeros((3, 3, 3, 3), np.uint8), "first or its last axis"),
            (torch.zeros(2, 5, 3, 8, 8), "has 5 axes"),
            (np.zeros((20, 784)), "flat rows"),
            (COLOUR.astype(np.float32), "float32 from 0 to 255; .* divide them by 255"),
            (TENSOR / 255 * 5 - 2, "floats are pixels in"),
            (np.full((4, 8, 8), np.nan), "not all finite"),
            (torch.zeros(4, 3, 8, 8, dtype=torch.complex64), "complex64, which are no pixels"),
            (torch.zeros(4, 8, 8).to_sparse(), "cannot be read as an array"),
            (torch.zeros(4, 8, 8, device="meta"), "cannot be read as an array"),
            ([], "is empty"),
            (iter([]), "is empty"),
            (Pictures([]), "is empty"),
            ([1, 2, 3], r"list\[0\]: is int; an image is a PIL image"),
            ([None], r"list\[0\]: is NoneType"),
            (["missing.png", "also.png"], r"missing.png: there is no such file \(2 of 2"),
            (["."], "is a folder; give a folder by itself"),
            (Image.new("L", (8, 8)), "is one image; give a list"),
            (b"bytes", "is one image; give a list"),
            (5, "int: no images; give a path"),
            ({"a": 1}, "dictionary or table with a: no column of images"),
            ({3, 4}, "set: no images"),
            (hugging_face([1, 2]), "image is int, where an image is expected"),
            (Rows({"text": ["a"]}, {"text": Value()}), "no column of images among text"),
            (np.array([["a"]]), "is no array of pixels"),
            ([np.zeros((8, 8), np.float32), np.full((8, 8), 7.0)], "float64 from 0 to 7"),
            ([np.zeros((8, 8)), np.zeros((5,))], r"list\[1\]"),
            ("nowhere", "there is no such file or folder"),
            ("array (100, 64, 64, 3)", r"given from Python, .* adapt\(images, out=..., resume=True\)"),
            ("data set Pictures of 10 images", "given from Python"),
        ],
    )
    def test_what_was_got_is_said(self, images, words):
        with pytest.raises(DataError, match=words):
            open_images(images)

    def test_a_stream_without_end(self, monkeypatch):
        monkeypatch.setattr(python, "MAX_ITEMS", 100)
        with pytest.raises(DataError, match="more than 100 items; give some of them, as itertools.islice does"):
            open_images(itertools.repeat(GREY[0]))

    def test_a_data_set_that_fails_is_an_unreadable_image(self):
        def transform(picture):
            if picture is pictures[3]:
                raise ValueError("corrupt picture")
            return picture

        pictures = _pictures()
        listed = open_images(Pictures(pictures, LABELS, transform=transform))
        with pytest.raises(DataError, match=r"item 3 cannot be read \(ValueError: corrupt picture\)"):
            listed.decode((9, 8), 3)
        images = listed.decode((9, 8), 3, on_bad="skip")
        assert images.labels.tolist() == [label for k, label in enumerate(LABELS) if k != 3]


def test_arrays_are_not_copied():
    listed = open_images(COLOUR)
    assert all(np.shares_memory(item.read(), COLOUR) for item in listed.items)
    tensor = TENSOR.clone()
    assert np.shares_memory(open_images(tensor).items[0].read(), tensor.numpy())


def test_random_transforms_are_said():
    noise = iter(range(1000))
    listed = open_images(Pictures(_pictures(), transform=lambda picture: np.asarray(picture) // (1 + next(noise))))
    assert "random transforms" in listed.notes[0]


def test_what_a_run_says_of_them_is_no_path():
    for kind in (COLOUR, TENSOR, list(COLOUR), iter(COLOUR), Pictures(_pictures()), hugging_face(_pictures())):
        where = open_images(kind).where
        assert python.is_description(where), where
        assert python.short_name(where).isidentifier()
    assert open_images(COLOUR).where == f"array ({N}, 9, 8, 3)"
    assert python.short_name("photos/cats.zip") == "cats"
    assert python.short_name("photos/*.jpg") == "photos"
    assert not python.is_description("photos")


def test_open_images_is_public():
    assert regraft.open_images is open_images
