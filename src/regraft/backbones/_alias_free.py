"""Alias-free resampling: low-pass filters by the Kaiser method, and the filtered nonlinearity of StyleGAN3.

Every operation is a convolution, a crop or a leaky ReLU, so derivatives of any order exist.

Source: Karras et al. 2021, "Alias-free generative adversarial networks", sections 3.1 and 3.2, appendices B and D; Kaiser's
formulas for windowed filters (Oppenheim and Schafer, "Discrete-time signal processing", section 7.5).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation


def lowpass(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> Tensor:
    """Design a low-pass filter with gain 1 at frequency 0.

    Args:
        taps: length of the filter.
        cutoff: where the gain is one half, in the units of ``rate``.
        width: width of the transition band, in the same units.
        rate: sampling rate of the signal.
        radial: whether to make a rotation-symmetric filter instead of one factor of a separable filter.

    Returns:
        (taps,), or (taps, taps) for a radial filter; float32, on the CPU.
    """
    window = np.kaiser(taps, kaiser_beta(taps, width / (rate / 2)))
    position = np.arange(taps) - (taps - 1) / 2
    if not radial:
        ideal = np.sinc(2 * cutoff / rate * position) * window
        return torch.from_numpy((ideal / ideal.sum()).astype(np.float32))
    distance = np.hypot(*np.meshgrid(position, position)) / rate
    angle = torch.from_numpy(np.maximum(distance, 1e-12) * (2 * math.pi * cutoff))
    # J1(x) / x is 1/2 at 0.
    jinc = torch.special.bessel_j1(angle).numpy() / angle.numpy()
    ideal = np.where(distance < 1e-12, 0.5, jinc) * np.outer(window, window)
    return torch.from_numpy((ideal / ideal.sum()).astype(np.float32))


def kaiser_beta(taps: int, width: float) -> float:
    """Return the Kaiser window's beta that gives a transition of ``width``, a fraction of the Nyquist frequency."""
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        excess = attenuation - 21
        return float(0.5842 * excess**0.4 + 0.07886 * excess)
    return 0.0


def upsample(x: Tensor, kernel: Tensor | None, factor: int, before: int, after: int) -> Tensor:
    """Insert zeros between samples, pad both axes (or crop, where negative), and filter.

    Args:
        x: maps (N, C, H, W).
        kernel: one factor of a separable filter, (taps,), or None for the identity.
        factor: output samples per input sample.
        before, after: padding of the signal with zeros, on either side.

    Returns:
        (N, C, H', W') with H' = H factor + before + after - taps + 1.
    """
    if kernel is None:
        return F.pad(x, (before, after, before, after)) if before or after else x
    taps = len(kernel)
    kernel = kernel.to(x.dtype) * factor
    # A transposed convolution gives every sample that the kernel reaches; padding only says which of them are kept.
    cut = (before - taps + 1, after - taps + factor)
    c = x.shape[1]
    for axis in (2, 3):
        shape = [c, 1, taps, 1] if axis == 2 else [c, 1, 1, taps]
        stride = (factor, 1) if axis == 2 else (1, factor)
        inside = max(0, min(-cut[0], -cut[1]))
        padding = (inside, 0) if axis == 2 else (0, inside)
        weight = kernel.view(shape[1:]).expand(shape)
        x = F.conv_transpose2d(x, weight, stride=stride, padding=padding, groups=c)
        low, high = cut[0] + inside, cut[1] + inside
        if low or high:
            x = F.pad(x, (0, 0, low, high) if axis == 2 else (low, high, 0, 0))
    return x


def downsample(x: Tensor, kernel: Tensor | None, factor: int) -> Tensor:
    """Filter and keep every ``factor``-th sample; no padding.

    Args:
        x: maps (N, C, H, W).
        kernel: (taps,) for a separable filter, (taps, taps) for a radial one, None for the identity.
        factor: input samples per output sample.

    Returns:
        (N, C, H', W') with H' = floor((H - taps) / factor) + 1.
    """
    if kernel is None:
        return x[:, :, ::factor, ::factor] if factor > 1 else x
    c = x.shape[1]
    # Convolution layers correlate; the filter is meant to convolve.
    if kernel.dim() == 2:
        weight = kernel.flip(0, 1).to(x.dtype).expand(c, 1, -1, -1)
        return F.conv2d(x, weight, stride=factor, groups=c)
    kernel = kernel.flip(0).to(x.dtype)
    x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(c, -1, -1, -1), stride=(factor, 1), groups=c)
    return F.conv2d(x, kernel.view(1, 1, 1, -1).expand(c, -1, -1, -1), stride=(1, factor), groups=c)


def filtered_lrelu(
    x: Tensor,
    up_kernel: Tensor | None,
    down_kernel: Tensor | None,
    up: int,
    down: int,
    padding: tuple[int, int],
    gain: float,
    slope: float,
    clamp: float | None,
) -> Tensor:
    """Apply a leaky ReLU on a finer grid, so that it makes no frequencies beyond the sampling rate, and sample down again.

    Args:
        x: maps (N, C, H, W).
        up_kernel, down_kernel: filters of upsampling and downsampling.
        up, down: factors of upsampling and downsampling.
        padding: padding of the finer signal, before and after.
        gain: factor of the activation.
        slope: slope of the activation on its negative side.
        clamp: bound of the activation, None for none.
    """
    x = upsample(x, up_kernel, up, *padding)
    x = F.leaky_relu(x, slope) * gain if slope != 1 else x * gain
    x = x if clamp is None else x.clamp(-clamp, clamp)
    return downsample(x, down_kernel, down)
