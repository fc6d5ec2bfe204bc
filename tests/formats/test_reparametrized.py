"""Weights under torch's spectral and weight normalisation, of either generation, read as the layers use them."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import regraft
from regraft.formats._reparametrized import baked, with_old_names
from support import resnet_files as files
from support.home_made import convs, deconvs, settle
from support.resnet_files import close, pictures


def wrapped(network, wrap, kinds=nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
    return nn.Sequential(*(wrap(layer) if isinstance(layer, kinds) else layer for layer in network))


def trained(network, x):
    """A few steps, after which the vectors lag behind the weights."""
    rate = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(4):
        rate.zero_grad()
        network.train()(x).square().mean().backward()
        rate.step()
    return network.eval()


WRAPS = {
    "spectral, old": spectral_norm,
    "spectral, new": parametrizations.spectral_norm,
    "weight, old": weight_norm,
    "weight, new": parametrizations.weight_norm,
    "weight, along inputs": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight, one length": lambda layer: parametrizations.weight_norm(layer, dim=None),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("wrap", WRAPS)
def test_home_made_pairs(tmp_path, wrap):
    torch.manual_seed(0)
    critic = trained(wrapped(convs(3, 4, 6, 6), WRAPS[wrap]), torch.randn(4, 3, 32, 32))
    generator = settle(trained(wrapped(deconvs(12, 8, 6), WRAPS[wrap]), torch.randn(4, 10, 1, 1)))
    torch.save({"netG": generator.state_dict(), "netD": critic.state_dict()}, tmp_path / "x.pth")
    gan = regraft.load(tmp_path / "x.pth")
    x, z = torch.randn(2, 3, 32, 32), torch.randn(2, 10)
    assert torch.allclose(gan.critic(x), critic(x).flatten(), atol=1e-5)
    assert torch.allclose(gan.generator(z), generator(z[:, :, None, None]), atol=1e-5)


def test_square_transposed_convolutions():
    """Where inputs and outputs are as many, the vectors alone say along which axis they are."""
    torch.manual_seed(0)
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        layer = trained(nn.Sequential(parametrizations.spectral_norm(kind(6, 6, 4, 2, 1))), torch.randn(2, 6, 8, 8))
        plain = baked(with_old_names(layer.state_dict()))
        assert plain.keys() == {"0.weight", "0.bias"}
        assert torch.allclose(plain["0.weight"], layer[0].weight, atol=1e-6)


def test_files_of_before_torch_1_lack_v():
    torch.manual_seed(0)
    layer = spectral_norm(nn.Conv2d(5, 4, 3), n_power_iterations=200)
    layer(torch.randn(1, 5, 8, 8))
    layer.eval()(torch.randn(1, 5, 8, 8))
    old = {f"0.{name}": value for name, value in layer.state_dict().items() if name != "weight_v"}
    assert torch.allclose(baked(old)["0.weight"], layer.weight, atol=1e-5)


def test_other_parametrizations_keep_their_names():
    layer = parametrizations.orthogonal(nn.Linear(3, 3))
    assert with_old_names(layer.state_dict()).keys() == layer.state_dict().keys()
    twice = parametrizations.spectral_norm(nn.Conv2d(2, 2, 1)).state_dict()
    both = twice | {"weight_orig": torch.zeros(2, 2, 1, 1)}
    assert with_old_names(both).keys() == both.keys()


def new_names(tensors):
    """Names as torch.nn.utils.parametrizations writes them."""
    leaves = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    renamed = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition(".")
        renamed[f"{layer}.parametrizations.weight.{leaves[leaf]}" if leaf in leaves else name] = value
    return renamed


def test_known_families(tmp_path):
    """mimicry's and StudioGAN's networks trained with newer torch."""
    g, d = files.mimicry_generator([8, 8, 8, 8]), files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
    x = pictures(2, 32)
    for name, change in (("old", dict), ("new", new_names)):
        (tmp_path / name).mkdir()
        torch.save({"model_state_dict": change(g)}, tmp_path / name / "netG_1_steps.pth")
        torch.save({"model_state_dict": change(d)}, tmp_path / name / "netD_1_steps.pth")
    old, new = (regraft.load(tmp_path / name) for name in ("old", "new"))
    assert new.provenance.format == "mimicry"
    close(new.critic(x), old.critic(x))
    g = files.studio_generator([8] * 4, 6, sn="torch")
    d = files.studio_critic([8] * 4, [True, True, False, False])
    for name, change in (("studio", dict), ("studio_new", new_names)):
        (tmp_path / name).mkdir()
        files.studio_run(tmp_path / name, change(g), change(d))
    old, new = (regraft.load(tmp_path / name) for name in ("studio", "studio_new"))
    close(new.critic(x), old.critic(x))
    close(new.sample(2), old.sample(2))
