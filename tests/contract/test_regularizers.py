"""Every regularizer found on disk says what it is, and pulls towards the source on every backbone."""

import copy

import pytest
import torch

from regraft.core import discover
from regraft.regularizers import cdc, ewc
from support.plugins import find_plugin
from support.toys import toy_gan

CPU = torch.device("cpu")
NAMES = discover.names("regularizers")


@pytest.mark.parametrize("name", discover.names("backbones"))
def test_regularizers_are_zero_at_the_source_and_pull_afterwards(name):
    # The smallest StyleGAN2 has one channel at 4x4, whose demodulated features are the same for every image.
    gan = toy_gan(name, **({"size": 8, "width": 32, "latent_dim": 6} if name == "stylegan2" else {}))
    for plugin in (ewc.PLUGIN, cdc.PLUGIN):
        tuned = copy.deepcopy(gan.generator).requires_grad_(True)
        term = plugin.attach(tuned, gan, plugin.Config(images=4))
        assert term(torch.Generator().manual_seed(0), CPU).abs() < 1e-5
        with torch.no_grad():
            for k, parameter in enumerate(tuned.parameters()):
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k))
        away = term(torch.Generator().manual_seed(0), CPU)
        assert away > 1e-5
        away.backward()
        assert any(p.grad is not None and p.grad.any() for p in tuned.parameters())


def test_every_regularizer_says_what_it_is():
    for name in NAMES:
        plugin = find_plugin("regularizers", name)
        assert plugin.summary
        assert "arXiv" in plugin.paper
        assert plugin.weight > 0
