"""Images of a set that show the same picture."""

import pytest
import torch

from regraft.data import duplicates
from regraft.data.duplicates import find_duplicates, near_duplicates
from support.toys import rng, strokes


def _pixels(images):
    return images.add(1).mul(127.5).round().to(torch.uint8)


def test_a_set_without_duplicates():
    pixels = _pixels(strokes(60, 0, 32))
    found = find_duplicates(pixels)
    assert found.group.tolist() == list(range(60))
    assert (found.count, found.identical, found.example(), found.compared) == (0, 0, None, True)
    assert near_duplicates(pixels) == []


def test_identical_pixels_are_one_group_whatever_their_number():
    pixels = _pixels(strokes(10, 0, 32))
    found = find_duplicates(torch.cat([pixels, pixels, pixels[:5]]))
    assert found.group.tolist() == [*range(10), *range(10), *range(5)]
    assert found.identical == found.count == 15
    assert found.example() == (10, 0)


def test_two_images_are_compared_pixel_by_pixel():
    pixels = _pixels(strokes(1, 0, 32))
    assert find_duplicates(torch.cat([pixels, pixels])).group.tolist() == [0, 0]
    assert find_duplicates(pixels).group.tolist() == [0]


@pytest.mark.parametrize("colours", [1, 3])
def test_noise_and_mirrors_are_near_duplicates(colours):
    images = strokes(40, 0, 32).expand(-1, colours, -1, -1)
    noisy = images[5:7] + 0.02 * torch.randn(2, colours, 32, 32, generator=rng())
    pixels = _pixels(torch.cat([images, noisy, images[9:10].flip(3)]).clamp(-1, 1))
    found = find_duplicates(pixels)
    assert found.group[40:].tolist() == [5, 6, 9]
    assert (found.count, found.identical) == (3, 0)


def test_several_versions_of_one_picture_are_one_group():
    images = strokes(60, 0, 32)
    versions = images[7:8] + 0.01 * torch.randn(6, 1, 32, 32, generator=rng())
    found = find_duplicates(_pixels(torch.cat([versions, images]).clamp(-1, 1)))
    assert found.group[:6].tolist() == [0] * 6
    assert found.group[6 + 7] == 0
    assert found.count == 6


def test_a_chain_of_neighbours_is_one_group():
    images = strokes(100, 0, 32)
    steps = torch.linspace(0, 1, 41)[:, None, None, None]
    chain = images[:1] * (1 - steps) + images[1:2] * steps
    order = torch.randperm(len(chain), generator=rng())
    found = find_duplicates(_pixels(torch.cat([images[2:], chain[order]])))
    assert found.group[98:].unique().tolist() == [98]
    assert found.group[:98].tolist() == list(range(98))


def test_of_very_many_images_only_identical_ones_are_found(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_COMPARED", 20)
    pixels = _pixels(strokes(20, 0, 32))
    found = find_duplicates(torch.cat([pixels, pixels[3:4], pixels[4:5] ^ 1]))
    assert found.group[20:].tolist() == [3, 21]
    assert not found.compared
