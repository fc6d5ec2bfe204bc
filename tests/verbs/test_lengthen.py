"""Runs that go on in a new folder for more steps than they were set to."""

import pathlib

import pytest
import torch

import regraft
from regraft.core.errors import ConfigError
from regraft.core.gan import tensor_digest
from regraft.verbs.lengthen import lengthen
from regraft.verbs.pretrain import pretrain

SMALL = {
    "dcgan": {"width": 4, "latent_dim": 6},
    "autoencoder": {"code_dim": 6, "width": 4, "decoder_width": 4},
    "alae": {"width": 4, "latent_dim": 6, "mapping_layers": 2},
}


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("backbone", SMALL)
def test_a_lengthened_source_is_one_of_as_many_steps(backbone, photos, tmp_path):
    settings = {"backbone": backbone, "size": 8, "channels": 1, "batch": 4, "backbone_settings": SMALL[backbone], "steps": 6}
    pretrain(photos, out=tmp_path / "short", **settings)
    before = contents(tmp_path / "short")
    long = pretrain(photos, out=tmp_path / "long", more=5, **settings)
    lengthen(tmp_path / "short", tmp_path / "first", 2)
    pretrain(out=tmp_path / "first", resume=True)
    lengthen(tmp_path / "first", tmp_path / "second", 3)
    again = pretrain(out=tmp_path / "second", resume=True)
    assert tensor_digest(again.generator) == tensor_digest(long.generator)
    assert tensor_digest(again.generator) != tensor_digest(regraft.load(tmp_path / "short").generator)
    assert contents(tmp_path / "short") == before


@pytest.mark.parametrize("method", ["transfergan", "minegan"])
def test_a_lengthened_run_is_one_of_as_many_steps(method, photos, source_folder, tmp_path):
    steps = {"steps": 4} if method == "transfergan" else {"mining_steps": 2, "finetuning_steps": 2}
    given = {"method": method, "batch": 4, "keep": "last", **steps}
    short = regraft.adapt(photos, source_folder, out=tmp_path / "short", **given)
    long = regraft.adapt(photos, source_folder, out=tmp_path / "long", more=3, **given)
    lengthen(tmp_path / "short", tmp_path / "more", 3)
    more = regraft.adapt(out=tmp_path / "more", resume=True)
    assert (short.step, long.step, more.step) == (4, 7, 7)
    assert torch.equal(more.gan.sample(3, 1), long.gan.sample(3, 1))
    assert not torch.equal(more.gan.sample(3, 1), short.gan.sample(3, 1))
    assert torch.equal(regraft.load(tmp_path / "short").sample(3, 1), short.gan.sample(3, 1))


def test_refusals(photos, source_folder, tmp_path):
    regraft.adapt(photos, source_folder, method="freezed", steps=2, batch=4, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="--more 0"):
        lengthen(tmp_path / "run", tmp_path / "x", 0)
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        lengthen(tmp_path / "run", tmp_path / "run", 3)
    state = torch.load(tmp_path / "run" / "state" / "last.pt", weights_only=True)
    state["position"]["stopped"] = "no better for 8 measurements"
    torch.save(state, tmp_path / "run" / "state" / "last.pt")
    with pytest.raises(ConfigError, match="no better for 8 measurements"):
        lengthen(tmp_path / "run", tmp_path / "x", 3)
    changed = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(changed.replace("seed: 0", "seed: 1"))
    with pytest.raises(ConfigError, match="config.yaml was changed"):
        lengthen(tmp_path / "run", tmp_path / "x", 3)
    (tmp_path / "run" / "config.yaml").write_text(changed)
    (tmp_path / "run" / "state" / "last.pt").unlink()
    with pytest.raises(ConfigError, match="no saved state"):
        lengthen(tmp_path / "run", tmp_path / "x", 3)
    (tmp_path / "run" / "state" / "run.json").unlink()
    with pytest.raises(ConfigError, match="no run that can be resumed"):
        lengthen(tmp_path / "run", tmp_path / "x", 3)
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="--more 3: untouched trains nothing"):
        regraft.adapt(photos, source_folder, method="untouched", more=3, write=False)
