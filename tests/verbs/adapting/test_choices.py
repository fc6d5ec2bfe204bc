"""Choices that a user leaves open."""

import pytest
import torch

from regraft.core.errors import ConfigError
from regraft.verbs.adapting import choices


def blobs(n, mirrored_too):
    """Bright blobs at the left; at either side if ``mirrored_too``."""
    rng = torch.Generator().manual_seed(0)
    x = torch.full((n, 1, 16, 16), -1.0)
    for k in range(n):
        row, column = torch.randint(3, 12, (), generator=rng), torch.randint(1, 5, (), generator=rng)
        if mirrored_too and k % 2:
            column = 14 - column
        x[k, 0, row - 1 : row + 2, column - 1 : column + 2] = 1
    return x


def test_mirroring_is_off_where_mirror_images_are_foreign():
    on, reason = choices.flip("auto", blobs(25, mirrored_too=False))
    assert not on
    assert "farther from the set" in reason
    on, reason = choices.flip("auto", blobs(26, mirrored_too=True))
    assert on
    assert choices.flip("on", blobs(25, False)) == (True, None)
    assert choices.flip("auto", blobs(2, False))[0] is False


def test_mirroring_is_decided_on_a_part_of_many_images(monkeypatch):
    compared = []

    def noted(a, b):
        compared.append(len(a) * len(b))
        return cdist(a, b)

    cdist = torch.cdist
    monkeypatch.setattr(torch, "cdist", noted)
    # First the foreign ones: a part of the beginning would not see the others.
    images = torch.cat([blobs(2500, mirrored_too=False), blobs(5000, mirrored_too=False).flip(3)])
    assert choices.flip("auto", images)[0] is True
    assert max(compared) <= 2000**2


def test_method_choice_has_a_reason():
    assert choices.method("scratch", 25, 1, True) == ("scratch", None)
    for n_sources, critics in ((1, True), (1, False), (2, True)):
        name, reason = choices.method("auto", 25, n_sources, critics)
        assert name in reason
    with pytest.raises(ConfigError, match="which source"):
        choices.method("auto", 25, 0, True)
    assert choices.method("auto", 25, 1, False, only_encode=True)[0] == "mind2mind"


def test_few_images_of_a_class_are_no_class_unless_asked():
    names = ("a", "b", "c", "d", "e")
    chosen, note = choices.labels(None, names, [20, 20, 9, 20, 20], None)
    assert not chosen
    assert "a, b, c, d and 1 more" in note
    assert "class c has 9 images" in note
    assert choices.labels(True, names, [20, 20, 9, 20, 20], None) == (True, None)
