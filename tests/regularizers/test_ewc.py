"""Elastic weight consolidation: Fisher information and distances in closed form."""

import copy

import pytest
import torch
from torch import nn

from regraft.core.config import Objective
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.regularizers import ewc

CPU = torch.device("cpu")


class Linear(nn.Module):
    """x = W z + b, as an image."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 4)

    def forward(self, z):
        return self.map(z).view(-1, 1, 2, 2)


class Plain(nn.Module):
    """A linear critic."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 1)

    def forward(self, x):
        return self.map(x.flatten(1))[:, 0]


@pytest.fixture
def linear():
    """A linear generator and a linear critic."""
    torch.manual_seed(0)
    return GAN(Linear(), Plain(), Latent(3))


@pytest.mark.parametrize("loss", ["wgan", "nonsaturating", "hinge"])
def test_fisher_information_in_closed_form(linear, loss):
    """d/dW_ij of -D(Wz + b) is -w_i z_j; softplus has the slope sigmoid(-D) before it."""
    found = ewc.fisher(linear.generator, linear.critic, Objective(loss=loss), 500, CPU)
    z = linear.generator.latent.at(0, range(500))
    w = linear.critic.module.map.weight.detach()[0]
    scores = linear.critic(linear.generator(z)).detach()
    slope = torch.sigmoid(-scores) ** 2 if loss == "nonsaturating" else torch.ones(500)
    assert torch.allclose(found["module.map.bias"], w**2 * slope.mean(), rtol=1e-4)
    wanted = w[:, None] ** 2 * (slope[:, None] * z**2).mean(0)
    assert torch.allclose(found["module.map.weight"], wanted, rtol=1e-4)
    if loss != "nonsaturating":
        # In expectation z_j^2 is 1: the information is w_i^2 everywhere.
        assert torch.allclose(found["module.map.weight"], (w**2)[:, None].expand(4, 3), rtol=0.25)


def test_ewc_is_the_weighted_squared_distance(linear):
    tuned = copy.deepcopy(linear.generator).requires_grad_(True)
    term = ewc.PLUGIN.attach(tuned, linear, ewc.EWCConfig(images=20))
    rng = torch.Generator().manual_seed(0)
    assert term(rng, CPU).item() == 0
    with torch.no_grad():
        tuned.module.map.bias += torch.tensor([1.0, 0, 0, 2])
    information = ewc.fisher(linear.generator, linear.critic, linear.objective, 20, CPU)
    mean = torch.cat([v.flatten() for v in information.values()]).mean()
    bias = information["module.map.bias"] / mean
    found = term(rng, CPU)
    assert found.item() == pytest.approx((bias[0] + 4 * bias[3]).item(), rel=1e-5)
    found.backward()
    assert torch.allclose(tuned.module.map.bias.grad, 2 * bias * torch.tensor([1.0, 0, 0, 2]))
    tuned.requires_grad_(False)
    assert term(rng, CPU).item() == 0, "nothing to hold while the generator is frozen"
