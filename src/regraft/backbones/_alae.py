"""Layers of StyleALAE: a style generator and an encoder that mirrors it.

Convolutions are plain: equalised learning rates are already in the stored weights.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.core.errors import ConfigError
from regraft.core.networks import Noise
from regraft.core.randomness import Rng, normal

SLOPE = 0.2
FUSED_FROM = 128  # side from which a convolution and the change of size are one operation


def lrelu(x: Tensor) -> Tensor:
    """The family's activation, without a gain."""
    return functional.leaky_relu(x, SLOPE)


def blurred(x: Tensor) -> Tensor:
    """Smooth each channel with [1, 2, 1] in both directions, zeros outside."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(x, kernel, padding=1, groups=x.shape[1])


def spread(kernel: Tensor) -> Tensor:
    """A 3x3 kernel as the 4x4 one that convolves and doubles the sides at once: the sum of its four shifts."""
    padded = functional.pad(kernel, (1, 1, 1, 1))
    return padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of each image, (N, C, 1, 1)."""
    # On the CPU torch.var_mean takes ten times as long.
    mean = x.mean((2, 3), keepdim=True)
    return mean, (x - mean).square().mean((2, 3), keepdim=True)


class Style(nn.Linear):
    """From one style vector to the gains and shifts of a normalised map."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__(latent, 2 * channels)

    def applied(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, H, W) per image and channel, then scale by 1 + gain(w) and shift."""
        mean, variance = moments(x)
        gain, shift = self(w)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = (x - mean) * torch.rsqrt(variance + 1e-8) * (1 + gain) + shift
        return out


