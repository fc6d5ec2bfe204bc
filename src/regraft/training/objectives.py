"""Adversarial losses and gradient penalties: pure functions of scores and images."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from regraft.core.config import Objective

ScoreFn = Callable[[Tensor], Tensor]
"""Maps images or codes, rows first, to scores (N,)."""


def critic_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """Return the critic's loss, without the gradient penalty.

    Args:
        objective: gives the loss and the drift weight.
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
    """Return the generator's loss from the scores (N,) of its images; for sources see :func:`critic_loss`."""
    return softplus(-fake).mean() if objective.loss == "nonsaturating" else -fake.mean()


def penalty(objective: Objective, score: ScoreFn, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Return the objective's gradient penalty times its weight, for a step at which it is computed.

    Args:
        objective: gives the kind of penalty, its weight and its interval.
        score: maps images to scores (N,).
        real: images or codes, rows first.
        fake: same shape as ``real``.
        rng: see :func:`gradient_penalty`.
    """
    weight = objective.penalty_weight * objective.penalty_every
    if objective.penalty == "gradient":
        return weight * gradient_penalty(score, real, fake, rng)
    if objective.penalty == "r1":
        return weight / 2 * r1_penalty(score, real)
    return real.new_zeros(())


def gradient_penalty(score: ScoreFn, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Penalise slopes of the score that differ from 1 between real and generated images.

    Args:
        score: maps images to scores (N,); differentiated twice.
        real: images or codes, rows first.
        fake: same shape and device as ``real``.
        rng: source of the N mixing weights.

    Returns:
        Scalar: mean over the rows, without any weight.

    Source: Gulrajani et al. 2017, equation 3.
    """
    mix = torch.rand(len(real), *[1] * (real.dim() - 1), generator=rng, device=rng.device).to(real)
    mixed = real.detach().lerp(fake.detach().to(real), mix)  # under autocast, generated images have lower precision
    # The small constant keeps the slope of the square root finite at 0.
    return (squared_slopes(score, mixed).add(1e-12).sqrt() - 1).square().mean()


def path_lengths(images: Tensor, w: Tensor, rng: torch.Generator) -> Tensor:
    """Return the path length of each image, (N,): how far it moves per move of its styles; differentiable.

    Args:
        images: (N, C, H, W), computed from ``w``.
        w: styles (N, num_ws, w_dim) that require gradients.
        rng: source of the random images along which the movement is measured.

    Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 3.2; over several rows of
        styles, the root mean square of the rows' lengths.
    """
    height, width = images.shape[-2:]
    along = torch.randn(images.shape, generator=rng, device=rng.device).to(images) / (height * width) ** 0.5
    (slope,) = torch.autograd.grad((images * along).sum(), w, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


def r1_penalty(score: ScoreFn, real: Tensor) -> Tensor:
    """Return the mean squared slope of the score at real images, without any weight or factor 1/2.

    Source: Mescheder et al. 2018, equation 9.
    """
    return squared_slopes(score, real).mean()


def squared_slopes(score: ScoreFn, x: Tensor) -> Tensor:
    """Return the squared norm of the gradient of each row's score, (N,), in float32; differentiable."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return slope.flatten(1).square().sum(1)
