"""Mistakes in settings are all named at once, with the nearest known name."""

import pytest

from regraft.core.config import Objective, Recipe, merge, parse, parse_overrides, read_yaml
from regraft.core.errors import ConfigError
from regraft.core.jobs import AdaptJob


def test_every_mistake_is_named():
    with pytest.raises(ConfigError) as error:
        parse(Objective, {"los": "wgan", "penalty_weight": -1, "critic_steps": "many"}, "job.yaml")
    text = str(error.value)
    assert text.startswith("job.yaml: ")
    assert "no setting called los; did you mean loss?" in text
    assert "penalty_weight: " in text
    assert "critic_steps: " in text


def test_nested_mistakes_name_their_path():
    with pytest.raises(ConfigError, match=r"settings: no setting called miner\.fom; did you mean form\?"):
        from regraft.methods.minegan import MineGANConfig

        parse(MineGANConfig, {"miner": {"fom": "mlp"}}, "settings")


def test_unknown_objective_lists_what_there_is():
    with pytest.raises(ConfigError, match="no objective called wgan_gp; did you mean wgan-gp"):
        parse(AdaptJob, {"images": "x", "objective": "wgan_gp"}, "settings")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().batch = 3


def test_overrides_nest_and_read_numbers():
    given = parse_overrides(["a.b=1", "a.c=2e-4", "d=text", "e=[1, 2]", "f=true", "g="])
    assert given == {"a": {"b": 1, "c": 2e-4}, "d": "text", "e": [1, 2], "f": True, "g": ""}


@pytest.mark.parametrize("pairs", [["novalue"], ["=1"], ["a=1", "a.b=2"]])
def test_unreadable_overrides(pairs):
    with pytest.raises(ConfigError, match="--set"):
        parse_overrides(pairs)


def test_merge_keeps_what_is_not_overridden():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "1: x", "\x00"])
def test_yaml_that_is_no_mapping(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        read_yaml(path, "settings")


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: !!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(ConfigError):
        read_yaml(path, "settings")
