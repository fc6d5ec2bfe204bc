"""Latents: draws that do not depend on batching, and moments of their distributions."""

import pytest
import torch

from regraft.core.latent import Latent


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
