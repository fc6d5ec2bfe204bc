"""Progressive GANs as in Karras et al. 2018, in the form of pytorch_GAN_zoo.

Every weighted layer computes (W x + b) sqrt(2 / fan in): the learning-rate equalisation multiplies the bias too.  While a new
scale fades in, the images of the last two scales are mixed; ``alpha`` is the share of the older one.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones._conditional import class_vector
from regraft.backbones._layer_config import LatentConfig
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Config, Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, Critic, Description, Generator, Noise
from regraft.core.randomness import Rng

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Attribute = Annotated[int, Field(ge=1, le=1 << 16)]


class ProganConfig(Config):
    """Settings that generator and critic share."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=11, description="Channels of each scale, 4x4 first.")]
    channels: Literal[1, 3] = 3
    slope: Annotated[float, Field(description="Slope of the leaky ReLUs on their negative side.")] = 0.2
    alpha: Annotated[float, Field(ge=0, le=1, description="Share of the last but one scale in the image.")] = 0.0
    equalised: Annotated[bool, Field(description="Whether layers are scaled by sqrt(2 / fan in) when they compute.")] = True
    attributes: Annotated[
        tuple[Attribute, ...], Field(description="Number of values of each labelled attribute; a class is a value for each.")
    ] = ()

    @property
    def n_classes(self) -> int:
        """Number of combinations of attribute values."""
        return math.prod(self.attributes) if self.attributes else 0

    @property
    def side(self) -> int:
        """Side of the images."""
        return 4 << (len(self.widths) - 1)

    @model_validator(mode="after")
    def _fits(self) -> "ProganConfig":
        if self.alpha > 0 and len(self.widths) < 2:
            raise ValueError("alpha needs two scales")
        if self.n_classes > 1 << 16:
            raise ValueError(f"attributes combine to {self.n_classes} classes, more than {1 << 16}")
        return self


class ProganGeneratorConfig(ProganConfig):
    """Settings of a generator."""

    latent: LatentConfig
    output: Literal["none", "tanh"] = "none"


class ProganCriticConfig(ProganConfig):
    """Settings of a critic."""

    stddev: Annotated[bool, Field(description="Whether a channel holds the spread over groups of four images.")] = True


class Conv(nn.Conv2d):
    """A convolution scaled by He's factor sqrt(2 / fan in), bias included."""

    bias: nn.Parameter

    def __init__(self, inputs: int, outputs: int, kernel: int, equalised: bool) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.scale = math.sqrt(2 / (inputs * kernel * kernel)) if equalised else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        return super().forward(x) * self.scale


class Dense(nn.Linear):
    """A linear layer scaled by He's factor sqrt(2 / fan in), bias included."""

    def __init__(self, inputs: int, outputs: int, equalised: bool) -> None:
        super().__init__(inputs, outputs)
        self.scale = math.sqrt(2 / inputs) if equalised else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return super().forward(x) * self.scale


def pixel_norm(x: Tensor) -> Tensor:
    """Divide each pixel's channel vector by its root mean square."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def double(x: Tensor) -> Tensor:
    """Repeat each pixel 2x2."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def stddev_channel(x: Tensor) -> Tensor:
    """Append one channel: the mean over map and channels of the standard deviation in groups of four consecutive images.

    Where four does not divide the batch all of it is one group; a single image gets zeros.  The variance is the unbiased one.
    """
    n = len(x)
    group = n if n % min(n, 4) else min(n, 4)
    if group == 1:
        return torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
    spread = (x.reshape(n // group, group, *x.shape[1:]).var(1) + 1e-8).sqrt().flatten(1).mean(1)
    return torch.cat([x, spread.repeat_interleave(group)[:, None, None, None].expand(n, 1, *x.shape[2:])], dim=1)


class GeneratorStart(nn.Module):
    """The first layers: latent to the features of the 4x4 scale."""

    def __init__(self, inputs: int, config: ProganConfig) -> None:
        super().__init__()
        self.slope = config.slope
        self.format = Dense(inputs, 16 * config.widths[0], config.equalised)
        self.conv = Conv(config.widths[0], config.widths[0], 3, config.equalised)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, inputs) to (N, C, 4, 4)."""
        x = functional.leaky_relu(self.format(z), self.slope).view(len(z), -1, 4, 4)
        return pixel_norm(functional.leaky_relu(self.conv(pixel_norm(x)), self.slope))


class GeneratorScale(nn.Module):
    """One scale of the generator: doubling, then two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, config: ProganConfig) -> None:
        super().__init__()
        self.slope = config.slope
        self.conv1 = Conv(inputs, outputs, 3, config.equalised)
        self.conv2 = Conv(outputs, outputs, 3, config.equalised)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, 2 H, 2 W)."""
        x = pixel_norm(functional.leaky_relu(self.conv1(double(x)), self.slope))
        return pixel_norm(functional.leaky_relu(self.conv2(x), self.slope))


class GeneratorEnd(nn.Module):
    """The last scale and the convolution that makes images, mixed with the image of the scale before while it fades in."""

    def __init__(self, config: ProganGeneratorConfig) -> None:
        super().__init__()
        self.alpha, self.output = config.alpha, config.output
        w, channels = config.widths, config.channels
        self.scale = GeneratorScale(w[-2], w[-1], config) if len(w) > 1 else None
        self.colour = Conv(w[-1], channels, 1, config.equalised)
        self.older = Conv(w[-2], channels, 1, config.equalised) if config.alpha > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map the features of the last but one scale to images (N, C, H, W)."""
        images: Tensor = self.colour(x if self.scale is None else self.scale(x))
        if self.older is not None:
            images = self.alpha * double(self.older(x)) + (1 - self.alpha) * images
        return torch.tanh(images) if self.output == "tanh" else images


