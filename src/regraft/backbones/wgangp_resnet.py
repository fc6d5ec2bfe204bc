"""The residual WGAN-GP pair of 64x64 images that TransferGAN starts from, unconditional or with an auxiliary classifier.

The authors sample with the batch's statistics, so an image depends on its batch-mates.  ``generator(z)`` in evaluation mode is
their form; inside :func:`regraft.core.networks.evaluating`, where ``GAN.sample`` works, the stored statistics are used.

Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", appendix; Odena et al. 2017 for the classifier head.
"""

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones._conditional import (
    TableNorm,
    check_head,
    class_code,
    look_up_rows,
    mix_class_axis,
    replace_head,
    require_code,
    split_code,
    tile_norms,
)
from regraft.backbones._wgangp_resnet_config import ResNetCriticConfig, ResNetGeneratorConfig
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import WGAN_GP, Recipe
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, ClassHead, Conditioning, Critic, Description, Generator, Noise
from regraft.core.norms import batch_norms
from regraft.core.randomness import Rng, global_seed


def _norm(channels: int, n_classes: int) -> nn.Module:
    return TableNorm(channels, n_classes) if n_classes else nn.BatchNorm2d(channels)


def _normalise(norm: nn.Module, x: Tensor, codes: list[Tensor]) -> Tensor:
    """Apply a norm; a class-conditional one takes the first of the codes off the list."""
    out: Tensor = norm(x, codes.pop(0)) if isinstance(norm, TableNorm) else norm(x)
    return out


class UpBlock(nn.Module):
    """A residual block that doubles the sides: norm, relu, upsampling, 3x3, norm, relu, 3x3, beside an upsampled shortcut."""

    def __init__(self, inputs: int, outputs: int, n_classes: int) -> None:
        super().__init__()
        self.norm1 = _norm(inputs, n_classes)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = _norm(outputs, n_classes)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, codes: list[Tensor]) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2H, 2W); takes the class codes of its norms off the list."""
        h = self.conv1(_double(functional.relu(_normalise(self.norm1, x, codes))))
        h = self.conv2(functional.relu(_normalise(self.norm2, h, codes)))
        out: Tensor = h + self.shortcut(_double(x))
        return out


class ImageLayer(nn.Module):
    """The last layer: norm, relu, 3x3, tanh."""

    def __init__(self, inputs: int, channels: int, n_classes: int) -> None:
        super().__init__()
        self.norm = _norm(inputs, n_classes)
        self.conv = nn.Conv2d(inputs, channels, 3, padding=1)

    def forward(self, x: Tensor, codes: list[Tensor]) -> Tensor:
        """Map features (N, C, H, W) to images of the same sides; takes the class code of its norm off the list."""
        return torch.tanh(self.conv(functional.relu(_normalise(self.norm, x, codes))))


class LayerNorm(nn.GroupNorm):
    """Layer norm over channels and pixels, with a gain and shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if torch.is_grad_enabled() and not x.requires_grad:
            # torch 2.13 crashes in the backward pass of a norm that is trained while nothing before it is.
            x = x.detach().requires_grad_()
        return super().forward(x)


