"""Miners: published forms, the residual one, and generators that use them."""

import pytest
import torch

from regraft.build import build_with
from regraft.gan import Latent, tensor_digest
from regraft.mining import MinedGenerator, Miner, MinerConfig


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def miner(latent=None, **config):
    made = Miner(MinerConfig(**config), latent or Latent(6))
    made.initialise(rng())
    return made


@pytest.mark.parametrize("latent", [Latent(6), Latent(6, "uniform")])
def test_residual_starts_as_the_identity(latent):
    made = miner(latent)
    u = made.latent.sample(10, rng(1))
    assert torch.equal(made(u), u)
    assert made.latent == latent


def test_mnist_form_is_two_layers_from_a_small_normal_input():
    made = miner(Latent(16), form="mlp", input_dim=4)
    assert made.latent == Latent(4)
    assert [tuple(layer.weight.shape) for layer in made.layers] == [(16, 4), (16, 16)]
    z = made(made.latent.sample(20_000, rng(1)))
    # The spec's value for Glorot weights and this shape.
    assert z.square().mean().sqrt().item() == pytest.approx(0.44, abs=0.12)


def test_affine_form_is_a_rotation_at_first_and_stays_affine():
    made = miner(form="affine", layers=4).train()
    u = made.latent.sample(10, rng(1))
    for _ in range(30):
        made(u)  # power iterations settle
    made.eval()
    z = made(u)
    assert torch.allclose(z.norm(dim=1), u.norm(dim=1), rtol=1e-3)
    assert torch.allclose(made(2 * u) - made(0 * u), 2 * (z - made(0 * u)), atol=1e-5)


@pytest.mark.parametrize("config", [{}, {"form": "mlp", "input_dim": 3, "layers": 4, "width": 9}, {"form": "affine"}])
def test_mined_generator_describes_itself(gan, config):
    made = MinedGenerator(miner(gan.generator.latent, **config), gan.generator).eval()
    u = made.latent.sample(3, rng(2))
    again = build_with(made.describe(), made.state_dict(), "test")
    assert torch.equal(again(u), made(u))
    assert tensor_digest(again) == tensor_digest(made)


def test_truncation_scales_the_miners_input(gan):
    made = MinedGenerator(miner(gan.generator.latent), gan.generator)
    u = made.latent.sample(3, rng(2))
    assert torch.equal(made(u, psi=0.5), made(u * 0.5))


def test_making_a_miner_draws_nothing_global():
    state = torch.get_rng_state()
    for form in ("residual", "mlp", "affine"):
        Miner(MinerConfig(form=form), Latent(5))
    assert torch.equal(state, torch.get_rng_state())
