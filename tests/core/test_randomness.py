"""Draws are functions of seed and place alone."""

import torch

from regraft.core.randomness import derive, generator_at, global_seed, normal, row_generators, subset, uniform


def test_derive_is_stable():
    """The seeds of old runs must mean the same in new versions."""
    assert derive(0, "latent", 0) == 4566096995707609340
    assert derive(1, "order", 2) != derive(1, "order", 3) != derive(2, "order", 2)


def test_a_subset_is_the_seeds_and_in_order():
    some = subset(1000, 100, 0)
    assert some == subset(1000, 100, 0) == sorted(set(some))
    assert some != subset(1000, 100, 1)
    assert 350 < sum(some) / 100 < 650
    assert subset(5, 5, 0) == subset(5, 9, 3) == [0, 1, 2, 3, 4]


def test_row_generators_serve_maps():
    like = torch.empty(0)
    rows = normal((3, 2, 4), row_generators(0, "noise", [5, 6, 7]), like)
    again = normal((1, 2, 4), row_generators(0, "noise", [6]), like)
    assert torch.equal(rows[1:2], again)
    assert uniform((2, 3), generator_at(0, "x"), like).shape == (2, 3)


def test_global_seed_puts_the_state_back():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with global_seed(4):
        first = torch.rand(3)
    with global_seed(4):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())
