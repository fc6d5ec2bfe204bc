"""Adversarial losses and gradient penalties: pure functions of scores and images."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from regraft.core.config import Objective

ScoreFn = Callable[[Tensor], Tensor]
"""Maps images (or codes), rows first, to scores (N,)."""


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, penalty aside.

    Args:
        objective: names the loss and the drift weight.
        real: scores of real images, (N,).
        fake: scores of generated images, (M,).

    Returns:
        Scalar.

    Source: Arjovsky et al. 2017 (wgan); Goodfellow et al. 2014 (nonsaturating); Lim & Ye 2017 (hinge);
        Karras et al. 2018, appendix A.1 (drift).
    """
    if objective.loss == "wgan":
        loss = fake.mean() - real.mean()
    elif objective.loss == "hinge":
        loss = relu(1 - real).mean() + relu(1 + fake).mean()
    else:
        loss = softplus(-real).mean() + softplus(fake).mean()
    return loss + objective.drift_weight * real.square().mean() if objective.drift_weight else loss


def generator_loss(objective: Objective, fake: Tensor) -> Tensor:
    """What the generator minimises, from the scores (N,) of its images; sources as :func:`critic_loss`."""
    return softplus(-fake).mean() if objective.loss == "nonsaturating" else -fake.mean()


def penalty(objective: Objective, score: ScoreFn, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """The objective's gradient penalty with its weight, for a step on which it is computed."""
    weight = objective.penalty_weight * objective.penalty_every
    if objective.penalty == "gradient":
        return weight * gradient_penalty(score, real, fake, rng)
    if objective.penalty == "r1":
        return weight / 2 * r1_penalty(score, real)
    return real.new_zeros(())


def gradient_penalty(score: ScoreFn, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Penalise slopes that differ from one between real and fake images.

    Args:
        score: maps images to scores (N,); differentiated twice.
        real: images or codes, rows first.
        fake: same shape and device as ``real``.
        rng: source of the mixing weights; advances by N draws.

    Returns:
        Scalar: mean over the rows, before any weight.

    Source: Gulrajani et al. 2017, equation 3.
    """
    mix = torch.rand(len(real), *[1] * (real.dim() - 1), generator=rng, device=rng.device).to(real)
    between = real.detach().lerp(fake.detach().to(real), mix)  # under autocast fakes are of less precision
    # The square root has no slope at zero, hence the small constant.
    return (squared_slopes(score, between).add(1e-12).sqrt() - 1).square().mean()


def path_lengths(images: Tensor, w: Tensor, rng: torch.Generator) -> Tensor:
    """How far images move when their styles do, (N,), differentiable.

    Args:
        images: (N, C, H, W), computed from ``w``.
        w: styles (N, num_ws, w_dim) that require gradients.
        rng: source of the random images that movement is measured along.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 3.2; over several rows of
        styles, the root mean square of the rows' lengths.
    """
    height, width = images.shape[-2:]
    along = torch.randn(images.shape, generator=rng, device=rng.device).to(images) / (height * width) ** 0.5
    (slope,) = torch.autograd.grad((images * along).sum(), w, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


def r1_penalty(score: ScoreFn, real: Tensor) -> Tensor:
    """Mean squared slope at real images, before any weight and without the factor 1/2.

    Source: Mescheder et al. 2018, equation 9.
    """
    return squared_slopes(score, real).mean()


def squared_slopes(score: ScoreFn, x: Tensor) -> Tensor:
    """Squared norm of each row's score gradient, (N,), in float32 and differentiable."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return slope.flatten(1).square().sum(1)
