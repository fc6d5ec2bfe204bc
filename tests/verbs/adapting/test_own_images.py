"""Runs inside the folder of their images, resumed and repeated; splits, classes and notes from end to end."""

import json
import shutil

import pytest

import regraft
from regraft.core.errors import ConfigError, DataError
from regraft.runs.folder import RunFolder, default_folder
from regraft.runs.training_images import training_images
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import prepare
from support.pictures import png_bytes


@pytest.fixture
def run_inside(photos, source_folder, monkeypatch):
    """``cd photos; regraft adapt .``, with a grid and samples written there as well."""
    monkeypatch.chdir(photos)
    run = regraft.adapt(".", source_folder, method="freezed", steps=2, batch=4)
    regraft.sample(run.folder, photos / "grid.png", n=4)
    regraft.sample(run.folder, photos / "runs" / "photos-samples", n=4)
    return run


def test_a_run_among_its_images(run_inside, photos, source_folder):
    assert str(run_inside.folder) == "runs/photos"
    assert run_inside.notes[0] == "12 images"
    assert sorted(json.loads(RunFolder(run_inside.folder).image_names.read_text())) == sorted(p.name for p in photos.glob("0*"))
    again = regraft.adapt(resume=True, out=run_inside.folder)
    assert again.step == run_inside.step
    other = prepare.prepare(adapt_job(".", [source_folder], "freezed", None, None, {"steps": 2, "batch": 4}))
    assert other.data["digest"] == json.loads(RunFolder(run_inside.folder).record.read_text())["data"]["digest"]
    assert "left out, because regraft made it: run runs/photos" in other.notes[1]
    assert "5 pictures (grid.png," in other.notes[1]
    facts = regraft.check(".")
    assert facts["images"] == 12
    assert "left out, because regraft made it" in facts["notes"][0]


def test_images_that_have_come_since_are_left_out(run_inside, photos):
    before = training_images(run_inside.folder)
    (photos / "00new.png").write_bytes(png_bytes())
    again = regraft.adapt(resume=True, out=run_inside.folder)
    assert any("have come since the run began: 1 of 13 images" in note for note in again.notes)
    assert training_images(run_inside.folder).equal(before)
    (photos / "003.png").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images are no longer there: 003.png"):
        regraft.adapt(resume=True, out=run_inside.folder)


def test_a_damaged_list_of_names(run_inside):
    names = RunFolder(run_inside.folder).image_names
    for text in ("{", "{}", "[1]", "[" * 100_000):
        names.write_text(text)
        with pytest.raises(ConfigError, match=r"images\.json"):
            regraft.adapt(resume=True, out=run_inside.folder)
    names.unlink()  # runs of before have none
    assert regraft.adapt(resume=True, out=run_inside.folder).step == run_inside.step


def test_the_name_of_a_run_is_that_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos" / "cats")
    assert default_folder(".").as_posix() == "runs/cats"
    assert default_folder("..").as_posix() == "runs/photos"
    assert default_folder("/data/x.zip").as_posix() == "runs/x"


def prepared(images, source, **settings):
    return prepare.prepare(adapt_job(images, [source], "freezed", None, None, {"steps": 1, "batch": 4, **settings}))


def test_splits_and_classes(photos_by_class, source_folder, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photos_by_class, tmp_path / "x" / split)
    made = prepared(tmp_path / "x", source_folder)
    assert made.data["n"] == 24
    assert made.notes[0] == "24 images of 2 classes: bars (12), blobs (12)"
    assert "only the split train is used" in made.notes[1]
    assert made.data["classes"] == ["bars", "blobs"]
    assert all(name.startswith("val/") for name in prepared(tmp_path / "x", source_folder, split="val").image_names)
    assert prepared(tmp_path / "x", source_folder, split="all").data["n"] == 48
    with pytest.raises(DataError, match="no split test"):
        prepared(tmp_path / "x", source_folder, split="test")
    real = regraft.evaluate(source_folder, tmp_path / "x", n=20, metrics=("frechet",))
    assert real[0].n_real == 24


@pytest.mark.parametrize("labels", [None, True, False])
def test_a_run_lists_its_images_again_as_it_began(photos_by_class, source_folder, tmp_path, labels):
    """Labels that were chosen stand among a run's settings, and must not change which images it uses."""
    (photos_by_class / "preview.png").write_bytes(png_bytes())
    made = prepared(photos_by_class, source_folder, labels=labels)
    again = prepare.prepare(made.job)
    assert again.data == made.data
    assert made.data["n"] == 24


def test_one_folder_of_parts(photos_by_class, source_folder):
    (photos_by_class / "bars").rename(photos_by_class / "00000")
    (photos_by_class / "blobs").rename(photos_by_class / "00001")
    whole = prepared(photos_by_class, source_folder)
    assert whole.data["n"] == 24
    assert "classes" not in whole.data
    part = prepared(photos_by_class, source_folder, only_class="00001")
    assert part.data["n"] == 12
    assert prepare.prepare(part.job).data == part.data
    with pytest.raises(DataError, match="no class 7; there are: no classes"):
        prepared(photos_by_class, source_folder, only_class="7")


def test_one_class_of_a_description(photos, source_folder):
    rows = [[path.name, [0, 5][k % 2]] for k, path in enumerate(sorted(photos.glob("*.png")))]
    (photos / "dataset.json").write_text(json.dumps({"labels": rows}))
    part = prepared(photos, source_folder, only_class="5")
    assert part.data["n"] == 6
    assert prepare.prepare(part.job).data == part.data