class DownBlock(nn.Module):
    """A residual block that halves the sides: norm, relu, 3x3, norm, relu, 3x3, pooling, beside a pooled shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)
        self.norm2 = LayerNorm(inputs)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/2, W/2)."""
        h = self.conv1(functional.relu(self.norm1(x)))
        h = self.conv2(functional.relu(self.norm2(h)))
        out: Tensor = functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))
        return out


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class ResNetGenerator(Generator):
    """The generator: a linear layer, blocks, and a last layer."""

    def __init__(self, config: ResNetGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.latent = Latent(config.latent_dim)
        self.n_classes, self.channels = config.n_classes, config.channels
        doublings = len(config.widths) - 1
        self.size = (config.base[0] << doublings, config.base[1] << doublings)
        one_hot = config.n_classes if config.conditioning == "concat" else 0
        self.input = nn.Linear(config.latent_dim + one_hot, config.widths[0] * math.prod(config.base))
        pairs = zip(config.widths[:-1], config.widths[1:], strict=True)
        self.blocks = nn.ModuleList(UpBlock(a, b, config.table_rows) for a, b in pairs)
        self.output = ImageLayer(config.widths[-1], config.channels, config.n_classes if config.last_norm_by_class else 0)

    def train(self, mode: bool = True) -> "ResNetGenerator":
        """Set the mode; with ``batch_statistics`` norms use the batch's statistics in evaluation too, as the authors sample."""
        super().train(mode)
        if self.config.batch_statistics:
            for norm in batch_norms(self):
                norm.training, norm.track_running_stats = True, mode
        return self

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; there is no mapping network, so ``psi`` scales the latent."""
        codes: list[Tensor] = []
        if self.n_classes:
            code = require_code(self, y)
            codes = split_code(self._tables, code) if self.config.conditioning == "norm" else [code.vector.to(z)]
        z = z if psi == 1.0 else z * psi
        if self.config.conditioning == "concat":
            z = torch.cat([z, codes.pop()], dim=1)
        x = self.input(z).view(len(z), self.config.widths[0], *self.config.base)
        for block in self.blocks:
            x = block(x, codes)
        images: Tensor = self.output(x, codes)
        return images

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        if self.config.conditioning == "concat":
            return ClassCode(look_up_rows(torch.eye(self.n_classes, device=y.device), y))
        return class_code(self._tables, y) if self.n_classes else super().embed(y)

    def with_classes(self, n: int, how: Conditioning = "norm") -> "ResNetGenerator":
        """See :meth:`Generator.with_classes`: equal rows for all classes in every norm, or zero columns for a one-hot class."""
        if self.n_classes:
            raise MissingCapability("this generator already has classes")
        update = {"n_classes": n, "conditioning": how, "last_norm_by_class": how == "norm"}
        conditional = ResNetGenerator(self.config.model_copy(update=update))
        tensors = {k: v.clone() for k, v in self.state_dict().items()}
        if how == "concat":
            weight = tensors["input.weight"]
            tensors["input.weight"] = torch.cat([weight, weight.new_zeros(len(weight), n)], dim=1)
        else:
            tensors = tile_norms(tensors, n, ("norm", "norm1", "norm2"))
        conditional.load_state_dict(tensors, strict=True)
        return conditional.train(self.training)

    def with_class_mix(self, weights: Tensor) -> "ResNetGenerator":
        """See :meth:`Generator.with_class_mix`."""
        if not self.n_classes:
            return cast(ResNetGenerator, super().with_class_mix(weights))
        if self.config.conditioning == "norm":
            return mix_class_axis(lambda n: ResNetGenerator(self.config.model_copy(update={"n_classes": n})), self, weights)
        mixed = ResNetGenerator(self.config.model_copy(update={"n_classes": len(weights)}))
        tensors = {k: v.detach().clone() for k, v in self.state_dict().items()}
        latent_columns, class_columns = tensors["input.weight"].split([self.latent.dim, self.n_classes], dim=1)
        tensors["input.weight"] = torch.cat([latent_columns, class_columns @ weights.to(class_columns).t()], dim=1)
        mixed.load_state_dict(tensors, strict=True)
        return mixed.train(self.training)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("wgangp_resnet", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The linear layer, the blocks, the last layer."""
        return [self.input, *self.blocks, self.output]

    @property
    def norms(self) -> list[nn.Module]:
        """All norms, latent side first."""
        kinds = (TableNorm, nn.BatchNorm2d)
        return [m for stage in self.stages for m in stage.children() if isinstance(m, kinds)]

    @property
    def _tables(self) -> list[TableNorm]:
        return [norm for norm in self.norms if isinstance(norm, TableNorm)]


class ResNetCritic(Critic):
    """The critic: a convolution, blocks, and a linear score; classes matter to :meth:`classify` only."""

    def __init__(self, config: ResNetCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.channels, self.n_classes = config.size, config.channels, config.n_classes
        self.input = nn.Conv2d(config.channels, config.widths[0], 3, padding=1)
        pairs = zip(config.widths[:-1], config.widths[1:], strict=True)
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairs)
        self.output = nn.Linear(config.features, 1)
        if config.n_classes:
            self.classifier = nn.Linear(config.features, config.n_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`; the score does not depend on the class."""
        scores: Tensor = self.output(self._features(x))
        return scores.flatten()

    def classify(self, x: Tensor) -> Tensor:
        """See :meth:`Critic.classify`."""
        return self.score_and_classify(x)[1] if self.n_classes else super().classify(x)

    @property
    def classifies(self) -> bool:
        """See :attr:`Critic.classifies`."""
        return self.n_classes > 0

    def score_and_classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Critic.score_and_classify`."""
        features = self._features(x)
        return self.output(features).flatten(), self.classifier(features)

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "ResNetCritic":
        """See :meth:`Critic.with_classes`; the head is an auxiliary classifier."""
        check_head("auxiliary", head)
        config = self.config.model_copy(update={"n_classes": n})
        conditional = replace_head(lambda: ResNetCritic(config), self, "classifier.", seed)
        with global_seed(seed):
            nn.init.xavier_uniform_(conditional.classifier.weight)
        nn.init.zeros_(conditional.classifier.bias)
        return conditional

    def _features(self, x: Tensor) -> Tensor:
        for stage in self.stages[:-1]:
            x = stage(x)
        return x.flatten(1)

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("wgangp_resnet", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The first convolution, the blocks, the linear score."""
        return [self.input, *self.blocks, self.output]


class WGANGPResNet(Backbone[ResNetGeneratorConfig, ResNetCriticConfig]):
    """The residual WGAN-GP pair; the critic has no batch norm, because its gradient penalty is one for each image."""

    objective = WGAN_GP
    recipe = Recipe(batch=64, generator_lr=1e-4, critic_lr=1e-4, betas=(0.0, 0.9), generator_norm="batch")
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 4, "latent_dim": 6}

    GeneratorConfig = ResNetGeneratorConfig
    CriticConfig = ResNetCriticConfig

    def generator(self, config: ResNetGeneratorConfig) -> ResNetGenerator:
        """Build a generator."""
        return ResNetGenerator(config)

    def critic(self, config: ResNetCriticConfig) -> ResNetCritic:
        """Build a critic."""
        return ResNetCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw uniform weights, of He's variance in the 3x3 convolutions of blocks and of Glorot's elsewhere; zero biases."""
        blocks = {
            id(m) for block in network.modules() if isinstance(block, UpBlock | DownBlock) for m in (block.conv1, block.conv2)
        }
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight, gain=2**0.5 if id(module) in blocks else 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[ResNetGeneratorConfig, ResNetCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int, channels: int, latent_dim: int = 128, width: int = 64, n_classes: int = 0
) -> tuple[ResNetGeneratorConfig, ResNetCriticConfig]:
    """Return the settings of an ordinary pair.

    Args:
        size: side of the images, 4 times a power of two; published at 64.
        channels: 1 or 3.
        latent_dim: numbers per latent.
        width: channels next to the image; doubled at each halving of the side, up to 8 times.
        n_classes: 0, or the number of classes: norms of the generator know them, and the critic gets a classifier head.
    """
    doublings = size.bit_length() - 3
    if not 1 <= doublings <= 8 or size != 4 << doublings:
        raise ConfigError(f"a WGAN-GP ResNet has a side of 8, 16, 32, ... up to 1024, not {size}")
    widths = [width * min(8, 1 << i) for i in range(doublings)]
    all_widths = (*widths, widths[-1])  # image side first
    common: dict[str, Any] = {"channels": channels, "n_classes": n_classes}
    generator = {"latent_dim": latent_dim, "widths": all_widths[::-1], "last_norm_by_class": n_classes > 0}
    critic = {"size": (size, size), "widths": all_widths}
    return ResNetGeneratorConfig.model_validate(generator | common), ResNetCriticConfig.model_validate(critic | common)


PLUGIN = WGANGPResNet()
