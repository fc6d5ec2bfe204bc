"""Every verb takes images from Python, and makes of them what it makes of the folder that they came from."""

import json
import pathlib

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

import regraft
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import tensor_digest
from regraft.verbs.adapt import dry_run
from regraft.verbs.encode import encode
from regraft.verbs.train_classifier import train_classifier
from support.data_sets import Pictures, hugging_face
from support.pictures import save_images
from support.running import FAST
from support.toys import strokes, toy_gan

NAMES = ["bars", "blobs"]
PRETRAINING = {"backbone": "dcgan", "size": 16, "channels": 1, "steps": 2, "batch": 4, "backbone_settings": {"width": 4}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty small pictures."""
    made = tmp_path_factory.mktemp("from-python") / "strokes"
    save_images(made, strokes(30, 0, 8))
    return made


@pytest.fixture(scope="module")
def by_class(tmp_path_factory):
    """Folders ``bars`` and ``blobs`` of twelve pictures each."""
    made = tmp_path_factory.mktemp("from-python") / "by-class"
    for k, name in enumerate(NAMES):
        save_images(made / name, strokes(12, k, 8))
    return made


def _read(where):
    """The pictures of a folder in order, the array of them, and the number of each one's class."""
    paths = sorted(pathlib.Path(where).rglob("*.png"))
    pictures = [Image.open(path) for path in paths]
    labels = [NAMES.index(path.parent.name) if path.parent.name in NAMES else 0 for path in paths]
    return paths, pictures, np.stack([np.asarray(picture) for picture in pictures]), labels


def _digest(run):
    return json.loads((run.folder / "adapter_config.json").read_text())["tensor_digest"]


KINDS = {
    "array": lambda paths, pictures, array: array,
    "float array": lambda paths, pictures, array: array / 255,
    "tensor": lambda paths, pictures, array: torch.from_numpy(array)[:, None] / 127.5 - 1,
    "pictures": lambda paths, pictures, array: pictures,
    "paths": lambda paths, pictures, array: paths,
    "pattern": lambda paths, pictures, array: f"{paths[0].parent}/*.png",
    "bytes": lambda paths, pictures, array: [path.read_bytes() for path in paths],
    "iterator": lambda paths, pictures, array: iter(list(array)),
    "data set": lambda paths, pictures, array: Subset(Pictures(pictures), range(len(pictures))),
    "tensor data set": lambda paths, pictures, array: TensorDataset(torch.from_numpy(array)[:, None] / 255),
    "loader": lambda paths, pictures, array: DataLoader(TensorDataset(torch.from_numpy(array)[:, None]), batch_size=7),
    "Hugging Face": lambda paths, pictures, array: hugging_face(pictures),
}


def _trained(images, **settings):
    """Digest of a generator that was trained on images for two steps."""
    settings = FAST | {"method": "transfergan", "steps": 2, "evaluate_every": 0, "held_out": 0, "write": False} | settings
    gan = regraft.adapt(images, toy_gan(), **settings).gan
    return tensor_digest(gan.generator), gan.provenance.classes


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_give_the_same_run(folder, kind, expected_digest):
    paths, pictures, array, _ = _read(folder)
    assert _trained(KINDS[kind](paths, pictures, array)) == expected_digest
    plan, expected = (dry_run(images, [toy_gan()]) for images in (KINDS[kind](paths, pictures, array), folder))
    assert plan["images"] == expected["images"]


@pytest.fixture(scope="module")
def expected_digest(folder):
    return _trained(folder)


def test_labelled_kinds_give_the_same_run(by_class):
    paths, pictures, array, labels = _read(by_class)
    expected = _trained(by_class)
    assert expected[1] == ("bars", "blobs")
    names = [NAMES[label] for label in labels]
    kinds = {
        "array": (array, names),
        "tensor": (torch.from_numpy(array), np.array(names)),
        "data set": (Pictures(pictures, labels, NAMES), None),
        "Hugging Face": (hugging_face(pictures, labels, NAMES), None),
        "pattern": (f"{by_class}/*/*.png", None),
        "paths": (paths, None),
    }
    for name, (images, given) in kinds.items():
        assert _trained(images, labels=given) == expected, name
    assert _trained(array, labels=False)[1] == ()


class TestResume:
    SETTINGS = FAST | {"method": "transfergan", "checkpoint_every": 1}

    def _stopped(self, images, out, **more):
        """A run that was stopped before its third step."""

        def stop(event):
            if event["event"] == "step" and event["step"] >= 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            regraft.adapt(images, toy_gan(), out=out, on_event=stop, **self.SETTINGS, **more)

    def test_the_same_images_go_on(self, folder, tmp_path):
        _, _, array, _ = _read(folder)
        through = regraft.adapt(array, toy_gan(), out=tmp_path / "through", **self.SETTINGS)
        self._stopped(array, tmp_path / "run")
        settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert settings["images"] == "array (30, 8, 8)"
        run = regraft.adapt(array, toy_gan(), out=tmp_path / "run", resume=True)
        assert _digest(run) == _digest(through)

    def test_no_images_or_others_are_an_error_that_says_what_to_do(self, folder, tmp_path):
        _, _, array, _ = _read(folder)
        self._stopped(array, tmp_path / "run")
        with pytest.raises(DataError, match=r"given from Python, .* adapt\(images, out=..., resume=True\)"):
            regraft.adapt(sources=toy_gan(), out=tmp_path / "run", resume=True)
        with pytest.raises(ConfigError, match="the images are not those that the run began with"):
            regraft.adapt(array[::-1].copy(), toy_gan(), out=tmp_path / "run", resume=True)

    def test_labels_are_given_again(self, by_class, tmp_path):
        _, _, array, labels = _read(by_class)
        self._stopped(array, tmp_path / "run", labels=labels)
        run = regraft.adapt(array, toy_gan(), out=tmp_path / "run", labels=labels, resume=True)
        assert run.gan.provenance.classes == ("0", "1")

    def test_a_folder_that_has_moved_is_given_anew(self, folder, tmp_path):
        moved = tmp_path / "before"
        moved.symlink_to(folder)
        self._stopped(moved, tmp_path / "run")
        moved.unlink()
        run = regraft.adapt(folder, toy_gan(), out=tmp_path / "run", resume=True)
        assert run.step == 4


class TestVerbs:
    @pytest.fixture
    def array(self, folder):
        return _read(folder)[2]

    def test_adapt_chooses_a_folder_that_has_a_name(self, array, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run = regraft.adapt(array, toy_gan(), **FAST)
        assert run.folder == pathlib.Path("runs/array")

    def test_adapt_says_the_range(self, array, tmp_path):
        run = regraft.adapt(array / 255, toy_gan(), out=tmp_path / "run", **FAST)
        assert any("read as the range [0, 1]" in note for note in run.notes)

    def test_dry_run(self, array, tmp_path):
        plan = dry_run(array, [toy_gan()], out=tmp_path / "run", labels=[0, 1] * 15)
        assert plan["images"]["n"] == 30
        assert plan["images"]["classes"] == ["0", "1"]

    def test_check(self, array, folder):
        assert regraft.check(array)["sizes"] == regraft.check(folder)["sizes"] == {"8x8": 30}
        assert regraft.check(array, labels=["a", "b"] * 15)["classes"] == {"a": 15, "b": 15}

    def test_evaluate(self, array, folder):
        told = []
        settings = {"metrics": ["frechet"], "size": 8, "on_event": told.append}
        by_path = regraft.evaluate(folder, folder, **settings)
        in_memory = regraft.evaluate(array, array / 255, training=list(array), labels=[0, 1] * 15, **settings)
        assert [s.value for s in in_memory] == [s.value for s in by_path]
        assert any("read as the range [0, 1]" in event["text"] for event in told)
        of_gan = regraft.evaluate(toy_gan(), torch.from_numpy(array), metrics=["frechet"], n=30)
        assert of_gan[0].n_real == 30

    def test_evaluate_a_pattern(self, folder):
        assert regraft.evaluate(f"{folder}/*.png", folder, metrics=["frechet"], size=8)[0].n_fake == 30

    def test_the_copies_of_a_run_of_an_array_are_measured_where_its_images_are_given(
        self, array, source_folder, folder, tmp_path
    ):
        run = regraft.adapt(array, source_folder, out=tmp_path / "run", **FAST)
        told = []
        settings = {"metrics": ["copies"], "n": 20, "on_event": told.append}
        assert regraft.evaluate(run.folder, strokes(30, 5, 8), training=array, **settings)
        assert not any("copies are not measured" in event["text"] for event in told)
        regraft.evaluate(run.folder, strokes(30, 5, 8), metrics=["frechet"], n=20, on_event=told.append)
        assert any("copies are not measured" in event["text"] and "given from Python" in event["text"] for event in told)

    def test_encode_twice(self, array, folder, tmp_path):
        gan = toy_gan(autoencoder=True)
        first = encode(gan, array, tmp_path / "a.safetensors", labels=["b", "a"] * 15)
        assert first.codes.classes == ("a", "b")
        assert (first.computed, first.reused) == (30, 0)
        again = encode(gan, array.copy(), tmp_path / "a.safetensors", labels=["b", "a"] * 15)
        assert (again.computed, again.reused) == (0, 30)
        assert torch.equal(first.codes.values, encode(gan, folder, tmp_path / "b.safetensors").codes.values)
        pictures = encode(gan, [Image.fromarray(a) for a in array], tmp_path / "c.safetensors")
        assert torch.equal(first.codes.values, pictures.codes.values)

    def test_rank(self, array, folder):
        sources = [toy_gan(seed=0), toy_gan(seed=1)]
        assert regraft.rank(array, sources, n=40) == regraft.rank(folder, sources, n=40)

    def test_diagnose(self, array, folder):
        source = toy_gan(autoencoder=True)
        assert regraft.diagnose(source, array, source_images=array) == regraft.diagnose(source, folder, source_images=folder)

    def test_train_classifier(self, by_class, tmp_path):
        _, _, array, labels = _read(by_class)
        names = [NAMES[label] for label in labels]
        settings = {"steps": 3, "size": 8}
        in_memory = train_classifier(array, tmp_path / "a.safetensors", labels=names, **settings)
        assert in_memory.classes == ("bars", "blobs")
        train_classifier(by_class, tmp_path / "b.safetensors", **settings)
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()

    def test_pretrain(self, array, tmp_path):
        pictures = [Image.fromarray(a) for a in array]
        source = regraft.pretrain(pictures, out=tmp_path / "source", **PRETRAINING)
        assert source.provenance.dataset == "list, 30 images"
        again = regraft.pretrain(array, out=tmp_path / "again", **PRETRAINING)
        assert torch.equal(source.sample(2, 0), again.sample(2, 0))

    def test_labels_without_images(self):
        with pytest.raises(ConfigError, match="labels were given, and no images"):
            regraft.adapt(labels=[1, 2], sources=toy_gan())
