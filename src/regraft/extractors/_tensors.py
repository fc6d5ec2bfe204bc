"""Reading weights as plain tensors, and images as networks want them."""

import pathlib

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import SourceError
from regraft.files.weights import read_state_dict

Tensors = dict[str, Tensor]


def read(path: pathlib.Path, what: str = "network") -> Tensors:
    """Tensors of a safetensors or torch file, floating ones in single precision.

    Raises:
        SourceError: if it cannot be read, or holds anything but named tensors.
    """
    if not path.is_file():
        raise SourceError(f"{path}: there is no such {what} file")
    return {k: v.float() if v.is_floating_point() else v for k, v in read_state_dict(path).items()}


def coloured(images: Tensor) -> Tensor:
    """Grey images three times, (N, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def resized(images: Tensor, side: int) -> Tensor:
    """Images (N, C, H, W) at ``side`` pixels square, smoothed where they shrink."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
