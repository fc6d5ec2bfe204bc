"""Training a classifier on class folders, and measuring with it."""

import dataclasses
import json

import numpy as np
import pytest

import regraft
from regraft.cli.app import run as cli
from regraft.core.errors import ConfigError, DataError
from regraft.evaluation.compare import extractor
from regraft.verbs.train_classifier import train_classifier
from support.pictures import save_arrays
from support.toys import toy_gan


@pytest.fixture
def labelled(tmp_path):
    """Bright and dark squares, and stripes."""
    rng = np.random.default_rng(0)
    for name, middle, rows in (("bright", 180, 0), ("dark", 20, 0), ("stripes", 0, 190)):
        arrays = rng.integers(0, 60, (24, 12, 12)).astype(np.uint8)
        arrays[:, 3:9, 3:9] += np.uint8(middle)
        arrays[:, ::2] += np.uint8(rows) * (arrays[:, ::2] < 60).astype(np.uint8)
        save_arrays(tmp_path / "labelled" / name, arrays)
    return tmp_path / "labelled"


class TestTrainClassifier:
    def test_from_folder_to_class_accuracy(self, labelled, tmp_path, capsys):
        out = tmp_path / "own.safetensors"
        code = cli(["train-classifier", str(labelled), "--out", str(out), "--steps", "60", "--size", "12", "--json"])
        result = json.loads(capsys.readouterr().out)
        assert code == 0
        assert result["classes"] == ["bright", "dark", "stripes"]
        assert (result["n_train"], result["n_held"]) == (57, 15)
        assert result["accuracy"] > 0.8
        assert result["chance"] == pytest.approx(1 / 3)
        assert result["interval"][0] < result["accuracy"] <= result["interval"][1]
        code = cli(["evaluate", str(labelled), str(labelled), "--extractor", f"classifier:{out}", "--json"])
        found = {s["name"]: s for s in json.loads(capsys.readouterr().out)}
        assert code == 0
        assert found["class_accuracy[classifier:own.safetensors]"]["value"] > 0.8
        assert "inception_score[classifier:own.safetensors]" in found
        assert extractor(f"classifier:{out}").classes == ("bright", "dark", "stripes")

    def test_classes_go_by_name(self, labelled, tmp_path, capsys):
        out = tmp_path / "own.safetensors"
        train_classifier(labelled, out, steps=60, size=12)
        (labelled / "bright").rename(tmp_path / "bright")
        arguments = ["evaluate", str(labelled), str(labelled), "--extractor", f"classifier:{out}", "--json"]
        assert cli([*arguments, "--metrics", "class_accuracy"]) == 0
        (score,) = json.loads(capsys.readouterr().out)
        assert score["value"] > 0.8
        assert set(score["details"]["by_class"]) == {"dark", "stripes"}
        (labelled / "dark").rename(labelled / "dim")
        assert cli([*arguments, "--metrics", "class_accuracy"]) == 2
        assert "images of the classes dim, and the classifier knows bright, dark, stripes" in capsys.readouterr().err
        assert cli(arguments) == 0
        said = capsys.readouterr()
        assert "class_accuracy is left out: images of the classes dim" in said.err
        assert not any(s["name"].startswith("class_accuracy") for s in json.loads(said.out))

    def test_classes_of_a_generator_go_by_name(self, photos_by_class, tmp_path):
        """Of two classes, those that are right in one order are wrong in the other."""
        train_classifier(photos_by_class, tmp_path / "own", steps=2, size=8, batch=4)
        gan, found = toy_gan(n_classes=2), {}
        for names in (("bars", "blobs"), ("blobs", "bars"), ()):
            gan.provenance = dataclasses.replace(gan.provenance, classes=names)
            settings = {"metrics": ["class_accuracy"], "extractor": f"classifier:{tmp_path / 'own'}", "n": 25}
            (score,) = regraft.evaluate(gan, photos_by_class, **settings)
            found[names] = score.value
        assert found["bars", "blobs"] == found[()] != 0.5
        assert found["blobs", "bars"] == pytest.approx(1 - found[()])

    def test_what_cannot_be(self, labelled, tmp_path):
        with pytest.raises(DataError, match="at least two classes"):
            train_classifier(labelled / "dark", tmp_path / "x")
        (tmp_path / "x").write_text("")
        with pytest.raises(ConfigError, match="nothing is overwritten"):
            train_classifier(labelled, tmp_path / "x")

    def test_the_same_seed_gives_the_same_file(self, labelled, tmp_path):
        for name in ("a", "b"):
            train_classifier(labelled, tmp_path / name, steps=2, size=8, batch=4)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
