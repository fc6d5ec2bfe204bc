"""The catalogue of public sources, with sources served from this machine."""

import json

import pytest
import torch
import yaml

import regraft
from regraft.cli.app import run
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import forbids_commerce, tensor_digest
from regraft.files import catalogue
from regraft.verbs import load
from support.toys import toy_gan
from support.web import serving

LISTED = catalogue.sources()


def test_every_source_says_what_a_user_must_know():
    assert len(LISTED) > 70
    for name, source in LISTED.items():
        assert source.licence, name
        assert source.page.startswith("https://"), name
        assert source.dataset, name
        assert all(u.startswith("https://") and "{" not in u for u in source.urls), name
        assert source.names
        assert all("/" not in local for local in source.names)
        assert str(source.resolution or "") in name
        if not source.url:
            assert source.page in source.by_hand
            assert "--source FILE" in source.by_hand
    addresses = [u for s in LISTED.values() for u in s.urls]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize(
    "name",
    ["stylegan2-ada-ffhq-1024", "stylegan2-ffhq-256", "stylegan3-r-afhqv2-512", "fewshot-ffhq-256", "rosinality-ffhq-256"],
)
def test_noncommercial_sources_are_marked(name):
    assert LISTED[name].noncommercial


def test_the_mark_and_the_words_agree():
    for source in LISTED.values():
        assert bool(source.noncommercial) == forbids_commerce(source.licence), source.name
    assert not forbids_commerce(None)
    assert not forbids_commerce("MIT")
    assert forbids_commerce("cc-by-nc-4.0")


def test_families_of_files(monkeypatch, tmp_path):
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path))
    deep = LISTED["biggan-deep-imagenet-128"]
    assert deep.path == tmp_path / deep.name
    assert set(deep.names) == {"config.json", "pytorch_model.bin"}
    assert deep.urls[0] == "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-128-config.json"
    assert LISTED["alae-ffhq-1024"].path.name == "model_submitted.pth"
    assert LISTED["mlp-mnist-28"].path.name == "G.ckpt"
    assert LISTED["progan-celebahq-256"].sha256 == "6196db68"


