"""MineGAN on one source: its settings, labels that it leaves out, classes that it keeps, and its adapters."""

import pytest
import torch

import regraft
from regraft.core.config import parse
from regraft.core.errors import ConfigError
from support.mining import attach_to_one, conditional
from support.running import run
from support.toys import toy_images


def test_minegan_splits_its_steps():
    from regraft.methods.minegan import MineGANConfig

    assert (MineGANConfig(steps=1000).mining_steps, MineGANConfig(steps=1000).finetuning_steps) == (200, 800)
    only = MineGANConfig(mining_steps=300, finetuning_steps=0)
    assert only.steps == 300
    assert parse(MineGANConfig, only.model_dump(mode="json"), "again") == only
    with pytest.raises(ConfigError, match="is not mining_steps"):
        parse(MineGANConfig, {"steps": 5, "mining_steps": 1, "finetuning_steps": 1}, "x")
    with pytest.raises(ConfigError, match="leaves nothing"):
        parse(MineGANConfig, {"steps": 5, "mining_steps": 9}, "x")


def test_labels_and_projection_are_left_out():
    """A critic's class table gets no gradient, and labels change nothing."""
    source = conditional()
    states = []
    for labels in (None, [k % 3 for k in range(12)]):
        images = toy_images(labels=labels)
        adaptation = attach_to_one(source, images=images)
        table = [(k, p.clone()) for k, p in adaptation.critic.named_parameters() if "class" in k or "embed" in k or "proj" in k]
        loop = run(adaptation, images)
        assert all(torch.equal(value, dict(adaptation.critic.named_parameters())[k]) for k, value in table)
        states.append(loop.generator().state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_kept_classes_stay_classes():
    adaptation = attach_to_one(conditional(), miner={"classes": "keep"})
    run(adaptation, toy_images())
    assert adaptation.generator.n_classes == 3
    assert adaptation.findings(adaptation.generator, True) == {}


@pytest.mark.parametrize("form", ["onehot", "embedding"])
def test_adapter_and_stand_alone_generator(form, tmp_path, photos):
    source = regraft.convert(conditional(), tmp_path / "source")
    run = regraft.adapt(
        photos,
        source,
        out=tmp_path / "run",
        method="minegan",
        steps=4,
        held_out=2,
        recipe={"batch": 4},
        miner={"classes": form},
    )
    want = run.gan.sample(5, 1)
    assert torch.equal(regraft.load_adapter(tmp_path / "run").sample(5, 1), want)
    assert torch.equal(regraft.load(regraft.convert(tmp_path / "run", tmp_path / "alone")).sample(5, 1), want)
    (shares,) = run.findings["mined_classes"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
