"""MineGAN: its settings, mining classes of one source, and mining several sources at once."""

import pytest

from regraft.core.config import parse
from regraft.core.errors import ConfigError


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
