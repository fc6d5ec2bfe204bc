"""Layers of StyleALAE: mapping, style generator, an encoder that mirrors the generator, and the critic's head.

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

Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def fan_in(layer: Weighted) -> int:
    """Return the number of inputs of a layer, for a convolution as many for each place of the kernel."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels * layer.kernel_size[0] ** 2


def lrelu(x: Tensor) -> Tensor:
    """Apply the family's activation, a leaky ReLU without a gain."""
    return functional.leaky_relu(x, SLOPE)


def blur(x: Tensor) -> Tensor:
    """Smooth each channel of (N, C, H, W) with [1, 2, 1] / 4 in both directions, with zeros outside."""
    taps = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(x, kernel, padding=1, groups=x.shape[1])


def resampling_kernel(kernel: Tensor) -> Tensor:
    """Turn a 3x3 kernel into the 4x4 kernel that convolves and resamples by 2 at once: the sum of its four shifts."""
    padded = functional.pad(kernel, (1, 1, 1, 1))
    return padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of each image, both (N, C, 1, 1)."""
    # On the CPU torch.var_mean takes ten times as long.
    mean = x.mean((2, 3), keepdim=True)
    return mean, (x - mean).square().mean((2, 3), keepdim=True)


class Style(nn.Linear):
    """Instance normalisation whose gains and shifts are linear in a style vector."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__(style_dim, 2 * channels)

    def modulate(self, x: Tensor, w: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, H, W) per image and channel, then scale by 1 + gain(w) and add shift(w)."""
        mean, variance = moments(x)
        gain, shift = self(w)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = (x - mean) * torch.rsqrt(variance + 1e-8) * (1 + gain) + shift
        return out


class DecodeBlock(nn.Module):
    """One level of the generator; all levels but the first double the sides."""

    def __init__(self, level: int, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.level = level
        self.conv_1: nn.ConvTranspose2d | nn.Conv2d | None = None
        if level and (4 << level) >= FUSED_FROM:
            self.conv_1 = nn.ConvTranspose2d(inputs, outputs, 3, bias=False)
        elif level:
            self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.style_1, self.style_2 = Style(style_dim, outputs), Style(style_dim, outputs)
        self.bias_1, self.bias_2 = (nn.Parameter(torch.zeros(1, outputs, 1, 1)) for _ in range(2))
        self.noise_weight_1, self.noise_weight_2 = (nn.Parameter(torch.zeros(1, outputs, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, w: Tensor, noise: Noise, rng: Rng | None) -> Tensor:
        """Compute this level's map from the map of the level before (N, C, H, W) and two style vectors (N, 2, D)."""
        x = self._doubled(x)
        x = self.style_1.modulate(lrelu(self._add_noise(x, self.noise_weight_1, noise, rng) + self.bias_1), w[:, 0])
        x = self.conv_2(x)
        return self.style_2.modulate(lrelu(self._add_noise(x, self.noise_weight_2, noise, rng) + self.bias_2), w[:, 1])

    def _doubled(self, x: Tensor) -> Tensor:
        if self.conv_1 is None:
            return x
        if isinstance(self.conv_1, nn.ConvTranspose2d):
            return blur(functional.conv_transpose2d(x, resampling_kernel(self.conv_1.weight), stride=2, padding=1))
        return blur(self.conv_1(functional.interpolate(x, scale_factor=2, mode="nearest")))

    def _add_noise(self, x: Tensor, weight: Tensor, noise: Noise, rng: Rng | None) -> Tensor:
        if noise == "random":
            if rng is None:
                raise ConfigError("noise='random' draws from rng: give a torch.Generator, or one per row")
            return x + weight * normal((len(x), 1, *x.shape[2:]), rng, x)
        if noise == "none":
            return x
        # What the authors add without noise: a bump that stands for the mean effect of noise.
        s = math.sqrt(self.level + 1)
        return x + 0.8 * s / math.sqrt(2 * math.pi) * torch.exp(-x * x / (2 * s * s))


