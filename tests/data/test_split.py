"""Which images a run holds out."""

import dataclasses

import pytest
import torch

from regraft.core.jobs import AdaptJob
from regraft.core.randomness import generator_at
from regraft.data import rules
from regraft.data.split import _interleave_classes, held_out_count, split_images
from support.toys import toy_images


def _places(part):
    """Numbers of images of a part of a set, whose names are their numbers."""
    return sorted(int(name) for name in part.names)


def _numbered(pixels, labels=None, classes=()):
    return dataclasses.replace(
        toy_images(4), pixels=pixels, names=tuple(map(str, range(len(pixels)))), labels=labels, classes=classes
    )


def _job(seed=0, held_out=None):
    return AdaptJob(images="photos", seed=seed, held_out=held_out)


def test_held_out_images_are_of_all_classes():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = _interleave_classes(torch.randperm(100, generator=torch.Generator().manual_seed(0)), labels)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.bincount(labels[order[:10]]).tolist() == [6, 3, 1]


@pytest.mark.parametrize(("n", "least", "most"), [(4, 1, 2), (10, 2, 3), (25, 3, 6), (100, 8, 20), (10_000, 100, 1000)])
def test_held_out_is_a_modest_share(n, least, most):
    assert least <= held_out_count(n) <= most


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_without_duplicates_the_split_is_that_of_the_first_rules(seed, labelled):
    labels = torch.arange(60) % 3 if labelled else None
    images = _numbered(toy_images(60, 16).pixels, labels, ("a", "b", "c") if labelled else ())
    old, new = (split_images(images, _job(seed), "photos", version) for version in (rules.FIRST, rules.NEWEST))
    assert new.held.names == old.held.names
    assert new.train.digest == old.train.digest
    assert (new.notes, new.cautions, new.wanted) == ((), (), 10)
    if not labelled:  # the order that runs have always drawn
        order = torch.randperm(60, generator=generator_at(seed, "held out"))
        assert _places(old.held) == sorted(order[:10].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_copies_lie_on_one_side(seed):
    pixels = toy_images(40, 16).pixels
    images = _numbered(torch.cat([pixels, pixels[:20], pixels[:5]]))
    split = split_images(images, _job(seed), "photos")
    held, train = set(_places(split.held)), set(_places(split.train))
    assert held | train == set(range(65))
    picture = [*range(40), *range(20), *range(5)]
    assert not {picture[k] for k in held} & {picture[k] for k in train}
    assert len(held) == 10
    assert "25 of 65 images show what another one shows, pixel for pixel" in split.notes[0]
    assert "25 of the 65 target images" in split.cautions[0]
    first = split_images(images, _job(seed), "photos", rules.FIRST)
    assert first.notes == ()


@pytest.mark.parametrize("seed", range(5))
def test_classes_keep_their_shares_though_copies_stay_together(seed):
    pixels = toy_images(60, 16).pixels
    labels = torch.tensor([0] * 40 + [1] * 20)
    images = _numbered(torch.cat([pixels, pixels]), torch.cat([labels, labels]), ("many", "few"))
    split = split_images(images, _job(seed, held_out=12), "photos")
    assert torch.bincount(split.held.labels).tolist() == [8, 4]
    held = set(split.held.names)
    assert {str((int(name) + 60) % 120) for name in held} == held


def test_one_group_too_large_to_hold_out_stays_in_training():
    pixels = toy_images(12, 16).pixels
    images = _numbered(torch.cat([pixels[:1].expand(20, -1, -1, -1), pixels[1:]]))
    split = split_images(images, _job(), "photos")
    assert split.held.n == split.wanted == 6
    assert not {str(k) for k in range(20)} & set(split.held.names)


def test_pairs_only_and_an_odd_number():
    pixels = toy_images(20, 16).pixels
    images = _numbered(torch.cat([pixels, pixels]))
    split = split_images(images, _job(held_out=5), "photos")
    assert split.held.n in (4, 6)
    assert split.wanted == 5
    assert f"so {split.held.n} images are held out and not 5" in split.notes[0]
    # A resumed run asks for what was wanted, and gets the same images.
    assert split_images(images, _job(held_out=split.wanted), "photos").held.names == split.held.names


def test_nothing_is_held_out_of_two_pictures():
    pixels = toy_images(2, 16).pixels
    images = _numbered(pixels[torch.arange(20) % 2])
    split = split_images(images, _job(held_out=2), "photos")
    assert split.held is None
    assert "so 0 images are held out and not 2" in split.notes[0]
