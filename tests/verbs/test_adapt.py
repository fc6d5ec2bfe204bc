"""The verbs, end to end on toys."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import regraft
from regraft.core.errors import ConfigError, DataError, MissingCapability
from regraft.core.randomness import generator_at
from regraft.evaluation.compare import compare, extractor
from regraft.runs.training_images import training_images
from support.toys import toy_gan

FAST = {"steps": 4, "batch": 4, "evaluate_every": 2}


@pytest.fixture
def run(photos, source_folder, tmp_path):
    return regraft.adapt(photos, source_folder, method="freezed", out=tmp_path / "run", **FAST)


def picture(path):
    with Image.open(path) as image:
        image.load()
        return image


def test_adapt_writes_a_run_with_numbers(run):
    scores = {s.name: s for s in run.scores}
    assert {"frechet[random_conv]", "kmmd[random_conv]", "mv_ratio_pixel", "copies[pixels]"} <= set(scores)
    for score in scores.values():
        assert score.n_real == 2
        assert score.extractor in ("pixels", "random_conv")
        assert np.isfinite(score.value)
    assert json.loads((run.folder / "scores.json").read_text())[0]["seed"] == 0
    assert (run.folder / "samples" / "final.png").is_file()
    assert (run.folder / "samples" / "step-000002.png").is_file()
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert any("held_out" in line for line in lines)


def test_settings_of_a_run_are_whole_and_repeat_it(run, tmp_path):
    path = run.folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    assert settings["method"] == "freezed"
    assert settings["settings"]["freeze"] == 1
    again = regraft.adapt(config=path, out=tmp_path / "again")
    assert torch.equal(again.gan.sample(4), run.gan.sample(4))
    a, b = ((r.folder / "adapter_model.safetensors").read_bytes() for r in (run, again))
    assert a == b


def test_a_run_folder_is_never_overwritten(run, photos, source_folder):
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="nothing is overwritten; go on with --resume"):
        regraft.adapt(photos, source_folder, method="freezed", out=run.folder, **FAST)
    assert before == {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}


def test_resuming_a_finished_run_changes_nothing(run):
    before = (run.folder / "adapter_model.safetensors").read_bytes()
    again = regraft.adapt(resume=True, out=run.folder)
    assert (run.folder / "adapter_model.safetensors").read_bytes() == before
    assert again.step == run.step


def test_resuming_with_other_images_is_refused(run, photos):
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(photos / "000.png")
    with pytest.raises(ConfigError, match="the images are not those"):
        regraft.adapt(resume=True, out=run.folder)


def test_resuming_with_changed_settings_is_refused(run):
    path = run.folder / "config.yaml"
    said = path.read_text()
    path.write_text("# a remark\n" + said)
    regraft.adapt(resume=True, out=run.folder)
    path.write_text(said.replace("seed: 0", "seed: 1"))
    with pytest.raises(ConfigError, match="config.yaml was changed since the run began"):
        regraft.adapt(resume=True, out=run.folder)


def test_nothing_is_written_without_a_folder(photos, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    run = regraft.adapt(photos, toy_gan(), method="transfergan", write=False, **FAST)
    assert run.folder is None
    assert list((tmp_path / "cwd").iterdir()) == []


def test_keeping_the_last_generator(photos, source_folder, tmp_path):
    run = regraft.adapt(photos, source_folder, method="transfergan", out=tmp_path / "last", keep="last", **FAST)
    assert run.step == 4


def test_keywords_reach_method_recipe_and_objective(photos, source_folder, tmp_path):
    run = regraft.adapt(
        photos,
        source_folder,
        method="freezed",
        out=tmp_path / "r",
        freeze=1,
        augment=[],
        objective={"penalty_weight": 7.0},
        recipe={"critic_lr": 1e-5},
        **FAST,
    )
    assert run.gan.objective.penalty_weight == 7
    assert run.gan.recipe.critic_lr == 1e-5
    assert json.loads((run.folder / "adapter_config.json").read_text())["config"]["augment"] == []


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"method": "freezd"}, ConfigError, "no method called freezd; did you mean freezed"),
        ({"method": "freezed", "freze": 1}, ConfigError, "no setting called freze; did you mean freeze"),
        ({"method": "freezed", "freeze": 9}, ConfigError, "at most"),
        ({"method": "freezed", "recipe": {"bach": 2}}, ConfigError, "did you mean batch"),
        ({"method": "untouched", "steps": 3}, ConfigError, "untouched trains nothing"),
        ({"held_out": 11}, DataError, "leaves too few"),
        ({"take": 99}, DataError, "there are only 12 images"),
        ({"take": 3}, DataError, "at least 4 are needed"),
        ({"extractor": "inceptoin"}, ConfigError, "no extractor called inceptoin"),
        ({"augment": ["colour"]}, ConfigError, "no augmentation called colour; did you mean color"),
        ({"device": "cuda"}, ConfigError, "has no cuda"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(photos, source_folder, tmp_path, how, error, message):
    if how.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(error, match=message):
        regraft.adapt(photos, source_folder, out=tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()


def test_no_source_and_no_images(photos):
    with pytest.raises(ConfigError, match="which source"):
        regraft.adapt(photos)
    with pytest.raises(ConfigError, match="which images"):
        regraft.adapt()


def test_a_source_without_critic(photos, tmp_path):
    bare = regraft.GAN(toy_gan().generator)
    with pytest.raises(MissingCapability, match="freezed needs critic"):
        regraft.adapt(photos, bare, method="freezed", out=tmp_path / "r")
    run = regraft.adapt(photos, bare, out=tmp_path / "r", **FAST)
    assert any("no critic" in note for note in run.notes)


def test_training_a_source_without_a_source(photos, tmp_path):
    run = regraft.adapt(
        photos,
        method="scratch",
        out=tmp_path / "r",
        size=8,
        channels=1,
        backbone_settings={"width": 4, "latent_dim": 5},
        **FAST,
    )
    assert regraft.load(run.folder).generator.latent.dim == 5


def test_labelled_folder_trains_a_conditional_source(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "x" / name).mkdir(parents=True)
        for k in range(6):
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / "x" / name / f"{k}.png")
    run = regraft.adapt(
        tmp_path / "x",
        method="scratch",
        out=tmp_path / "r",
        size=8,
        channels=1,
        labels=True,
        backbone_settings={"width": 4, "latent_dim": 5},
        **FAST,
    )
    assert run.gan.generator.n_classes == 2
    images = regraft.sample(tmp_path / "r", n=3, label=1)
    assert torch.equal(images, run.gan.sample(3, y=torch.ones(3, dtype=torch.long)))
    with pytest.raises(ConfigError, match="classes 0 to 1"):
        regraft.sample(tmp_path / "r", label=2)


class TestSample:
    def test_folder_grid_and_truncation(self, run, tmp_path):
        images = regraft.sample(run.folder, tmp_path / "out", n=5, seed=3, first=2, grid=True)
        names = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert names == ["grid.png"] + [f"seed3-{k:06d}.png" for k in range(2, 7)]
        read = np.asarray(picture(tmp_path / "out" / "seed3-000002.png"))
        assert np.abs(read.astype(int) - ((images[0, 0] + 1) * 127.5).numpy()).max() <= 0.51
        assert torch.equal(regraft.sample(run.folder, n=3, psi=0.0)[0], regraft.sample(run.folder, n=3, psi=0.0)[1])
        regraft.sample(run.folder, tmp_path / "g.png", n=4)
        assert picture(tmp_path / "g.png").width > 8
        for taken in ("out", "g.png"):
            with pytest.raises(ConfigError, match="nothing is overwritten"):
                regraft.sample(run.folder, tmp_path / taken, n=1)

    def test_interpolation(self, run, tmp_path):
        regraft.interpolate(run.folder, tmp_path / "walk.gif", keys=3, frames=4)
        with Image.open(tmp_path / "walk.gif") as gif:
            assert gif.n_frames == 12
        regraft.interpolate(run.folder, tmp_path / "strip.png", keys=2, frames=4)
        assert picture(tmp_path / "strip.png").width > 5 * 8
        with pytest.raises(ConfigError, match=r"written as \.gif or \.png"):
            regraft.interpolate(run.folder, tmp_path / "x.mp4")

    def test_aspect_is_brought_back(self, source_folder, tmp_path):
        (tmp_path / "wide").mkdir()
        for k in range(8):
            Image.fromarray(np.full((8, 16), 30 * k, np.uint8)).save(tmp_path / "wide" / f"{k}.png")
        for fit, size in (("stretch", (16, 8)), ("crop", (8, 8))):
            run = regraft.adapt(tmp_path / "wide", source_folder, method="untouched", out=tmp_path / fit, fit=fit)
            regraft.sample(run.folder, tmp_path / f"{fit}-out", n=1)
            opened = picture(tmp_path / f"{fit}-out" / "seed0-000000.png")
            assert opened.width / opened.height == size[0] / size[1]


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
            (tmp_path / name).mkdir()
            for k in range(12):
                array = np.zeros((8, 24), np.uint8)
                array[:, :8] = rng.integers(0, 255)  # what a crop of the middle does not see
                Image.fromarray(array).save(tmp_path / name / f"{k}.png")
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


def test_inspect_says_what_matters(source_folder):
    facts = regraft.inspect(source_folder)
    assert facts["backbone"] == "dcgan"
    assert facts["latent"]["dim"] == 6
    assert facts["image"] == {"height": 8, "width": 8, "channels": 1}
    assert facts["generator_values"] == sum(p.numel() for p in toy_gan().generator.parameters())


def test_lists():
    assert {"scratch", "transfergan", "freezed", "minegan"} <= set(regraft.list_methods())
    assert {"frechet", "kmmd", "mean_variance", "copies"} <= set(regraft.list_metrics())
