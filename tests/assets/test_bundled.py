"""What ships in the package is small, whole and good enough to show."""

import pathlib

import pytest
import torch

import regraft
from regraft.extractors.classifier import class_logits
from regraft.verbs import load

ASSETS = pathlib.Path(regraft.__file__).parent / "assets"


def test_bundled_sources_are_small():
    assert set(load.bundled()) == {"digits", "digits-low", "digits-high"}
    assert sum(p.stat().st_size for p in (ASSETS / "sources").rglob("*") if p.is_file()) <= 3 << 20


@pytest.mark.parametrize("name", ["digits", "digits-low", "digits-high"])
def test_bundled_sources_load_with_critic_and_licence(name):
    gan = regraft.load(name)
    assert gan.generator.size == (32, 32)
    assert gan.generator.n_classes == (10 if name == "digits" else 0)
    assert gan.critic is not None
    assert gan.provenance.licence == "Apache-2.0"
    images = gan.sample(32, 0)
    assert images.std() > 0.4


def test_bundled_targets_are_another_data_set():
    listed = regraft.open_images(load.bundled_images("scanned-sixes"))
    assert len(listed) == 25
    images = listed.decode((32, 32), 1)
    assert any("enlarged" in note for note in images.notes)


def test_conditional_source_draws_the_digit_it_is_asked_for(shared):
    lenet = shared / "data" / "weights" / "mnist_classifier_lenet.pth"
    y = torch.arange(10).repeat_interleave(30)
    found = class_logits(lenet, regraft.load("digits").sample(300, 0, y=y)).argmax(1)
    for digit in range(10):
        assert (found[y == digit] == digit).float().mean() > 0.85, digit


@pytest.mark.parametrize(("name", "digits"), [("digits-low", range(5)), ("digits-high", range(5, 10))])
def test_unconditional_sources_draw_all_their_digits(shared, name, digits):
    lenet = shared / "data" / "weights" / "mnist_classifier_lenet.pth"
    counts = torch.bincount(class_logits(lenet, regraft.load(name).sample(500, 0)).argmax(1), minlength=10)
    assert counts[list(digits)].min() > 30
    assert counts[list(digits)].sum() > 460
