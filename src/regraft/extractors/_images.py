"""Bring images to the channels and the size that a network expects."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation


def three_channels(images: Tensor) -> Tensor:
    """Repeat the channel of grey images, (N, 3, H, W); others are returned as they are."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def resize(images: Tensor, side: int) -> Tensor:
    """Resize images (N, C, H, W) to ``side`` pixels square, bilinearly, with smoothing if they shrink."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
