"""Smoothing, doubling and halving of feature maps with StyleGAN2's filter (1, 3, 3, 1), differentiable any number of times.

The filter is a constant of the family and in no network's state; it is made once per device and type.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

TAPS = (1.0, 3.0, 3.0, 1.0)


def smooth(x: Tensor, padding: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Filter each channel of (N, C, H, W) with the outer product of (1, 3, 3, 1) / 8.

    Args:
        x: maps.
        padding: number of zeros on every side.
        gain: factor of the result.
        stride: k, to keep every k-th value.
    """
    kernel = _kernel(x.device, x.dtype, gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, stride=stride, groups=x.shape[1])


def double(x: Tensor) -> Tensor:
    """Double the sides of (N, C, H, W): put zeros between the values, then filter with a gain of 4."""
    kernel = _kernel(x.device, x.dtype, 4.0).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, kernel, padding=1, stride=2, groups=x.shape[1])


def halve(x: Tensor) -> Tensor:
    """Halve the sides of (N, C, H, W): filter, then keep every second value."""
    return smooth(x, padding=1, stride=2)


def fast_layout(x: Tensor) -> Tensor:
    """Return the same maps in the memory order in which their device convolves fastest (channels last on the CPU)."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


@functools.lru_cache(maxsize=64)
def _kernel(device: torch.device, dtype: torch.dtype, gain: float) -> Tensor:
    # A tensor made in inference mode could not take part in training later.
    with torch.inference_mode(False), torch.no_grad():
        taps = torch.tensor(TAPS, device=device, dtype=dtype)
        return (torch.outer(taps, taps) * (gain / taps.sum() ** 2))[None, None]
