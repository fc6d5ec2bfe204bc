"""Alias-free resampling and its filters against plain restatements of their maths."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from regraft.backbones._alias_free import downsample, filtered_lrelu, kaiser_beta, lowpass, upsample
from support.signals import convolve, sparse


class TestResampling:
    @pytest.mark.parametrize("factor", [1, 2, 4])
    @pytest.mark.parametrize("padding", [(9, 8), (-6, -9), (3, -2), (30, 31)])
    def test_upsampling_is_zero_insertion_padding_and_filtering(self, factor, padding):
        torch.manual_seed(0)
        x, kernel = torch.randn(2, 3, 22, 22, dtype=torch.double), torch.randn(5, dtype=torch.double)
        plain = convolve(F.pad(sparse(x, factor), (*padding, *padding)), kernel) * factor**2
        assert torch.allclose(upsample(x, kernel, factor, *padding), plain, atol=1e-12)

    @pytest.mark.parametrize("radial", [False, True])
    def test_downsampling_is_filtering_and_striding(self, radial):
        torch.manual_seed(0)
        x = torch.randn(2, 3, 15, 15, dtype=torch.double)
        kernel = torch.randn(4, 4, dtype=torch.double) if radial else torch.randn(4, dtype=torch.double)
        assert torch.allclose(downsample(x, kernel, 2), convolve(x, kernel)[:, :, ::2, ::2], atol=1e-12)

    @pytest.mark.parametrize("radial", [False, True])
    def test_derivatives(self, radial):
        torch.manual_seed(0)
        x = torch.randn(1, 2, 6, 6, dtype=torch.double, requires_grad=True)
        up, down = lowpass(12, 2, 6, 32).double(), lowpass(4, 2, 6, 32, radial).double()

        def run(x):
            return filtered_lrelu(x, up, down, 2, 2, (5, 4), math.sqrt(2), 0.2, 1.5)

        assert torch.autograd.gradcheck(run, x)
        assert torch.autograd.gradgradcheck(run, x)

    def test_identity(self):
        x = torch.randn(1, 2, 4, 4)
        assert torch.equal(upsample(x, None, 1, 0, 0), x)
        assert torch.equal(downsample(x, None, 1), x)


class TestFilters:
    @pytest.mark.parametrize("taps", [12, 13, 24])
    def test_gain_is_one_half_at_the_cutoff_and_small_beyond_the_band(self, taps):
        rate, cutoff, width = 64.0, 8.0, 2 * 10.3
        kernel = lowpass(taps, cutoff, width, rate).double().numpy()

        def gain(frequency):
            return abs(np.sum(kernel * np.exp(-2j * np.pi * frequency / rate * np.arange(taps))))

        assert kernel.sum() == pytest.approx(1)
        assert gain(cutoff) == pytest.approx(0.5, abs=0.05)
        assert gain(cutoff + width / 2) < 0.03

    @pytest.mark.parametrize("taps", [12, 13])
    def test_radial_filters_do_not_know_directions(self, taps):
        kernel = lowpass(taps, 8, 16, 64, radial=True)
        assert kernel.shape == (taps, taps)
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
        assert torch.allclose(kernel, kernel.t())
        assert torch.allclose(kernel, kernel.flip(0))
        place = torch.arange(taps, dtype=torch.double) - (taps - 1) / 2

        def gain(x, y):
            wave = torch.cos(2 * math.pi / 64 * (x * place[:, None] + y * place))
            return (kernel * wave).sum()

        assert gain(6, 8) == pytest.approx(float(gain(10, 0)), abs=5e-3)

    def test_window_shape(self):
        """Kaiser's three branches: 65.2 dB, 30 dB and less than 21 dB."""
        assert kaiser_beta(12, 0.725) == pytest.approx(0.1102 * (2.285 * 11 * math.pi * 0.725 + 7.95 - 8.7))
        assert kaiser_beta(5, (30 - 7.95) / (2.285 * 4 * math.pi)) == pytest.approx(0.5842 * 9**0.4 + 0.07886 * 9)
        assert kaiser_beta(2, 0.1) == 0