@pytest.fixture
def site(monkeypatch, tmp_path):
    """Three sources on a server: one file with a sha256, a folder under a licence, and one by hand."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "REGRAFT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    gan = toy_gan()
    folder = regraft.convert(gan, tmp_path / "served")
    torch.save({"netG": toy_gan(seed=1).generator.state_dict()}, tmp_path / "plain.pth")
    with serving() as (site, address):
        site.files["/toy/source.json"] = (folder / "source.json").read_bytes()
        site.files["/toy/weights"] = (folder / "model.safetensors").read_bytes()
        listed = {
            "catalogue": 1,
            "groups": [
                {
                    "family": "dcgan",
                    "licence": "Some licence, non-commercial",
                    "noncommercial": True,
                    "page": "https://example.org",
                    "url": address + "/toy/{file}",
                    "sources": [
                        {
                            "name": "toy-8",
                            "dataset": "blobs",
                            "resolution": 8,
                            "size_mb": 0.1,
                            "files": {"source.json": "source.json", "model.safetensors": "weights"},
                        },
                        {"name": "gone-8", "file": "gone.pth"},
                    ],
                },
                {"licence": "MIT", "page": "https://example.org/drive", "sources": [{"name": "hand-8", "file": "g.pth"}]},
            ],
        }
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(listed))
        monkeypatch.setenv("REGRAFT_CATALOGUE", str(tmp_path / "own.yaml"))
        monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
        site.gan = gan
        yield site


def test_a_name_is_downloaded_once_and_carries_its_licence(site, tmp_path):
    events = []
    gan = load.load("toy-8", events.append)
    assert tensor_digest(gan.generator) == tensor_digest(site.gan.generator)
    assert (gan.provenance.name, gan.provenance.licence) == ("toy-8", "Some licence, non-commercial")
    assert gan.provenance.dataset == "blobs"
    assert gan.provenance.noncommercial
    assert {e["file"] for e in events} == {"source.json", "model.safetensors"}
    asked = len(site.log)
    regraft.load("toy-8")
    assert len(site.log) == asked == 2
    facts = regraft.inspect("toy-8")
    assert facts["noncommercial"]
    assert facts["licence"] == "Some licence, non-commercial"


def test_adapters_carry_the_licence_and_find_their_source(site, photos, tmp_path):
    notes = []
    run = regraft.adapt(
        photos,
        "toy-8",
        method="freezed",
        steps=2,
        out=tmp_path / "run",
        recipe={"batch": 4},
        on_event=lambda e: notes.append(e.get("text", "")),
    )
    assert any("toy-8: its licence (Some licence, non-commercial) forbids commercial use" in n for n in notes)
    record = json.loads((run.folder / "adapter_config.json").read_text())
    assert record["sources"][0]["licence"] == "Some licence, non-commercial"
    assert record["sources"][0]["noncommercial"] is True
    card = (run.folder / "README.md").read_text()
    assert "**Non-commercial use only**" in card
    assert 'license_name: "Some licence, non-commercial"' in card
    # An adapter alone, on another machine: the catalogue brings its source.
    (tmp_path / "moved").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "moved" / name).write_bytes((run.folder / name).read_bytes())
    for path in (tmp_path / "cache" / "toy-8").iterdir():
        path.unlink()
    again = regraft.load_adapter(tmp_path / "moved")
    assert torch.equal(again.sample(3), run.gan.sample(3))
    assert again.provenance.noncommercial
    # And what is made of the adapter inherits it in turn.
    whole = regraft.load(regraft.convert(run.folder, tmp_path / "whole"))
    assert whole.provenance.noncommercial
    second = regraft.adapt(photos, run.folder, method="transfergan", steps=1, out=tmp_path / "second", recipe={"batch": 4})
    assert "**Non-commercial use only**" in (second.folder / "README.md").read_text()


def test_by_hand(site, tmp_path):
    with pytest.raises(SourceError, match=r"hand-8: cannot be downloaded .* from https://example.org/drive by hand") as error:
        regraft.load("hand-8")
    place = tmp_path / "cache" / "hand-8"
    assert str(place) in str(error.value)
    place.mkdir(parents=True)
    torch.save(dict(toy_gan().generator.state_dict()), place / "g.pth")
    assert next(s for s in regraft.list_sources() if s["name"] == "hand-8")["cached"]
    assert regraft.load("hand-8").provenance.licence == "MIT"


def test_lists(site, capsys):
    listed = {s["name"]: s for s in regraft.list_sources()}
    assert listed["digits"]["kind"] == "bundled"
    assert listed["digits"]["resolution"] == 32
    assert listed["digits"]["licence"] == "Apache-2.0"
    assert all(set(s) >= {"name", "path", "kind", "cached", "licence", "noncommercial"} for s in listed.values())
    assert not listed["toy-8"]["cached"]
    assert listed["toy-8"]["path"] is None
    assert run(["inspect", "toy-8", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["name"] == "toy-8"
    assert "downloading toy-8: model.safetensors" in printed.err
    assert run(["sources", "--json"]) == 0
    rows = {s["name"]: s for s in json.loads(capsys.readouterr().out)}
    assert rows["toy-8"]["cached"]
    assert rows["toy-8"]["noncommercial"]
    assert run(["sources"]) == 0
    out = capsys.readouterr().out
    assert next(line for line in out.splitlines() if line.startswith("hand-8")).split()[1:3] == ["by", "hand"]
    assert next(line for line in out.splitlines() if line.startswith("toy-8")).split()[1] == "here"
    assert "licence: non-commercial" in out


def test_offline_on_the_command_line(site, capsys, monkeypatch):
    monkeypatch.setenv("REGRAFT_OFFLINE", "0")  # so that it is put back
    assert run(["--offline", "inspect", "toy-8"]) == 1
    assert "forbids downloads" in capsys.readouterr().err
    assert not site.log


def test_mistakes(site, tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"gone\.pth: HTTP 404 .*https://example\.org"):
        regraft.load("gone-8")
    with pytest.raises(SourceError, match="did you mean toy-8"):
        regraft.load("toi-8")
    with pytest.raises(SourceError, match="there are: digits"):
        regraft.load("zzzzzz")
    (tmp_path / "bad.yaml").write_text("catalogue: 1\ngroups: [{sources: [{name: ../up}]}]\n")
    monkeypatch.setenv("REGRAFT_CATALOGUE", str(tmp_path / "bad.yaml"))
    with pytest.raises(ConfigError, match=r"bad\.yaml: groups\.0\.sources\.0\.name"):
        regraft.list_sources()
