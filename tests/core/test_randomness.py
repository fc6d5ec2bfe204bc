"""Draws are functions of seed and place alone."""

import pytest
import torch

from regraft.core.latent import Latent
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


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform", "sphere"])
def test_latents_do_not_depend_on_batching(distribution):
    latent = Latent(7, distribution)
    whole = latent.at(3, range(10))
    parts = torch.cat([latent.at(3, range(4)), latent.at(3, range(4, 10))])
    assert torch.equal(whole, parts)
    assert torch.equal(whole[[7]], latent.at(3, [7]))
    assert not torch.equal(whole, latent.at(4, range(10)))


def test_distributions_have_their_moments():
    rng = torch.Generator().manual_seed(0)
    z = Latent(50, "normal").sample(2000, rng)
    assert z.mean().abs() < 0.02
    assert abs(z.std() - 1) < 0.02
    z = Latent(50, "uniform", 2.0).sample(2000, rng)
    assert z.abs().max() <= 2
    assert abs(z.var() - 4 / 3) < 0.03
    z = Latent(50, "truncated_normal", 1.5).sample(2000, rng)
    assert z.abs().max() <= 1.5
    # Variance of N(0, 1) cut at +-b is 1 - 2 b phi(b) / (2 Phi(b) - 1).
    assert abs(z.var() - (1 - 2 * 1.5 * 0.1295176 / 0.8663856)) < 0.02
    z = Latent(50, "sphere").sample(2000, rng)
    assert torch.allclose(z.norm(dim=1), torch.ones(2000), atol=1e-5)


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
