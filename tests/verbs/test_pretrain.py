"""Pretraining: sources of one's own through the same loop; growing StyleALAEs; what comes out loads and goes on."""

import pytest
import torch
import yaml

import regraft
from regraft.core import discover
from regraft.core.errors import ConfigError
from regraft.core.gan import tensor_digest
from regraft.verbs.pretrain import pretrain
from support.plugins import find_plugin
from support.pretraining import SMALL, interrupted, same_when_resumed, settings


@pytest.fixture(params=["dcgan", "autoencoder", "alae"])
def backbone(request):
    """A backbone of each kind of pretraining."""
    return request.param


def test_the_folder_is_a_source(backbone, photos, tmp_path):
    made = pretrain(photos, out=tmp_path / "mine", licence="CC0", **settings(backbone))
    loaded = regraft.load(tmp_path / "mine")
    assert tensor_digest(loaded.generator) == tensor_digest(made.generator)
    assert torch.equal(loaded.sample(4, 1), made.sample(4, 1))
    assert (loaded.critic is None) == (backbone == "autoencoder")
    assert (loaded.autoencoder is None) == (backbone == "dcgan")
    assert loaded.provenance.licence == "CC0"
    assert (tmp_path / "mine" / "samples" / "final.png").is_file()
    method = "mind2mind" if loaded.autoencoder is not None else "freezed"
    run = regraft.adapt(photos, tmp_path / "mine", method=method, steps=2, batch=4, write=False)
    assert torch.isfinite(run.gan.sample(2)).all()
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        pretrain(photos, out=tmp_path / "mine", **settings(backbone))


@pytest.mark.parametrize("name", [n for n in discover.names("backbones") if n not in SMALL])
def test_every_backbone_makes_sources(name, photos, tmp_path):
    """From scratch and from images alone; what comes out is trained further."""
    smallest = dict(find_plugin("backbones", name).smallest)
    given = {"size": smallest.pop("size"), "channels": 3, "steps": 2, "batch": 4, "backbone_settings": smallest}
    made = pretrain(photos, out=tmp_path / "mine", backbone=name, **given)
    loaded = regraft.load(tmp_path / "mine")
    assert loaded.generator.describe().kind == name
    assert tensor_digest(loaded.critic) == tensor_digest(made.critic)
    assert torch.equal(loaded.sample(3, 1), made.sample(3, 1))
    run = regraft.adapt(photos, tmp_path / "mine", method="transfergan", steps=1, batch=4, keep="last", write=False)
    assert not torch.equal(run.gan.sample(3, 1), made.sample(3, 1))


def test_trains_in_bfloat16(backbone, photos, tmp_path):
    made = pretrain(photos, out=tmp_path / "mine", precision="bfloat16", **settings(backbone, size=16))
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in made.generator.parameters())
    assert torch.isfinite(made.sample(2)).all()


def test_resumed_training_gives_the_same_source(backbone, photos, tmp_path):
    same_when_resumed(photos, tmp_path, 3, **settings(backbone))


@pytest.mark.parametrize(("first", "then"), [("CC-BY-NC-4.0", None), (None, "CC-BY-NC-4.0"), ("CC-BY-NC-4.0", "CC-BY-NC-4.0")])
def test_the_licence_is_kept_when_resuming(photos, tmp_path, first, then):
    folder = tmp_path / "mine"
    interrupted(photos, out=folder, licence=first, **settings("dcgan"))
    if first is not None:
        with pytest.raises(ConfigError, match="began with CC-BY-NC-4.0; leave --licence out"):
            pretrain(out=folder, resume=True, licence="CC0")
    interrupted(out=folder, resume=True, licence=then, at=4)
    assert pretrain(out=folder, resume=True).provenance.noncommercial
    assert regraft.load(folder).provenance.licence == "CC-BY-NC-4.0"


