"""One set of rules for the files of folders and archives, and notes on what was not taken."""

import os
import unicodedata

import pytest
from PIL import Image

from regraft.core.errors import DataError
from regraft.data import kinds, pictures
from regraft.data.listing import list_images
from regraft.data.opening import open_images
from support.pictures import png_bytes, ramp, save_arrays, zipped

PNG = png_bytes()


def listed(files, **how):
    """List files, given as names or with their content."""
    content = files if isinstance(files, dict) else dict.fromkeys(files, PNG)
    return list_images("x", list(content), content.__getitem__, **how)


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_class_folders_and_their_order(tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for k in (2, 0, 1):
            Image.fromarray(ramp()).save(tmp_path / "x" / name / f"{k}.png")
    listed = open_images(tmp_path / "x")
    assert listed.classes == ("cat", "dog")
    assert [i.name for i in listed.items] == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert listed.decode((8, 8), 1).labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert listed.summary == "6 images of 2 classes: cat (3), dog (3)"
    assert len(listed.only("dog")) == 3
    with pytest.raises(DataError, match="no class bird; there are: cat, dog"):
        listed.only("bird")


def test_loose_images_beside_folders_mean_no_classes(tmp_path):
    (tmp_path / "x" / "a").mkdir(parents=True)
    Image.fromarray(ramp()).save(tmp_path / "x" / "a" / "0.png")
    Image.fromarray(ramp()).save(tmp_path / "x" / "1.png")
    assert open_images(tmp_path / "x").classes == ()


def test_a_class_without_images_is_an_error_and_no_crash():
    images = listed(["cat/1.png", "dog/1.png"]).with_classes(["bird", "cat", "dog"])
    assert images.counts == [0, 1, 1]
    with pytest.raises(DataError, match="there is no image of class bird; choose another one of bird, cat, dog"):
        images.only("bird")


def test_what_is_not_taken_is_said_in_one_line():
    files = ["1.png", "notes.txt", "list.csv", ".DS_Store", "._1.png", ".git/a.png", ".git/b.png", "later/"]
    content = {name: b"text" if name[0] in "nl" else PNG for name in files}
    assert listed(content).notes == (
        "not taken: 2 other files (list.csv, notes.txt), 3 hidden files or folders (.DS_Store, ._1.png, .git), "
        "1 empty folder (later)",
    )


def test_content_decides_where_an_ending_does_not():
    found = listed({"a.jfif": PNG, "b": PNG, "c.part": PNG, "d.txt": b"text", "e.png": b"believed"})
    assert [item.name for item in found.items] == ["a.jfif", "b", "c.part", "e.png"]
    assert found.notes == ("2 files (b, c.part) known as images by content", "not taken: 1 other file (d.txt)")


def test_heic_without_its_plugin_is_named(monkeypatch):
    monkeypatch.setattr(kinds, "missing_plugin", lambda kind: "install it" if kind == "HEIC" else None)
    heic = b"\0\0\0\x24ftypheic" + bytes(200)
    found = listed({"1.jpg": PNG, "IMG_2.HEIC": heic})
    assert len(found) == 1
    assert found.notes == ("1 image (IMG_2.HEIC) left out, because Pillow cannot read them here: install it",)
    with pytest.raises(DataError, match=r"x: holds no images; 1 image \(IMG_2.HEIC\) left out.*install it"):
        listed({"IMG_2.HEIC": heic})
    monkeypatch.setattr(kinds, "missing_plugin", lambda kind: None)
    assert len(listed({"1.jpg": PNG, "IMG_2.HEIC": heic})) == 2


MAC = {
    **{f"pets/{c}/{k}.png": png_bytes(ramp() // (k + 1)) for c in ("cat", "dog") for k in range(3)},
    "pets/cat/._1.png": b"\0\5\x16\7Mac OS X",
    "__MACOSX/pets/cat/._1.png": b"\0\5\x16\7Mac OS X",
    "pets/cat/.ipynb_checkpoints/1-checkpoint.png": PNG,
    "pets/@eaDir/1.png/thumb.jpg": PNG,
    "pets/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "pets/.DS_Store": b"\0\0\0\1Bud1",
}


def test_a_zip_has_the_rules_of_a_folder(tmp_path):
    folder = open_images(write(tmp_path / "x", MAC))
    archive = open_images(zipped(tmp_path / "x.zip", MAC))
    assert folder.classes == archive.classes == ("cat", "dog")
    assert [i.name for i in folder.items] == [i.name for i in archive.items] == [*list(MAC)[:6]]
    assert folder.notes == archive.notes
    assert "1 other file (pets/Thumbs.db)" in folder.notes[0]


def test_backslashes_are_slashes(tmp_path):
    files = {f"pets\\{c}\\{k}.png": png_bytes(ramp() // (k + 1)) for c in ("cat", "dog") for k in range(3)}
    for images in (open_images(write(tmp_path / "x", files)), open_images(zipped(tmp_path / "x.zip", files))):
        assert images.classes == ("cat", "dog")
        assert images.decode((8, 8), 1).n == 6


class TestNames:
    def test_one_class_in_two_normal_forms(self):
        apples = [unicodedata.normalize(form, "Äpfel") for form in ("NFC", "NFD")]
        found = listed([f"{apples[0]}/1.png", f"{apples[1]}/1.png", "Öl/1.png"])
        assert found.classes == ("Äpfel", "Öl")
        assert found.counts == [2, 1]
        assert len({item.name for item in found.items}) == 3
        assert len(found.only(apples[1])) == 2

    def test_bytes_that_are_no_utf8(self, tmp_path):
        root = os.fsencode(tmp_path / "x")
        for folder in (b"gar\xe7on", b"fille"):
            (tmp_path / "x" / os.fsdecode(folder)).mkdir(parents=True)
            for k in range(3):
                with open(root + b"/" + folder + b"/\xe9%d.png" % k, "wb") as file:
                    file.write(PNG)
        with open(root + b"/fille/bad\xe9.png", "wb") as file:
            file.write(b"no image")
        found = open_images(tmp_path / "x")
        assert found.classes == ("fille", r"gar\xe7on")
        assert len(found.only(os.fsdecode(b"gar\xe7on"))) == len(found.only(r"gar\xe7on")) == 3
        with pytest.raises(DataError, match=r"bad\\xe9.png: cannot be read"):
            found.decode((8, 8), 1)
        images = found.decode((8, 8), 1, on_bad="skip")
        assert images.n == 6
        "".join((*images.names, *images.notes)).encode("utf-8")

    def test_a_folder_whose_own_name_is_no_utf8(self, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9")
        save_arrays(path, [ramp()] * 4)
        assert open_images(path).where == rf"{tmp_path}/caf\xe9"
        assert len(open_images(rf"{tmp_path}/caf\xe9")) == 4

    def test_strange_beginnings(self):
        found = listed(["./cat/1.png", "/dog/1.png", "././dog/2.png"])
        assert sorted(item.name for item in found.items) == ["cat/1.png", "dog/1.png", "dog/2.png"]
        assert len(listed(["../1.png", "../2.png"])) == 2


class TestOwnOutput:
    RUN = {"config.yaml": b"images: .", "state/run.json": b"{}", "samples/final.png": PNG, "samples/step-000010.png": PNG}

    def test_a_run_below_is_left_out_in_folders_and_archives(self, tmp_path):
        files = {f"{k}.png": PNG for k in range(4)} | {f"runs/photos/{name}": data for name, data in self.RUN.items()}
        for found in (open_images(write(tmp_path / "x", files)), open_images(zipped(tmp_path / "x.zip", files)), listed(files)):
            assert len(found) == 4
            assert found.notes == ("left out, because regraft made it: run runs/photos (2 images)",)

    def test_a_linked_run_is_left_out(self, tmp_path):
        write(tmp_path / "run", self.RUN)
        write(tmp_path / "x", {"1.png": PNG})
        (tmp_path / "x" / "link").symlink_to(tmp_path / "run")
        assert len(open_images(tmp_path / "x")) == 1

    def test_a_run_itself_is_no_set_of_images(self, tmp_path):
        write(tmp_path / "run", self.RUN)
        with pytest.raises(DataError, match="is a run that regraft made"):
            open_images(tmp_path / "run")
        assert len(open_images(tmp_path / "run" / "samples")) == 2

    def test_single_pictures_are_left_out_among_others_only(self, tmp_path):
        write(tmp_path / "x", {f"{k}.png": PNG for k in range(4)})
        pictures.save_png(tmp_path / "x" / "made" / "1.png", Image.fromarray(ramp()))
        found = open_images(tmp_path / "x")
        assert len(found) == 4
        assert found.notes == ("left out, because regraft made it: 1 picture (made/1.png)",)
        made = open_images(tmp_path / "x" / "made")
        assert len(made) == 1
        assert made.notes == ("all of these images were made by regraft",)


def test_splits_and_labels_as_asked(tmp_path):
    files = {f"{s}/{c:05d}/{k}.png": PNG for s, n in (("train", 3), ("test", 2)) for c in range(2) for k in range(n)}
    for path in (write(tmp_path / "x", files), zipped(tmp_path / "x.zip", files)):
        assert len(open_images(path)) == 6
        assert open_images(path).classes == ()
        assert len(open_images(path, split="test")) == 4
        assert len(open_images(path, split="all")) == 10
        assert open_images(path, labels=True).classes == ("00000", "00001")
        assert open_images(path, labels=False).classes == ()
        with pytest.raises(DataError, match="there is no split val"):
            open_images(path, split="val")


def test_links_are_followed_and_loops_said(tmp_path):
    write(tmp_path / "store", {f"{c}/{k}.png": PNG for c in ("cat", "dog") for k in range(2)})
    (tmp_path / "x").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store" / "cat" / "up").symlink_to(tmp_path / "store" / "cat")
    found = open_images(tmp_path / "x")
    assert found.summary == "4 images of 2 classes: cat (2), dog (2)"
    assert found.notes == ("links not followed, because they lead nowhere or to what is listed under another name: 1 (cat/up)",)
