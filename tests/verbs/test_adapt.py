"""Adapting from end to end: what a run writes, what it refuses to overwrite, how it is resumed, which mistakes are named."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import regraft
from regraft.core.errors import ConfigError, DataError, MissingCapability
from support.pictures import save_arrays
from support.running import FAST
from support.toys import toy_gan


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
        save_arrays(tmp_path / "x" / name, rng.integers(0, 255, (6, 8, 8), np.uint8))
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
