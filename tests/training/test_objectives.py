"""Losses and penalties against closed forms."""

import pytest
import torch

from regraft.core.config import Objective
from regraft.training.objectives import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    path_lengths,
    penalty,
    r1_penalty,
    squared_slopes,
)
from support.toys import rng


@pytest.fixture
def images():
    """Real and generated images."""
    return torch.randn(5, 3, 4, 4, generator=rng()), torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def linear(weight):
    return lambda x: (x * weight).flatten(1).sum(1)


def test_gradient_penalty_of_a_unit_slope_is_zero(images):
    weight = torch.randn(3, 4, 4, generator=rng())
    assert gradient_penalty(linear(weight / weight.norm()), *images, rng()) < 1e-10


@pytest.mark.parametrize("slope", [0.0, 0.5, 3.0])
def test_gradient_penalty_of_a_linear_critic(images, slope):
    weight = torch.randn(3, 4, 4, generator=rng())
    weight = weight / weight.norm() * slope
    assert gradient_penalty(linear(weight), *images, rng()).item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_gradient_penalty_mixes_between_real_and_fake():
    """With score = |x|^2 / 2 the slope is x itself, so the penalty tells where it was taken."""
    real, fake = torch.zeros(1000, 1), torch.full((1000, 1), 4.0)
    mixed = gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, rng())
    # E[(4 t - 1)^2] for t uniform on [0, 1] is 16/3 - 4 + 1.
    assert mixed.item() == pytest.approx(16 / 3 - 3, rel=0.1)


def test_gradient_penalty_can_be_differentiated_at_zero_slope(images):
    weight = torch.zeros(3, 4, 4, requires_grad=True)
    gradient_penalty(linear(weight), *images, rng()).backward()
    assert torch.isfinite(weight.grad).all()


def test_r1_of_a_linear_critic_is_its_squared_norm(images):
    weight = torch.randn(3, 4, 4, generator=rng(), requires_grad=True)
    value = r1_penalty(linear(weight), images[0])
    assert value.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)
    value.backward()
    assert torch.allclose(weight.grad, 2 * weight, rtol=1e-4)


def test_r1_of_a_quadratic_critic(images):
    real = images[0]
    value = r1_penalty(lambda x: x.square().flatten(1).sum(1) / 2, real)
    assert value.item() == pytest.approx(real.square().flatten(1).sum(1).mean().item(), rel=1e-5)


def test_slopes_are_float32_under_autocast(images):
    layer = torch.nn.Conv2d(3, 1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        slopes = squared_slopes(lambda x: layer(x).flatten(), images[0])
    assert slopes.dtype == torch.float32
    assert slopes[0].item() == pytest.approx(layer.weight.square().sum().item(), rel=1e-5)


def test_lazy_penalty_is_as_many_times_stronger(images):
    weight = torch.randn(3, 4, 4, generator=rng())
    often = penalty(Objective(penalty="r1"), linear(weight), *images, rng())
    seldom = penalty(Objective(penalty="r1", penalty_every=16), linear(weight), *images, rng())
    assert seldom.item() == pytest.approx(16 * often.item(), rel=1e-6)
    assert often.item() == pytest.approx(weight.square().sum().item() / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "critic", "generator"),
    [
        ("wgan", 0.5 - 2.0, -0.5),
        ("hinge", 0.0 + 1.5, -0.5),
        ("nonsaturating", 0.126928 + 0.974077, 0.474077),
    ],
)
def test_losses_of_constant_scores(loss, critic, generator):
    real, fake = torch.full((4,), 2.0), torch.full((6,), 0.5)
    objective = Objective(loss=loss)
    assert critic_loss(objective, real, fake).item() == pytest.approx(critic, abs=1e-5)
    assert generator_loss(objective, fake).item() == pytest.approx(generator, abs=1e-5)


def test_drift_pulls_real_scores_to_zero():
    plain, drifting = Objective(loss="wgan"), Objective(loss="wgan", drift_weight=0.1)
    scores = torch.tensor([3.0, -1.0])
    assert (critic_loss(drifting, scores, scores) - critic_loss(plain, scores, scores)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", ["wgan", "hinge", "nonsaturating"])
def test_losses_pull_the_right_way(loss):
    objective = Objective(loss=loss)
    real = torch.zeros(3, requires_grad=True)
    fake = torch.zeros(3, requires_grad=True)
    critic_loss(objective, real, fake).backward()
    assert (real.grad < 0).all(), "the critic must raise real scores"
    assert (fake.grad > 0).all(), "the critic must lower fake scores"
    fake = torch.zeros(3, requires_grad=True)
    generator_loss(objective, fake).backward()
    assert (fake.grad < 0).all(), "the generator must raise fake scores"


def test_path_lengths_of_a_linear_generator():
    """For images A w the expected squared length is |A|^2 / (H W), whatever w is."""
    torch.manual_seed(0)
    matrix = torch.randn(3 * 4 * 4, 5)
    w = torch.randn(20000, 1, 5, requires_grad=True)
    images = (w[:, 0] @ matrix.T).view(-1, 3, 4, 4)
    lengths = path_lengths(images, w, torch.Generator().manual_seed(1))
    assert lengths.square().mean().item() == pytest.approx(matrix.square().sum().item() / 16, rel=0.02)
    rows = torch.randn(2, 2, 5, requires_grad=True)
    images = (rows.sum(1) @ matrix.T).view(-1, 3, 4, 4)
    single = rows.detach().sum(1, keepdim=True).requires_grad_()
    alone = path_lengths((single[:, 0] @ matrix.T).view(-1, 3, 4, 4), single, torch.Generator().manual_seed(1))
    assert torch.allclose(path_lengths(images, rows, torch.Generator().manual_seed(1)), alone)
