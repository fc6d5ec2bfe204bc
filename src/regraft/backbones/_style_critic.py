"""The critic of StyleGAN2 and StyleGAN3.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN" (residual blocks); Karras et al. 2020,
"Training generative adversarial networks with limited data" (class conditioning by projection on a mapped class vector).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones import _resample
from regraft.backbones._conditional import check_head
from regraft.backbones._style import GAIN, SLOPE, Dense, Mapping, minibatch_stddev
from regraft.backbones._style_config import StyleCriticConfig
from regraft.core.networks import ClassHead, Critic, Description
from regraft.core.randomness import global_seed

HALF = math.sqrt(0.5)


class Conv(nn.Module):
    """An equalised convolution with optional halving or doubling of the sides, activation and bound."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        resample: Literal["none", "halve", "double"] = "none",
        activate: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resample, self.activate, self.clamp = resample, activate, clamp
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        # Layers without an activation are shortcuts, and have no bias.
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Convolve (N, inputs, H, W), times ``gain``."""
        inputs, kernel = self.weight.shape[1:3]
        # Leaky ReLU commutes with positive factors, so all of them go into the weight and the bias.
        gain = gain * GAIN if self.activate else gain
        weight = self.weight * (gain / math.sqrt(inputs * kernel * kernel))
        if self.resample == "halve":
            x = _resample.halve(x) if kernel == 1 else _resample.smooth(x, padding=2)
        bias = None if self.bias is None else self.bias * gain
        strided = self.resample == "halve" and kernel > 1
        x = F.conv2d(x, weight, bias, stride=2) if strided else F.conv2d(x, weight, bias, padding=kernel // 2)
        if self.resample == "double":
            x = _resample.double(x)
        if not self.activate:
            return x
        x = F.leaky_relu_(x, SLOPE)
        limit = None if self.clamp is None else self.clamp * gain / GAIN
        return x if limit is None else x.clamp(-limit, limit)

    def initialise(self) -> None:
        """Draw fresh weights, N(0, 1)."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Block(nn.Module):
    """One resolution of the critic: two convolutions, the second of which halves the sides."""

    def __init__(self, config: StyleCriticConfig, level: int) -> None:
        super().__init__()
        self.architecture = config.architecture
        width, below, clamp = config.channels[level], config.channels[level - 1], config.conv_clamp
        first = level == len(config.channels) - 1
        reads_image = first or config.architecture == "skip"
        self.fromrgb = Conv(config.img_channels, width, 1, clamp=clamp) if reads_image else None
        self.conv0 = Conv(width, width, 3, clamp=clamp)
        self.conv1 = Conv(width, below, 3, resample="halve", clamp=clamp)
        residual = config.architecture == "resnet"
        self.skip = Conv(width, below, 1, resample="halve", activate=False) if residual else None

    def forward(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Go down one resolution.

        Args:
            x: features of the block above (N, C, H, W), None for the first block.
            image: the image at the side of ``x``, None where the block does not read it.

        Returns:
            Features at half the side, and the halved image, or None where later blocks do not read it.
        """
        if self.fromrgb is not None and image is not None:
            features: Tensor = self.fromrgb(image)
            x = features if x is None else x + features
            image = _resample.halve(image) if self.architecture == "skip" else None
        if self.skip is not None:
            shortcut = self.skip(x, gain=HALF)
            return shortcut + self.conv1(self.conv0(x), gain=HALF), image
        return self.conv1(self.conv0(x)), image


class Head(nn.Module):
    """From 4 x 4 features to scores; with classes, to vectors f whose score is f . class vector / sqrt(cmap_dim)."""

    def __init__(self, config: StyleCriticConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels[0]
        self.fromrgb = Conv(config.img_channels, width, 1) if config.architecture == "skip" else None
        self.conv = Conv(width + config.mbstd_channels, width, 3, clamp=config.conv_clamp)
        self.fc = Dense(16 * width, width, activate=True)
        self.out = Dense(width, config.cmap_dim or 1)

    def forward(self, x: Tensor, image: Tensor | None, classes: Tensor | None) -> Tensor:
        """Score features (N, C, 4, 4), with the image (N, channels, 4, 4) or None, under class vectors (N or 1, cmap_dim)."""
        if self.fromrgb is not None and image is not None:
            x = x + self.fromrgb(image)
        if self.config.mbstd_channels:
            x = minibatch_stddev(x, self.config.mbstd_group_size, self.config.mbstd_channels)
        # Contiguous, because features are flattened channel by channel.
        out: Tensor = self.out(self.fc(self.conv(x).contiguous().flatten(1)))
        if classes is None:
            return out[:, 0]
        return (out * classes).sum(1) / math.sqrt(self.config.cmap_dim)


class StyleCritic(Critic):
    """The critic: blocks from the image's side down to 4 x 4, then a head."""

    def __init__(self, config: StyleCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.channels = (config.img_resolution, config.img_resolution), config.img_channels
        self.n_classes = config.c_dim
        for level in reversed(range(1, len(config.channels))):
            self.add_module(f"b{4 << level}", Block(config, level))
        if config.c_dim:
            self.mapping = Mapping(
                0,
                config.c_dim,
                config.cmap_dim,
                0,
                config.mapping_layers,
                config.mapping_lr,
                config.embed_features,
                config.layer_features,
                track_mean=False,
            )
        self.b4 = Head(config)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`; without a class, a conditional critic gives the mean of its scores under all classes."""
        image: Tensor | None = _resample.fast_layout(x)
        features: Tensor | None = None
        for block in self._blocks:
            features, image = block(features, image)
        classes = None
        if self.n_classes:
            all_classes = torch.arange(self.n_classes, device=x.device)
            classes = self.mapping(None, all_classes).mean(0, keepdim=True) if y is None else self.mapping(None, y)
        scores: Tensor = self.b4(features, image, classes)
        return scores

    @property
    def _blocks(self) -> list[nn.Module]:
        return [self.get_submodule(f"b{4 << level}") for level in reversed(range(1, len(self.config.channels)))]

    @torch.no_grad()
    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "StyleCritic":
        """See :meth:`Critic.with_classes`; the head is a projection on a mapped class vector.

        The last layer is chosen such that the score under every class is the score without any.
        """
        check_head("projection", head)
        c = self.config
        width = max(c.cmap_dim or c.channels[0], n)
        conditional = StyleCritic(c.model_copy(update={"c_dim": n, "cmap_dim": width}))
        with global_seed(seed):
            conditional.mapping.initialise()
        tensors = {k: v.clone() for k, v in self.state_dict().items() if not k.startswith("mapping.")}
        tensors |= {k: v for k, v in conditional.state_dict().items() if k.startswith("mapping.")}
        codes = conditional.mapping(None, torch.arange(n))
        # The column a of least norm with codes a = sqrt(width) for every class.
        column = torch.linalg.pinv(codes.double()) @ torch.full([n, 1], math.sqrt(width), dtype=torch.float64)
        row = torch.ones(1, 1)
        if self.n_classes:
            mean = self.mapping(None, torch.arange(self.n_classes, device=self.b4.out.weight.device)).mean(0, keepdim=True)
            row = mean.cpu() / math.sqrt(c.cmap_dim)
        for name in ("weight", "bias"):
            old = tensors[f"b4.out.{name}"].cpu()
            score = row @ old.view(row.shape[1], -1)
            tensors[f"b4.out.{name}"] = (column.to(old) @ score).view(width, *old.shape[1:])
        conditional.load_state_dict(tensors, strict=True)
        return conditional.to(self.b4.out.weight.device).train(self.training)

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("stylegan2", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The blocks, image side first, the class mapping if there is one, the head."""
        return [*self._blocks, *([self.mapping] if self.n_classes else []), self.b4]

    @property
    def batch_dependent(self) -> bool:
        """True where there is a minibatch standard deviation."""
        return self.config.mbstd_channels > 0
