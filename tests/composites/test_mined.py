"""Miners: published forms, the residual one, miners of classes, and generators that use them."""

import pytest
import torch

from regraft.composites.mined import MinedGenerator, Miner, MinerConfig, mined_class_shares, prior_gap, with_miners
from regraft.core import discover
from regraft.core.build import build_with
from regraft.core.config import parse
from regraft.core.errors import ConfigError
from regraft.core.gan import tensor_digest
from regraft.core.latent import Latent
from support.mining import conditional
from support.plugins import find_plugin
from support.toys import rng, toy_gan

CONDITIONAL = [name for name in discover.names("backbones") if find_plugin("backbones", name).conditional]


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


@pytest.mark.parametrize(
    "latent",
    [Latent(3), Latent(3, "uniform", 2.0), Latent(3, "truncated_normal", 1.5), Latent(3, "sphere")],
    ids=lambda latent: latent.distribution,
)
def test_variance_is_that_of_draws(latent):
    z = latent.sample(200_000, torch.Generator().manual_seed(0))
    assert z.var().item() == pytest.approx(latent.variance, rel=0.01)


def test_prior_gap_is_squared_mean_plus_squared_shortfall():
    """z = s u + m per dimension: mean m, variance s^2; only too little spread counts."""
    miner = Miner(MinerConfig(form="mlp", layers=1), Latent(2))
    with torch.no_grad():
        miner.layers[0].weight.copy_(torch.diag(torch.tensor([0.5, 3.0])))
        miner.layers[0].bias.copy_(torch.tensor([0.0, 2.0]))
    gap = prior_gap(miner, 2.0, torch.Generator().manual_seed(0), torch.device("cpu"), n=200_000)
    assert gap.item() == pytest.approx(2 * ((0 + 4) / 2 + (0.75**2 + 0) / 2), rel=0.02)


def test_an_identity_miner_has_no_gap():
    miner = Miner(MinerConfig(), Latent(4, "uniform"))
    miner.initialise(torch.Generator().manual_seed(0))
    assert prior_gap(miner, 1.0, torch.Generator().manual_seed(0), torch.device("cpu"), n=100_000).item() < 1e-3


def test_a_residual_miner_has_no_input_size_of_its_own():
    with pytest.raises(ConfigError, match="input_dim=5: a residual miner's input has the size of the latent"):
        parse(MinerConfig, {"input_dim": 5}, "miner")


@pytest.mark.parametrize("form", ["onehot", "embedding"])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_classes_of_every_family_can_be_mined(name, form):
    source = conditional(name)
    made = with_miners(MinerConfig(classes=form), source.generator).eval()
    made.initialise(rng())
    assert made.n_classes == 0
    u = made.latent.sample(4, rng(1))
    images = made(u)
    assert torch.isfinite(images).all()
    again = build_with(made.describe(), made.state_dict(), "test")
    assert torch.equal(again(u), images)
    images.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.class_miner.parameters())
    assert mined_class_shares(made).sum().item() == pytest.approx(1, abs=1e-4)


def test_onehot_weights_are_mixed_by_the_sources_own_table():
    source = conditional()
    made = with_miners(MinerConfig(classes="onehot"), source.generator).eval()
    made.initialise(rng())
    u = made.latent.sample(4, rng(1))
    weights = made.class_miner.raw(u).softmax(1)
    assert torch.allclose(made(u), source.generator(u, source.generator.embed(weights)))


def test_a_new_class_miner_spreads_over_all_classes():
    source = toy_gan(n_classes=10, latent_dim=64, width=4)
    made = with_miners(MinerConfig(classes="onehot"), source.generator)
    made.initialise(rng())
    weights = made.class_miner.raw(made.latent.sample(2000, rng(1))).softmax(1)
    assert weights.max(1).values.median() > 0.7
    assert weights.mean(0).min() > 0.05


def test_a_new_embedding_has_mean_and_spread_of_the_classes():
    source = toy_gan(n_classes=10, latent_dim=64, width=4)
    made = with_miners(MinerConfig(classes="embedding"), source.generator)
    made.initialise(rng())
    table = source.generator.embed(torch.arange(10)).vector
    codes = made.class_miner(made.latent.sample(4000, rng(1)), source.generator).vector
    assert (codes.mean(0) - table.mean(0)).abs().max() < 0.2
    assert (codes.std(0) - table.std(0, correction=0)).abs().max() < 1.5


def test_mined_classes_are_the_nearest_ones():
    source = toy_gan(n_classes=4, latent_dim=6, width=4)
    with torch.no_grad():
        for norm in source.generator.norms:
            if hasattr(norm, "gain"):
                norm.gain.copy_(torch.randn(norm.gain.shape, generator=rng(1)))
                norm.shift.copy_(torch.randn(norm.shift.shape, generator=rng(2)))
    for form in ("onehot", "embedding"):
        made = with_miners(MinerConfig(classes=form), source.generator)
        table = source.generator.embed(torch.arange(4)).vector
        with torch.no_grad():
            for p in made.class_miner.parameters():
                p.zero_()
            own = (
                (table[2] - made.class_miner.centre) / made.class_miner.spread if form == "embedding" else torch.eye(4)[2] * 50
            )
            made.class_miner.layers[1].bias.copy_(own)
        assert mined_class_shares(made).tolist() == pytest.approx([0, 0, 1, 0], abs=1e-3)
