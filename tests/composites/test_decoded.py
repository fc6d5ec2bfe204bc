"""Generators of codes with a decoder behind them."""

import torch

from regraft.composites.decoded import fit_prior, gaussian_prior
from support.toys import toy_autoencoder


def test_gaussian_prior_gives_back_the_codes_distribution():
    autoencoder = toy_autoencoder()
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=rng) * 0.3
    found = torch.tanh(torch.randn(4000, 6, generator=rng) @ mixing + 0.2)
    generator = gaussian_prior(autoencoder)
    fit_prior(generator, found)
    made = generator.codes(generator.latent.at(0, range(4000)))
    assert (made.mean(0) - found.mean(0)).abs().max() < 0.05
    assert (torch.cov(made.T) - torch.cov(found.T)).abs().max() < 0.03
    assert torch.allclose(generator.codes(torch.zeros(1, 6), psi=0.0)[0], found.mean(0), atol=1e-5)
