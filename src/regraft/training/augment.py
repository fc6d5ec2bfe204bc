"""Differentiable augmentation of all images, real and generated, that the critic sees.

Source: Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training", whose strengths are the defaults:
brightness +-0.5, saturation 0 to 2, contrast 0.5 to 1.5, shifts of an eighth, a hole of half the side.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

KINDS = ("color", "translation", "cutout")


def augment(x: Tensor, kinds: tuple[str, ...], rng: torch.Generator, probability: float = 1.0) -> Tensor:
    """Augment each image independently; gradients pass through.

    Args:
        x: images, (N, C, H, W), in [-1, 1].
        kinds: any of ``color``, ``translation``, ``cutout``, applied in this order.
        rng: source of all random draws.
        probability: probability of each kind for each image; at 1 no choice is drawn, at 0 nothing is.

    Returns:
        Images of the same shape; colours may leave [-1, 1].
    """
    for kind in KINDS:
        if kind in kinds and probability > 0:
            augmented = _FUNCTIONS[kind](x, rng)
            x = augmented if probability >= 1 else torch.where(_draw(x, rng) < probability, augmented, x)
    return x


def _draw(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=rng, device=rng.device).to(x)


def color(x: Tensor, rng: torch.Generator) -> Tensor:
    """Shift brightness, scale saturation about the grey of each pixel, and contrast about the mean of each image."""
    x = x + (_draw(x, rng) - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (_draw(x, rng) * 2)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (_draw(x, rng) + 0.5)


def translation(x: Tensor, rng: torch.Generator, ratio: float = 0.125) -> Tensor:
    """Shift images by whole pixels, up to ``ratio`` of the side, and fill with 0."""
    n, _, height, width = x.shape
    shift_y = _offsets(n, int(height * ratio + 0.5), rng)
    shift_x = _offsets(n, int(width * ratio + 0.5), rng)
    # Reads from outside the image are clamped to one pixel of padding.
    rows = (torch.arange(height, device=x.device) + shift_y.to(x.device)).clamp(-1, height) + 1
    columns = (torch.arange(width, device=x.device) + shift_x.to(x.device)).clamp(-1, width) + 1
    padded = pad(x, (1, 1, 1, 1))
    batch = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def cutout(x: Tensor, rng: torch.Generator, ratio: float = 0.5) -> Tensor:
    """Set a square of ``ratio`` of the side to 0, at a random place that may reach beyond the border."""
    n, _, height, width = x.shape
    hole_y, hole_x = int(height * ratio + 0.5), int(width * ratio + 0.5)
    top = _integers(n, height + 1 - hole_y % 2, rng).to(x.device) - hole_y // 2
    left = _integers(n, width + 1 - hole_x % 2, rng).to(x.device) - hole_x // 2
    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    in_rows = (rows >= top) & (rows < top + hole_y)
    in_columns = (columns >= left) & (columns < left + hole_x)
    hole = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return x.masked_fill(hole, 0.0)


def _offsets(n: int, most: int, rng: torch.Generator) -> Tensor:
    return _integers(n, 2 * most + 1, rng) - most


def _integers(n: int, below: int, rng: torch.Generator) -> Tensor:
    return torch.randint(0, below, (n, 1), generator=rng, device=rng.device)


_FUNCTIONS = {"color": color, "translation": translation, "cutout": cutout}


class Augmentation(nn.Module):
    """Kinds of augmentation and a constant probability; subclasses adapt the probability."""

    def __init__(self, kinds: tuple[str, ...] = (), probability: float = 1.0) -> None:
        super().__init__()
        self.kinds, self._probability = kinds, probability

    @property
    def now(self) -> float:
        """The present probability of each kind for each image."""
        return self._probability

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """See :func:`augment`."""
        return augment(x, self.kinds, rng, self.now)

    def observe(self, real_scores: Tensor) -> None:
        """Take note of the critic's scores (N,) of augmented real images."""

    def after_step(self) -> None:
        """Take note that the critic has taken a step."""