class ProganGenerator(Generator):
    """The generator; its images are not bounded unless ``output`` is tanh."""

    def __init__(self, config: ProganGeneratorConfig) -> None:
        super().__init__()
        self.config = c = config
        self.latent = Latent(**c.latent.model_dump())
        self.n_classes, self.channels, self.size = c.n_classes, c.channels, (c.side, c.side)
        self.start = GeneratorStart(c.latent.dim + sum(c.attributes), c)
        self.scales = nn.ModuleList(GeneratorScale(a, b, c) for a, b in zip(c.widths[:-2], c.widths[1:-1], strict=True))
        self.end = GeneratorEnd(c)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` scales the latent after its normalisation, which would undo the scaling."""
        dim = self.latent.dim
        if self.n_classes:
            z = torch.cat([z, class_vector(self, y, sum(self.config.attributes)).to(z)], dim=1)
        x = pixel_norm(z)
        if psi != 1.0:
            x = torch.cat([x[:, :dim] * psi, x[:, dim:]], dim=1)
        for stage in self.stages:
            x = stage(x)
        return x

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`: class codes are the one-hot vectors of all attributes, side by side."""
        if not self.n_classes:
            return super().embed(y)
        table = attribute_table(self.config.attributes, y.device)
        return ClassCode(y @ table.to(y) if y.is_floating_point() else table[y])

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("progan", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The 4x4 scale, the scales between, and the last scale with its images."""
        return [self.start, *self.scales, self.end]


class CriticScale(nn.Module):
    """One scale of the critic: two 3x3 convolutions, then halving."""

    def __init__(self, inputs: int, outputs: int, config: ProganConfig) -> None:
        super().__init__()
        self.slope = config.slope
        self.conv1 = Conv(inputs, inputs, 3, config.equalised)
        self.conv2 = Conv(inputs, outputs, 3, config.equalised)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        x = functional.leaky_relu(self.conv1(x), self.slope)
        return functional.avg_pool2d(functional.leaky_relu(self.conv2(x), self.slope), 2)


class CriticStart(nn.Module):
    """The convolution that reads images and the highest scale, mixed with what the next scale reads while it fades in."""

    def __init__(self, config: ProganCriticConfig) -> None:
        super().__init__()
        self.alpha, self.slope = config.alpha, config.slope
        w, channels = config.widths, config.channels
        self.colour = Conv(channels, w[-1], 1, config.equalised)
        self.older = Conv(channels, w[-2], 1, config.equalised) if config.alpha > 0 else None
        self.scale = CriticScale(w[-1], w[-2], config) if len(w) > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to features of the last but one scale."""
        features = functional.leaky_relu(self.colour(x), self.slope)
        features = features if self.scale is None else self.scale(features)
        if self.older is None:
            return features
        before = functional.leaky_relu(self.older(functional.avg_pool2d(x, 2)), self.slope)
        return self.alpha * before + (1 - self.alpha) * features


class CriticEnd(nn.Module):
    """The last layers: 4x4 features to score and attribute logits."""

    def __init__(self, config: ProganCriticConfig) -> None:
        super().__init__()
        self.slope, self.stddev = config.slope, config.stddev
        width = config.widths[0]
        self.conv = Conv(width + config.stddev, width, 3, config.equalised)
        self.dense = Dense(16 * width, width, config.equalised)
        self.decision = Dense(width, 1 + sum(config.attributes), config.equalised)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, 4, 4) to (N, 1 + attribute values)."""
        x = stddev_channel(x) if self.stddev else x
        x = functional.leaky_relu(self.conv(x), self.slope).flatten(1)
        outputs: Tensor = self.decision(functional.leaky_relu(self.dense(x), self.slope))
        return outputs