class EncodeBlock(nn.Module):
    """One level of the encoder: halves the sides and reads two style vectors from the statistics of its maps."""

    def __init__(self, side: int, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.fused = side >= FUSED_FROM
        self.conv_1 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.style_1, self.style_2 = nn.Linear(2 * inputs, style_dim), nn.Linear(2 * outputs, style_dim)
        self.bias_1 = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.bias_2 = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to the next level's map and the sum of the two style vectors (N, D)."""
        x, first = _read_style(lrelu(self.conv_1(x) + self.bias_1), self.style_1)
        x = blur(x)
        if self.fused:
            x = functional.conv2d(x, resampling_kernel(self.conv_2.weight) / 4, stride=2, padding=1)
        else:
            x = functional.avg_pool2d(self.conv_2(x), 2)
        x, second = _read_style(lrelu(x + self.bias_2), self.style_2)
        return x, first + second


def _read_style(x: Tensor, style: nn.Linear) -> tuple[Tensor, Tensor]:
    """Normalise per image and channel; map the means and deviations that this removes to a style vector (N, D)."""
    mean, variance = moments(x)
    # A square root has no slope at zero; a constant map must not make gradients infinite.
    deviation = variance.clamp_min(1e-12).sqrt()
    w: Tensor = style(torch.cat([mean, deviation], dim=1).flatten(1))
    return (x - mean) * torch.rsqrt(variance + 1e-5), w


class Decoder(nn.Module):
    """The synthesis network G: style vectors to an image.

    While the last level is blended in, the image is blend * last + (1 - blend) * the enlarged image of the level before.
    """

    def __init__(self, widths: tuple[int, ...], style_dim: int, channels: int, blend: float) -> None:
        super().__init__()
        self.blend, self.num_ws = blend, 2 * len(widths)
        self.const = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        inputs = (widths[0], *widths[:-1])
        pairs = zip(inputs, widths, strict=True)
        self.decode_block = nn.ModuleList(DecodeBlock(k, a, b, style_dim) for k, (a, b) in enumerate(pairs))
        self.to_rgb_before = nn.Conv2d(widths[-2], channels, 1) if blend < 1 else None
        self.to_rgb = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Synthesise images (N, C, H, W), not clamped, from style vectors (N, num_ws, D)."""
        x = self.const.expand(len(w), -1, -1, -1)
        before = None
        for k, block in enumerate(self.decode_block):
            if self.to_rgb_before is not None and k == len(self.decode_block) - 1:
                before = functional.interpolate(self.to_rgb_before(x), scale_factor=2, mode="nearest")
            x = block(x, w[:, 2 * k : 2 * k + 2], noise, rng)
        image: Tensor = self.to_rgb(x)
        return image if before is None else before.lerp(image, self.blend)

    @property
    def stages(self) -> list[nn.Module]:
        """Blocks and image layers, in the order in which they compute."""
        *lower, last = self.decode_block
        before = [] if self.to_rgb_before is None else [self.to_rgb_before]
        return [*lower, *before, last, self.to_rgb]

    @property
    def styles(self) -> list[nn.Module]:
        """Style layers, in the order in which they compute."""
        return [m for m in self.modules() if isinstance(m, Style)]


class Encoder(nn.Module):
    """The encoder E: an image to a style vector, the sum of what its levels read.

    While the first level is blended in, the next one sees blend * its map + (1 - blend) * the map of the halved image.
    """

    def __init__(self, widths: tuple[int, ...], style_dim: int, channels: int, blend: float) -> None:
        super().__init__()
        self.blend = blend
        self.from_rgb = nn.Conv2d(channels, widths[0], 1)
        self.from_rgb_before = nn.Conv2d(channels, widths[1], 1) if blend < 1 else None
        pairs = zip(widths[:-1], widths[1:], strict=True)
        levels = len(widths) - 1
        self.encode_block = nn.ModuleList(EncodeBlock(2 << (levels - k), a, b, style_dim) for k, (a, b) in enumerate(pairs))

    def forward(self, image: Tensor) -> Tensor:
        """Encode images (N, C, H, W) to style vectors (N, D)."""
        # The authors apply the activation twice, so negative values keep 0.04 of themselves.
        x = lrelu(lrelu(self.from_rgb(image)))
        first, *others = self.encode_block
        w: Tensor
        x, w = first(x)
        if self.from_rgb_before is not None:
            w = w * self.blend
            before = lrelu(lrelu(self.from_rgb_before(functional.avg_pool2d(image, 2))))
            x = before.lerp(x.to(before), self.blend)  # under autocast they can be of different precision
        for block in others:
            x, part = block(x)
            w = w + part
        return w

    @property
    def stages(self) -> list[nn.Module]:
        """Image layers and blocks, in the order in which they compute."""
        first, *others = self.encode_block
        before = [] if self.from_rgb_before is None else [self.from_rgb_before]
        return [self.from_rgb, first, *before, *others]


class Mapping(nn.Module):
    """The mapping F: latents to style vectors.

    Attributes:
        w_avg: mean style vectors, (num_ws, D), towards which truncation pulls.
    """

    w_avg: Tensor

    def __init__(self, widths: tuple[int, ...], num_ws: int) -> None:
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.num_ws = num_ws
        self.register_buffer("w_avg", torch.zeros(num_ws, widths[-1]))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map latents (N, dim) to style vectors (N, num_ws, D), all rows alike; ``y`` is ignored, there are no classes."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = lrelu(layer(x))
        return x[:, None].expand(-1, self.num_ws, -1)


class Head(nn.Module):
    """The head D: linear layers without activation; output number ``widths[0]`` is the score, the others are never used."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.score = widths[0]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, w: Tensor) -> Tensor:
        """Map style vectors (N, D) to scores (N,)."""
        for layer in self.layers:
            w = layer(w)
        return w[:, self.score]