class DecodeBlock(nn.Module):
    """One level of the generator; all but the first double the sides."""

    def __init__(self, level: int, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.level, self.fused = level, (4 << level) >= FUSED_FROM
        if level and self.fused:
            self.conv_1: nn.Module = nn.ConvTranspose2d(inputs, outputs, 3, bias=False)
        elif level:
            self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.style_1, self.style_2 = Style(latent, outputs), Style(latent, outputs)
        self.bias_1, self.bias_2 = (nn.Parameter(torch.zeros(1, outputs, 1, 1)) for _ in range(2))
        self.noise_weight_1, self.noise_weight_2 = (nn.Parameter(torch.zeros(1, outputs, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, w: Tensor, noise: Noise, rng: Rng | None) -> Tensor:
        """(N, C, H, W) with two style vectors (N, 2, D) to the level's map."""
        if self.level and self.fused:
            x = blurred(functional.conv_transpose2d(x, spread(self.conv_1.weight), stride=2, padding=1))  # type: ignore[arg-type]
        elif self.level:
            x = blurred(self.conv_1(functional.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.style_1.applied(lrelu(self._noisy(x, self.noise_weight_1, noise, rng) + self.bias_1), w[:, 0])
        x = self.conv_2(x)
        return self.style_2.applied(lrelu(self._noisy(x, self.noise_weight_2, noise, rng) + self.bias_2), w[:, 1])

    def _noisy(self, x: Tensor, weight: Tensor, noise: Noise, rng: Rng | None) -> Tensor:
        if noise == "random":
            if rng is None:
                raise ConfigError("noise='random' draws from rng: give a torch.Generator, or one per row")
            return x + weight * normal((len(x), 1, *x.shape[2:]), rng, x)
        if noise == "none":
            return x
        # What the authors add without noise: a bump that stands for its mean effect.
        s = math.sqrt(self.level + 1)
        return x + 0.8 * s / math.sqrt(2 * math.pi) * torch.exp(-x * x / (2 * s * s))


class EncodeBlock(nn.Module):
    """One level of the encoder: halves the sides and reads two style vectors off."""

    def __init__(self, side: int, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.fused = side >= FUSED_FROM
        self.conv_1 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.style_1, self.style_2 = nn.Linear(2 * inputs, latent), nn.Linear(2 * outputs, latent)
        self.bias_1 = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.bias_2 = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the next level's map and the sum of both style vectors (N, D)."""
        x, first = _read(lrelu(self.conv_1(x) + self.bias_1), self.style_1)
        x = blurred(x)
        if self.fused:
            x = functional.conv2d(x, spread(self.conv_2.weight) / 4, stride=2, padding=1)
        else:
            x = functional.avg_pool2d(self.conv_2(x), 2)
        x, second = _read(lrelu(x + self.bias_2), self.style_2)
        return x, first + second


def _read(x: Tensor, style: nn.Linear) -> tuple[Tensor, Tensor]:
    """Normalise per image and channel; map what that takes away, means and deviations, to a style vector."""
    mean, variance = moments(x)
    # A square root has no slope at zero; a constant map must not make gradients infinite.
    deviation = variance.clamp_min(1e-12).sqrt()
    read: Tensor = style(torch.cat([mean, deviation], dim=1).flatten(1))
    return (x - mean) * torch.rsqrt(variance + 1e-5), read


class Decoder(nn.Module):
    """The synthesis network G: style vectors to an image."""

    def __init__(self, widths: tuple[int, ...], latent: int, channels: int, blend: float) -> None:
        super().__init__()
        self.blend, self.num_ws = blend, 2 * len(widths)
        self.const = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        inputs = (widths[0], *widths[:-1])
        pairs = zip(inputs, widths, strict=True)
        self.decode_block = nn.ModuleList(DecodeBlock(k, a, b, latent) for k, (a, b) in enumerate(pairs))
        if blend < 1:
            self.to_rgb_before = nn.Conv2d(widths[-2], channels, 1)
        self.to_rgb = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Style vectors (N, num_ws, D) to images (N, C, H, W), not clamped."""
        x = self.const.expand(len(w), -1, -1, -1)
        before = None
        for k, block in enumerate(self.decode_block):
            if self.blend < 1 and k == len(self.decode_block) - 1:
                before = functional.interpolate(self.to_rgb_before(x), scale_factor=2, mode="nearest")
            x = block(x, w[:, 2 * k : 2 * k + 2], noise, rng)
        image: Tensor = self.to_rgb(x)
        return image if before is None else before.lerp(image, self.blend)

    @property
    def stages(self) -> list[nn.Module]:
        """Blocks and image layers, in order."""
        blocks = list(self.decode_block)
        return [*blocks[:-1], self.to_rgb_before, blocks[-1], self.to_rgb] if self.blend < 1 else [*blocks, self.to_rgb]

    @property
    def styles(self) -> list[nn.Module]:
        """Style layers, in order."""
        return [m for m in self.modules() if isinstance(m, Style)]


class Encoder(nn.Module):
    """The encoder E: an image to a style vector."""

    def __init__(self, widths: tuple[int, ...], latent: int, channels: int, blend: float) -> None:
        super().__init__()
        self.blend = blend
        self.from_rgb = nn.Conv2d(channels, widths[0], 1)
        if blend < 1:
            self.from_rgb_before = nn.Conv2d(channels, widths[1], 1)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        levels = len(widths) - 1
        self.encode_block = nn.ModuleList(EncodeBlock(2 << (levels - k), a, b, latent) for k, (a, b) in enumerate(pairs))

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) to style vectors (N, D)."""
        # The authors apply the activation twice, so negative values keep 0.04 of themselves.
        x = lrelu(lrelu(self.from_rgb(image)))
        first, *others = self.encode_block
        x, read = first(x)
        w: Tensor = read
        if self.blend < 1:
            w = w * self.blend
            before = lrelu(lrelu(self.from_rgb_before(functional.avg_pool2d(image, 2))))
            x = before.lerp(x.to(before), self.blend)  # under autocast they can be of different precision
        for block in others:
            x, read = block(x)
            w = w + read
        return w

    @property
    def stages(self) -> list[nn.Module]:
        """Image layers and blocks, in order."""
        first, *others = self.encode_block
        return [self.from_rgb, first, *([self.from_rgb_before] if self.blend < 1 else []), *others]


class Mapping(nn.Module):
    """The mapping F: latents to style vectors, with their mean for truncation."""

    w_avg: Tensor

    def __init__(self, widths: tuple[int, ...], num_ws: int) -> None:
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.num_ws = num_ws
        self.register_buffer("w_avg", torch.zeros(num_ws, widths[-1]))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents (N, dim) to style vectors (N, num_ws, D), all rows alike; the family has no classes."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = lrelu(layer(x))
        return x[:, None].expand(-1, self.num_ws, -1)
