"""Evaluating runs, sources and folders of images."""

import json

import numpy as np
import pytest
import torch

import regraft
from regraft.core.errors import ConfigError
from regraft.core.randomness import generator_at
from regraft.evaluation.compare import compare, extractor
from regraft.runs.training_images import training_images
from support.pictures import save_arrays


class TestEvaluate:
    def test_run_against_folder(self, run, photos):
        scores = {s.name: s for s in regraft.evaluate(run.folder, photos, n=20)}
        assert scores["frechet[random_conv]"].n_fake == 20
        assert scores["copies[pixels]"].details["n_training"] == 10, "a run knows what it was trained on"
        again = {s.name: s.value for s in regraft.evaluate(run.folder, photos, n=20)}
        assert again == {name: s.value for name, s in scores.items()}

    def test_folder_against_itself(self, photos):
        scores = {s.name: s.value for s in regraft.evaluate(photos, photos)}
        assert scores["frechet[random_conv]"] == pytest.approx(0, abs=1e-5)
        assert scores["mv_ratio_pixel"] == pytest.approx(1)
        assert not any(name.startswith("copies") for name in scores), "nothing is known of training images"

    def test_critic_features(self, run, photos):
        names = {s.name for s in regraft.evaluate(run.folder, photos, n=20, extractor="critic", metrics=("frechet",))}
        assert names == {"frechet[critic]"}
        with pytest.raises(ConfigError, match="needs a source"):
            regraft.evaluate(photos, photos, extractor="critic")

    def test_critic_features_are_those_of_the_runs_own_scores(self, run, photos, source_folder):
        (found,) = regraft.evaluate(run.folder, photos, n=20, extractor="critic", metrics=("kid",))
        assert found.extractor_sha256 == extractor("critic", regraft.load(source_folder)).sha256
        assert found.extractor_sha256 != extractor("critic", run.gan).sha256

    def test_real_images_are_fitted_as_the_runs_were(self, source_folder, tmp_path):
        rng = np.random.default_rng(0)
        for name in ("wide", "new"):
            arrays = np.zeros((12, 8, 24), np.uint8)
            for array in arrays:
                array[:, :8] = rng.integers(0, 255)  # what a crop of the middle does not see
            save_arrays(tmp_path / name, arrays)
        run = regraft.adapt(tmp_path / "wide", source_folder, method="untouched", out=tmp_path / "run", fit="stretch")
        notes = []

        def score(**settings):
            (found,) = regraft.evaluate(run.folder, tmp_path / "new", n=20, metrics=("kid",), on_event=notes.append, **settings)
            return found.value

        assert score() == score(fit="stretch") != score(fit="crop")
        assert [n["text"].partition(":")[0] for n in notes] == [
            "real images are fitted by crop, and the run learned from images fitted by stretch"
        ]

    def test_what_training_saw_may_be_gone(self, run, photos, tmp_path):
        moved = photos.rename(tmp_path / "elsewhere")
        notes = []
        names = {s.name for s in regraft.evaluate(run.folder, moved, n=20, on_event=notes.append)}
        assert "frechet[random_conv]" in names
        assert not any(name.startswith("copies") for name in names)
        assert any("copies are not measured" in n["text"] and "--training" in n["text"] for n in notes)
        again = {s.name for s in regraft.evaluate(run.folder, moved, n=20, training=regraft.open_images(moved).take(0, 6))}
        assert "copies[pixels]" in again

    def test_a_pretrained_source_is_measured(self, photos, tmp_path):
        regraft.pretrain(photos, backbone="dcgan", size=8, channels=1, out=tmp_path / "source", steps=2, batch=4)
        assert regraft.evaluate(tmp_path / "source", photos, n=20)

    def test_replayed_training_images_stand_beside_every_score(self, run, photos):
        scores = {s.name: s for s in regraft.evaluate(run.folder, photos, n=20)}
        assert {"replayed"} <= scores["frechet[random_conv]"].details.keys()
        training = training_images(run.folder)
        drawn = torch.randint(len(training), (20,), generator=generator_at(0, "replayed"))
        real = regraft.open_images(photos).decode((8, 8), 1).tensor()
        wanted = compare(training[drawn], real, None, extractor("random_conv"), ("frechet", "kid"))
        for score in wanted:
            assert scores[score.name].details["replayed"] == pytest.approx(score.value)
        saved = json.loads((run.folder / "scores.json").read_text())
        assert {s["name"]: s["details"]["replayed"] for s in saved}["copies[pixels]"] == 1.0

    def test_metric_names(self, run, photos):
        with pytest.raises(ConfigError, match="no metric called frechett; did you mean frechet"):
            regraft.evaluate(run.folder, photos, metrics=("frechett",))