class ProganCritic(Critic):
    """The critic, with an auxiliary classifier where attributes are labelled."""

    def __init__(self, config: ProganCriticConfig) -> None:
        super().__init__()
        self.config = c = config
        self.n_classes, self.channels, self.size = c.n_classes, c.channels, (c.side, c.side)
        self.start = CriticStart(c)
        inner = list(reversed(c.widths[:-1]))
        self.scales = nn.ModuleList(CriticScale(a, b, c) for a, b in zip(inner[:-1], inner[1:], strict=True))
        self.end = CriticEnd(c)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`; the score does not depend on the class."""
        return self._outputs(x)[:, 0]

    def classify(self, x: Tensor) -> Tensor:
        """See :meth:`Critic.classify`: the logit of a class is the sum of those of its attribute values."""
        if not self.n_classes:
            return super().classify(x)
        logits = self._outputs(x)[:, 1:]
        return logits @ attribute_table(self.config.attributes, x.device).t().to(logits)

    def _outputs(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("progan", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The highest scale, which reads images, the scales between, and the 4x4 scale."""
        return [self.start, *self.scales, self.end]

    @property
    def batch_dependent(self) -> bool:
        """True where a channel holds the standard deviation over several images."""
        return self.config.stddev


def attribute_table(attributes: tuple[int, ...], device: torch.device) -> Tensor:
    """Return all attributes' one-hot vectors for every class, (n_classes, sum of values); the last attribute varies fastest."""
    grids = torch.meshgrid(*[torch.arange(n, device=device) for n in attributes], indexing="ij")
    one_hot = [functional.one_hot(g.flatten(), n) for g, n in zip(grids, attributes, strict=True)]
    return torch.cat(one_hot, dim=1).float()


class ProGAN(Backbone[ProganGeneratorConfig, ProganCriticConfig]):
    """The progressive generator and critic, trained with WGAN-GP, a drift term and Adam (0, 0.99) at 1e-3."""

    objective = Objective(loss="wgan", penalty="gradient", penalty_weight=10.0, drift_weight=1e-3, critic_steps=1)
    recipe = Recipe(batch=16, generator_lr=1e-3, critic_lr=1e-3, betas=(0.0, 0.99), ema_decay=0.999)
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 4, "latent_dim": 6}

    GeneratorConfig = ProganGeneratorConfig
    CriticConfig = ProganCriticConfig

    def generator(self, config: ProganGeneratorConfig) -> ProganGenerator:
        """Build a generator."""
        return ProganGenerator(config)

    def critic(self, config: ProganCriticConfig) -> ProganCritic:
        """Build a critic."""
        return ProganCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw weights from N(0, 1) (He's variance where layers are not equalised), biases zero."""
        for module in network.modules():
            if isinstance(module, Conv | Dense):
                nn.init.normal_(module.weight)
                if module.scale == 1.0:
                    module.weight.data.mul_(math.sqrt(2 / module.weight[0].numel()))
                nn.init.zeros_(module.bias)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[ProganGeneratorConfig, ProganCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int, channels: int, latent_dim: int = 512, width: int = 512, n_classes: int = 0
) -> tuple[ProganGeneratorConfig, ProganCriticConfig]:
    """Return the settings of a ProGAN pair whose scales have all faded in.

    Args:
        size: side of the images, 4 times a power of two up to 4096.
        channels: 1 or 3.
        latent_dim: numbers per latent.
        width: channels up to 32x32; halved at each doubling beyond.
        n_classes: 0, or the number of classes: one-hot beside the latent, a classifier beside the score.
    """
    doublings = size.bit_length() - 3
    if not 0 < doublings <= 10 or size != 4 << doublings:
        raise ConfigError(f"a ProGAN has a side of 8, 16, 32, ..., 4096, not {size}")
    shared = {
        "widths": tuple(max(1, width >> max(0, k - 3)) for k in range(doublings + 1)),
        "channels": channels,
        "attributes": (n_classes,) if n_classes else (),
    }
    generator = ProganGeneratorConfig.model_validate(shared | {"latent": {"dim": latent_dim}})
    return generator, ProganCriticConfig.model_validate(shared)


PLUGIN = ProGAN()
