"""Runs, adapters and sources that an earlier regraft wrote still load, sample the same numbers, and resume.

``commit-c7db77f.zip`` was written by that commit on toy sources of 8x8 pixels: ``sources/``, a finished run of every method in
``runs/``, the same runs stopped after one step of their last phase in ``stopped/``, sources made by ``pretrain`` in
``pretrained/``, and in ``expected.npz`` four samples of seed 3 of each.
"""

import pathlib
import zipfile

import numpy as np
import pytest
import torch

import regraft
from regraft.core.networks import evaluating

ARCHIVE = pathlib.Path(__file__).parent / "commit-c7db77f.zip"
NAMES = zipfile.ZipFile(ARCHIVE).namelist()
RUNS = sorted({name.split("/")[1] for name in NAMES if name.startswith("runs/") and name.count("/") > 1})
STOPPED = sorted({name.split("/")[1] for name in NAMES if name.startswith("stopped/") and name.count("/") > 1})
ADAPTED = [name for name in STOPPED if not name.startswith("pretrained-")]
PRETRAINED = [name.removeprefix("pretrained-") for name in STOPPED if name.startswith("pretrained-")]
# Sums of float32 come out in another order on another machine; training enlarges that, and one grey level is 0.0078.
SAMPLED, TRAINED = 1e-5, 2e-3


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder of the archive."""
    folder = tmp_path_factory.mktemp("earlier")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def earlier(unpacked, monkeypatch):
    """The folder that the earlier runs name their images and sources from."""
    monkeypatch.chdir(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def expected(unpacked):
    """Samples that the earlier version drew, by name."""
    with np.load(unpacked / "expected.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def test_every_method_is_there():
    assert {"bsa", "freezed", "mind2mind", "minegan", "minegan-two", "scratch", "transfergan", "untouched"} <= set(RUNS)
    assert set(PRETRAINED) == {"dcgan", "autoencoder", "alae"}


@pytest.mark.parametrize("name", RUNS)
def test_an_adapter_samples_the_same_numbers(name, earlier, expected):
    images = regraft.load_adapter(f"runs/{name}").sample(4, 3)
    assert (images - expected[name]).abs().max() < SAMPLED


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_source_samples_the_same_numbers(name, earlier, expected):
    images = regraft.load(f"pretrained/{name}").sample(4, 3)
    assert (images - expected[f"pretrained-{name}"]).abs().max() < SAMPLED


@pytest.mark.parametrize("name", sorted({n.split("/")[1] for n in NAMES if n.startswith("sources/") and n.count("/") > 1}))
def test_a_source_is_used(name, earlier):
    gan = regraft.load(f"sources/{name}")
    with evaluating(gan.generator), torch.no_grad():
        images = gan.sample(2, 0)
        assert torch.isfinite(images).all()
        assert gan.critic is not None
        assert torch.isfinite(gan.critic(images)).all()


@pytest.mark.parametrize("name", ADAPTED)
def test_a_stopped_run_goes_on_to_the_same_end(name, earlier, expected):
    run = regraft.adapt(out=f"stopped/{name}", resume=True)
    assert (run.gan.sample(4, 3) - expected[name]).abs().max() < TRAINED
    assert (regraft.load_adapter(f"stopped/{name}").sample(4, 3) - expected[name]).abs().max() < TRAINED


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_stopped_pretraining_goes_on_to_the_same_end(name, earlier, expected):
    gan = regraft.pretrain(out=f"stopped/pretrained-{name}", resume=True)
    assert (gan.sample(4, 3) - expected[f"pretrained-{name}"]).abs().max() < TRAINED


@pytest.mark.parametrize("name", ["freezed", "minegan-two", "bsa"])
def test_a_finished_run_is_reported_and_made_longer(name, earlier):
    page = regraft.report(f"runs/{name}", f"{name}.html")
    assert "not shown" not in page.read_text()
    regraft.lengthen(f"runs/{name}", f"longer-{name}", 2)
    run = regraft.adapt(out=f"longer-{name}", resume=True)
    assert run.step <= 10
    assert '"step": 10' in (pathlib.Path(f"longer-{name}") / "metrics.jsonl").read_text()