def test_resuming_a_finished_source_writes_nothing(photos, tmp_path):
    folder, said = tmp_path / "mine", []
    made = pretrain(photos, out=folder, licence="CC-BY-NC-4.0", **settings("dcgan"))
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    again = pretrain(out=folder, resume=True, on_event=said.append)
    assert again.provenance.licence == made.provenance.licence == "CC-BY-NC-4.0"
    assert tensor_digest(again.generator) == tensor_digest(made.generator)
    assert any("finished" in event.get("text", "") for event in said)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()} == before
    with pytest.raises(ConfigError, match=r"what its source\.json says"):
        pretrain(out=folder, resume=True, licence="CC0")


def test_objective_and_recipe_of_new_networks_can_be_set(photos, tmp_path):
    """What is set takes effect, is recorded and is what the source is trained with from then on."""
    chosen = {"objective": {"penalty_weight": 3.0}, "recipe": {"generator_lr": 1e-3, "ema_decay": 0.5}}
    usual = pretrain(photos, out=tmp_path / "usual", **settings("dcgan"))
    made = pretrain(photos, out=tmp_path / "mine", **settings("dcgan"), **chosen)
    assert tensor_digest(made.generator) != tensor_digest(usual.generator)
    said = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())["settings"]
    assert said["objective"]["penalty_weight"] == made.objective.penalty_weight == 3
    assert (said["recipe"]["generator_lr"], said["recipe"]["batch"]) == (1e-3, 4)
    again = pretrain(photos, out=tmp_path / "again", **settings("dcgan", recipe={"ema_decay": 0.0}))
    assert tensor_digest(again.critic) == tensor_digest(usual.critic)
    assert tensor_digest(again.generator) != tensor_digest(usual.generator)


@pytest.mark.parametrize(
    ("backbone", "more"),
    [
        ("autoencoder", {"objective": "hinge"}),
        ("autoencoder", {"recipe": {"miner_lr": 1.0}}),
        ("alae", {"recipe": {"batch": 3}}),
    ],
)
def test_what_a_pretraining_cannot_be_told_is_refused(backbone, more, photos, tmp_path):
    with pytest.raises(ConfigError, match=f"without a source has no {next(iter(more))} .*own settings are: steps"):
        pretrain(photos, out=tmp_path / "x", **settings(backbone), **more)
    assert not (tmp_path / "x").exists()


def test_an_objective_among_the_settings_counts_too(photos, tmp_path):
    given = settings("dcgan") | {"settings": {"objective": {"penalty_weight": 50.0}}}
    made = pretrain(photos, out=tmp_path / "mine", objective={"drift_weight": 0.5}, **given)
    assert (made.objective.penalty_weight, made.objective.drift_weight) == (50, 0.5)


def test_a_resumed_run_keeps_its_settings_and_its_verb(photos, tmp_path):
    pretrain(photos, out=tmp_path / "mine", **settings("autoencoder"))
    with pytest.raises(ConfigError, match="leave more out"):
        pretrain(out=tmp_path / "mine", resume=True, more=3)
    with pytest.raises(ConfigError, match="leave seed out"):
        regraft.adapt(out=tmp_path / "mine", resume=True, seed=3)
    with pytest.raises(ConfigError, match="regraft pretrain --resume"):
        regraft.adapt(out=tmp_path / "mine", resume=True)
    regraft.adapt(photos, tmp_path / "mine", method="mind2mind", steps=2, batch=4, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="regraft adapt --resume"):
        pretrain(out=tmp_path / "run", resume=True)


def test_refusals(photos, tmp_path):
    with pytest.raises(ConfigError, match="--size"):
        pretrain(photos, out=tmp_path / "x")
    with pytest.raises(ConfigError, match="no backbone called dcgam; did you mean dcgan"):
        pretrain(photos, out=tmp_path / "x", backbone="dcgam", size=8)
    with pytest.raises(ConfigError, match="regraft pretrain"):
        regraft.adapt(photos, method="alae", size=8, write=False)
    with pytest.raises(ConfigError, match="no run that can be resumed"):
        (tmp_path / "y").mkdir()
        (tmp_path / "y" / "config.yaml").write_text(f"images: {photos}\nmethod: scratch\nsettings: {{size: 8, channels: 1}}\n")
        pretrain(out=tmp_path / "y", resume=True)
