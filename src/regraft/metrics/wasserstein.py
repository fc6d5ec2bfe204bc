"""Independent critic: how well a critic that did not train the generator tells held-out real from generated images.

A small convolutional critic with gradient penalty is trained on half of both sets and measured on the other half; the run's own
critic would flatter the generator that learned to fool it.  The value estimates the Wasserstein distance from below, for
images pooled to at most 32 pixels a side; 0 is best, and on few images it may be negative.

Source: Wang et al. 2018, "Transferring GANs", section 4.1 (the measure); Gulrajani et al. 2017, "Improved training of
Wasserstein GANs", algorithm 1 (the critic).
"""

import statistics

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.randomness import generator_at
from regraft.metrics._intervals import student_interval
from regraft.metrics.base import Comparison, Metric, Score, require_images

SIDE = 32
WIDTHS = (16, 32, 64)
STEPS = 120  # with 60 the value hangs on the critic's start
BATCH = 32
RATE = 1e-3
PENALTY = 10.0
MAX_IMAGES = 4000


class Wasserstein(Metric):
    """Wasserstein distance estimated by an independent critic."""

    summary = "Wasserstein distance by a critic trained on half of held-out and generated images (takes seconds)"
    slow = True

    def measure(self, comparison: Comparison) -> list[Score]:
        """Average over two critics, each trained on one half and measured on the other."""
        require_images(4, comparison.fake, "generated", "wasserstein")
        require_images(4, comparison.real, "real", "wasserstein")
        rng = generator_at(comparison.seed, "wasserstein halves")
        halves = []
        for samples in (comparison.real, comparison.fake):
            images = pooled(samples.images[torch.randperm(samples.n, generator=rng)[:MAX_IMAGES]])
            halves.append((images[: len(images) // 2], images[len(images) // 2 :]))
        values, variances = [], []
        for half in (0, 1):
            # Start and order are the same for every comparison, so that only images make a difference.
            critic = train(halves[0][half], halves[1][half], generator_at(0, "wasserstein critic"))
            scores = [score(critic, side[1 - half]) for side in halves]
            values.append(float(scores[0].mean() - scores[1].mean()))
            variances.append(sum(float(s.var()) / len(s) for s in scores))
        # Both values depend on all images, which train one critic and measure the other: their mean is no surer than one.
        value, variance = statistics.mean(values), statistics.mean(variances)
        n_real, n_fake = (min(s.n, MAX_IMAGES) for s in (comparison.real, comparison.fake))
        interval = student_interval(value, variance, min(n_real, n_fake))
        return [
            comparison.score(
                "wasserstein",
                value,
                "lower",
                n_real=n_real,
                n_fake=n_fake,
                pixels=True,
                interval=interval,
                steps=STEPS,
                side=SIDE,
                both_halves=values,
            )
        ]


def pooled(images: Tensor) -> Tensor:
    """Shrink images (N, C, H, W) to at most 32 pixels a side by averaging."""
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images.float(), (min(height, SIDE), min(width, SIDE)))


def train(real: Tensor, fake: Tensor, rng: torch.Generator) -> list[Tensor]:
    """Train a critic from a seeded start.

    Args:
        real, fake: images, (N, C, H, W) and (M, C, H, W).
        rng: draws weights, batches and the points of the penalty.

    Returns:
        Weights and biases of strided convolutions in turn, then weights of a linear layer.
    """
    weights, width, side = [], real.shape[1], torch.tensor(real.shape[2:])
    for out in WIDTHS:
        weights += [torch.randn(out, width, 4, 4, generator=rng) * (2 / (width * 16)) ** 0.5, torch.zeros(out)]
        width, side = out, (side + 1) // 2
    weights.append(torch.randn(1, width * int(side.prod()), generator=rng) * (width * int(side.prod())) ** -0.5)
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(weights, lr=RATE, betas=(0.5, 0.9))
    n = min(BATCH, len(real), len(fake))
    with torch.enable_grad():
        for _ in range(STEPS):
            a, b = (x[torch.randint(len(x), (n,), generator=rng)] for x in (real, fake))
            mixed = torch.lerp(a, b, torch.rand(n, 1, 1, 1, generator=rng)).requires_grad_(True)
            (slope,) = torch.autograd.grad(score(weights, mixed).sum(), mixed, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            loss = score(weights, b).mean() - score(weights, a).mean() + PENALTY * penalty
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return [weight.detach() for weight in weights]


def score(weights: list[Tensor], images: Tensor) -> Tensor:
    """Return the critic's scores of images, (N,)."""
    x = images
    for kernel, bias in zip(weights[:-1:2], weights[1:-1:2], strict=True):
        x = F.pad(x, (1, 1 + x.shape[3] % 2, 1, 1 + x.shape[2] % 2), mode="constant")
        x = F.leaky_relu(F.conv2d(x, kernel, bias, stride=2), 0.2)
    return (x.flatten(1) @ weights[-1].T)[:, 0]


PLUGIN = Wasserstein()
