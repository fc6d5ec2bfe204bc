"""Reading weights as plain tensors, and images as networks want them."""

import pathlib
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.errors import SourceError

Tensors = dict[str, Tensor]


def read(path: pathlib.Path, what: str = "network") -> Tensors:
    """Tensors of a safetensors or torch file, floating ones in single precision.

    Raises:
        SourceError: if it cannot be read, or holds anything but named tensors.
    """
    import safetensors
    import safetensors.torch

    if not path.is_file():
        raise SourceError(f"{path}: there is no such {what} file")
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        loaded: Any
        if is_safetensors:
            loaded = safetensors.torch.load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise SourceError(f"{path}: cannot be read as a {what} ({' '.join(str(error).split())[:160]})") from None
    except Exception as error:  # noqa: BLE001 - unpickling errors have no common base
        raise SourceError(f"{path}: refused or damaged ({type(error).__name__})") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise SourceError(f"{path}: must hold a state dict, names to tensors")
    return {str(k): v.float() if v.is_floating_point() else v for k, v in loaded.items()}


def coloured(images: Tensor) -> Tensor:
    """Grey images three times, (N, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def resized(images: Tensor, side: int) -> Tensor:
    """Images (N, C, H, W) at ``side`` pixels square, smoothed where they shrink."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
