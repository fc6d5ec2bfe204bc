"""Adapter folders: small, strict about their source, hostile content refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import regraft
from regraft.core.errors import AdapterError, ConfigError
from regraft.core.gan import tensor_digest
from support.toys import toy_gan


@pytest.fixture
def mined(photos, source_folder, tmp_path):
    """A mining-only run."""
    return regraft.adapt(
        photos, source_folder, method="minegan", out=tmp_path / "run", mining_steps=4, finetuning_steps=0, batch=4, seed=1
    )


def test_folder_holds_what_it_should_and_no_image(mined):
    folder = mined.folder
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
        "config.yaml",
        "metrics.jsonl",
        "samples",
        "state",
        "scores.json",
        "verdict.json",
        "report.html",
    }
    tensors = load_file(folder / "adapter_model.safetensors")
    assert all(name.startswith("miner.") for name in tensors), "mining alone changes nothing else"
    record = json.loads((folder / "adapter_config.json").read_text())
    assert record["sources"][0]["generator_digest"] == tensor_digest(toy_gan().generator)
    assert record["stored"] == "changed"
    assert record["data"]["n"] == 12
    assert "time" not in json.dumps(record)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "base_model" in card


def test_a_mining_adapter_for_100_numbers_is_well_under_a_megabyte(photos, tmp_path):
    gan = toy_gan(width=8, latent_dim=100)
    run = regraft.adapt(photos, gan, method="minegan", out=tmp_path / "run", mining_steps=2, finetuning_steps=0, batch=4)
    assert (run.folder / "adapter_model.safetensors").stat().st_size < 200_000


def test_another_source_is_refused_with_both_digests(mined):
    other = toy_gan(seed=1)
    with pytest.raises(AdapterError) as error:
        regraft.load_adapter(mined.folder, sources=[other])
    assert tensor_digest(toy_gan().generator)[:16] in str(error.value)
    assert tensor_digest(other.generator)[:16] in str(error.value)


def test_a_conversion_of_the_source_is_the_same_source(mined, source_folder, tmp_path):
    again = regraft.convert(source_folder, tmp_path / "again")
    loaded = regraft.load_adapter(mined.folder, sources=[again])
    assert torch.equal(loaded.sample(4), mined.gan.sample(4))


def test_sources_are_found_by_the_run_or_named_in_the_error(mined, source_folder):
    assert torch.equal(regraft.load_adapter(mined.folder).sample(4), mined.gan.sample(4))
    source_folder.rename(source_folder.with_name("elsewhere"))
    with pytest.raises(AdapterError, match="needs its source toy, .*name it with"):
        regraft.load_adapter(mined.folder)


def test_an_adapter_is_a_source(mined, photos, tmp_path):
    assert torch.equal(regraft.load(mined.folder).sample(4), mined.gan.sample(4))
    second = regraft.adapt(photos, mined.folder, method="transfergan", out=tmp_path / "second", steps=2, batch=4)
    record = json.loads((second.folder / "adapter_config.json").read_text())
    assert record["sources"][0]["lineage"][0]["name"] == "toy"
    assert torch.equal(regraft.load(second.folder).sample(4), second.gan.sample(4))


def test_merging_gives_a_stand_alone_source(mined, tmp_path, source_folder):
    whole = regraft.convert(mined.folder, tmp_path / "whole")
    for path in source_folder.iterdir():
        path.unlink()
    assert torch.equal(regraft.load(whole).sample(4), mined.gan.sample(4))
    assert regraft.inspect(whole)["backbone"] == "mined"


def test_scratch_needs_no_source_to_load(photos, source_folder, tmp_path):
    run = regraft.adapt(photos, source_folder, method="scratch", out=tmp_path / "run", steps=3, batch=4)
    for path in source_folder.iterdir():
        path.unlink()
    assert torch.equal(regraft.load_adapter(run.folder).sample(4), run.gan.sample(4))


def test_the_trained_critic_comes_back_with_the_run(mined):
    again = regraft.load(mined.folder)
    assert tensor_digest(again.critic) == tensor_digest(mined.gan.critic)
    assert tensor_digest(again.critic) != tensor_digest(toy_gan().critic)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format_version=2), "adapter format 2"),
        (lambda r: r.update(format="other"), "not a readable adapter description"),
        (lambda r: r.update(method="mingan"), "did you mean minegan"),
        (lambda r: r["config"].update(surprise=1), "no setting called surprise"),
        (lambda r: r["config"].update(miner={"width": 9}), "wrong shape"),
        (lambda r: r["image"].update(size=[9, 9]), "made for images of"),
        (lambda r: r.pop("image"), "does not hang together"),
    ],
)
def test_a_changed_description_is_a_clear_error(mined, change, message):
    path = mined.folder / "adapter_config.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises((AdapterError, ConfigError), match=message):
        regraft.load_adapter(mined.folder)


def test_changed_missing_and_damaged_tensors(mined):
    path = mined.folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(iter(tensors))
    for changed in (
        tensors | {"source.nonsense": torch.zeros(1)},
        {k: v for k, v in tensors.items() if k != first},
        tensors | {first: tensors[first] + 1},
    ):
        save_file(changed, path)
        with pytest.raises(AdapterError, match="its tensors are not those that"):
            regraft.load_adapter(mined.folder)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AdapterError, match="damaged or missing"):
        regraft.load_adapter(mined.folder)


def test_a_folder_without_adapter(tmp_path):
    with pytest.raises(AdapterError, match=r"holds no adapter_config\.json"):
        regraft.load_adapter(tmp_path)
