"""What regraft made is known by its records and marks, wherever it lies."""

import pytest
from PIL import Image

from regraft.data import pictures
from regraft.data.own_output import OwnOutput, find_folders, find_pictures

RUN = {"config.yaml": b"images: photos", "state/run.json": b"{}", "samples/final.png": b""}


def found(files, prefix=""):
    content = {prefix + name: data for name, data in files.items()}
    return find_folders({name: name for name in content}, content.__getitem__)


@pytest.mark.parametrize("prefix", ["", "demo-run/", "a/b/runs/photos-2/"])
def test_runs(prefix):
    assert found(RUN, prefix)[prefix.rstrip("/")] == "run"
    assert found({name: data for name, data in RUN.items() if name != "config.yaml"}, prefix).get(prefix.rstrip("/")) is None


def test_adapters_and_sources():
    assert found({"x/adapter_config.json": b'{"data": {}, "format": "regraft-adapter"}'}) == {"x": "adapter"}
    assert found({"x/source.json": b'{\n "format" : "regraft-source"}'}) == {"x": "source"}
    assert found({"x/adapter_config.json": b'{"peft_type": "LORA"}', "y/source.json": b'{"url": "regraft-source"}'}) == {}


def test_samples_that_lost_their_run():
    assert found({"old/samples/step-000500.png": b"", "old/samples/final.png": b""}) == {"old/samples": "samples of a run"}
    assert found({"old/samples/step-000500.png": b"", "old/samples/cat.png": b""}) == {}


def test_folders_below_and_the_outermost():
    own = OwnOutput({"": "run", "a/b": "run", "a/b/samples": "samples of a run"}, frozenset())
    assert own.folder_of("a/b/samples/final.png") == "a/b"
    assert own.folder_of("a/1.png") is None
    assert own.folder_of("1.png") is None


def test_pictures_are_marked(tmp_path):
    picture = Image.new("P", (40, 40))
    picture.putpalette(list(range(256)) * 3)
    pictures.save_png(tmp_path / "a.png", picture.convert("RGB"))
    pictures.save_gif(tmp_path / "b.gif", [picture, picture.rotate(90)])
    picture.save(tmp_path / "c.png")
    picture.save(tmp_path / "d.gif")
    names = {path.name: path.name for path in tmp_path.iterdir()}
    assert find_pictures(names, lambda name: (tmp_path / name).read_bytes()[:1024]) == {"a.png", "b.gif"}
