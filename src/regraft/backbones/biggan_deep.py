"""BigGAN-deep: bottleneck blocks with shortcuts that change no value, and norms that see the class and the whole latent.

One network serves two public families.  DeepMind's weights as HuggingFace published them have no critic, stored spectral
vectors, and batch statistics for a row of truncations; files of ajbrock's BigGANdeep.py have a critic and one set.  ``psi``
scales the latent and, where there are statistics per truncation, chooses among them.

Source: Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", appendix B.
"""

import math
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _biggan, _spectral
from regraft.backbones._attention import SelfAttention
from regraft.backbones._biggan import Entry, Head
from regraft.backbones._biggan_deep_config import BottleneckConfig, DeepCriticConfig, DeepGeneratorConfig, Spectral
from regraft.backbones._conditional import LinearNorm, check_head, class_vector, mix_class_axis, replace_head
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import HINGE, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, ClassHead, Conditioning, Critic, Description, Generator, Noise
from regraft.core.randomness import Rng


class Level(NamedTuple):
    """A place among the rows of a table of statistics: share * row ``low`` + (1 - share) * the next row."""

    low: int
    share: float


def level_of(psi: float, rows: int, interpolation: str) -> Level | None:
    """Find the place of truncation ``psi`` among ``rows`` evenly spaced rows; None means the last row.

    Raises:
        ConfigError: if ``psi`` is outside [0, 1].
    """
    if not 0 <= psi <= 1:
        raise ConfigError(f"psi={psi}: this generator has batch statistics for truncations between 0 and 1")
    if psi == 1 or rows == 1:
        return None
    # In the authors' arithmetic, whose rounding decides at 0.58 = 28.999... / 50, and with their exchanged weights.
    fraction, low = math.modf(psi / (1.0 / (rows - 1)))
    if interpolation == "published":
        return Level(int(low), fraction or 1.0)
    return Level(int(low) + 1, 1.0) if fraction > 1 - 1e-9 else Level(int(low), 1 - fraction)


class LevelNorm(nn.BatchNorm2d):
    """Batch normalisation with a table of stored statistics: its own are those of psi 1, the further rows those of psi < 1."""

    def __init__(self, channels: int, rows: int, eps: float, affine: bool) -> None:
        super().__init__(channels, eps=eps, affine=affine)
        self.rows = rows
        if rows > 1:
            self.register_buffer("lower_means", torch.zeros(rows - 1, channels))
            self.register_buffer("lower_vars", torch.ones(rows - 1, channels))

    def forward(self, x: Tensor, at: Level | None = None) -> Tensor:
        """Normalise (N, C, H, W) with the statistics of a level, or with the batch's own while training on these."""
        if at is None or self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        mean = self._interpolate(self.get_buffer("lower_means"), self.running_mean, at)
        var = self._interpolate(self.get_buffer("lower_vars"), self.running_var, at)
        return functional.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)

    def _interpolate(self, lower: Tensor, last: Tensor, at: Level) -> Tensor:
        def row(index: int) -> Tensor:
            return last if index >= len(lower) else lower[index]

        return row(at.low) if at.share == 1 else row(at.low) * at.share + row(at.low + 1) * (1 - at.share)


class DeepNorm(LinearNorm):
    """A :class:`LinearNorm` whose batch normalisation is a :class:`LevelNorm`."""

    def __init__(self, channels: int, code_dim: int, config: DeepGeneratorConfig) -> None:
        super().__init__(channels, code_dim, _dialect(config.spectral), config.bn_eps, config.sn_eps)
        self.norm = LevelNorm(channels, config.statistics, config.bn_eps, affine=False)

    def forward(self, x: Tensor, code: Tensor, at: Level | None = None) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, code_dim)."""
        scale, shift = 1 + self.gain(code), self.bias(code)
        return torch.addcmul(shift[:, :, None, None], self.norm(x, at), scale[:, :, None, None])


class UpBottleneck(nn.Module):
    """A generator block: four times norm, relu, convolution, beside a shortcut that drops channels; then attention."""

    def __init__(self, block: BottleneckConfig, config: DeepGeneratorConfig, code_dim: int) -> None:
        super().__init__()
        self.outputs, self.resample = block.outputs, block.resample
        widths = (block.inputs, block.hidden, block.hidden, block.hidden)
        self.norms = nn.ModuleList(DeepNorm(width, code_dim, config) for width in widths)
        self.convs = _convolutions(block, _dialect(config.spectral), config.sn_eps)
        self.attention = SelfAttention(block.outputs, _dialect(config.spectral), config.sn_eps) if block.attention else None

    def forward(self, x: Tensor, code: Tensor, at: Level | None = None) -> Tensor:
        """Map (N, C, H, W) under codes (N, code_dim)."""
        h, x = x, x[:, : self.outputs]
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            h = functional.relu(norm(h, code, at))
            if index == 1 and self.resample:
                h, x = (functional.interpolate(part, scale_factor=2, mode="nearest") for part in (h, x))
            h = conv(h)
        out: Tensor = h + x
        return out if self.attention is None else self.attention(out)


class DownBottleneck(nn.Module):
    """A critic block: four times relu, convolution, beside a shortcut with learned channels appended; then attention."""

    def __init__(self, block: BottleneckConfig, spectral: _spectral.Dialect | None, sn_eps: float) -> None:
        super().__init__()
        self.resample = block.resample
        self.convs = _convolutions(block, spectral, sn_eps)
        extra = block.outputs - block.inputs
        self.shortcut = _spectral.conv(block.inputs, extra, 1, spectral=spectral, sn_eps=sn_eps) if extra else None
        self.attention = SelfAttention(block.outputs, spectral, sn_eps) if block.attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), halving the side where the block resamples."""
        h = x
        for index, conv in enumerate(self.convs):
            h = functional.relu(h)
            if index == 3 and self.resample:
                h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
            h = conv(h)
        if self.shortcut is not None:
            x = torch.cat([x, self.shortcut(x)], dim=1)
        out: Tensor = h + x
        return out if self.attention is None else self.attention(out)


class DeepExit(nn.Module):
    """The last layer: norm with an ordinary gain, relu, 3x3, tanh of the first channels."""

    def __init__(self, config: DeepGeneratorConfig) -> None:
        super().__init__()
        width = config.blocks[-1].outputs
        self.channels = config.channels
        self.norm = LevelNorm(width, config.statistics, config.bn_eps, affine=True)
        # Sigma is that of all rows, those that are not used included.
        dialect = _dialect(config.spectral)
        self.conv = _spectral.conv(width, config.rows, 3, padding=1, spectral=dialect, sn_eps=config.sn_eps)

    def forward(self, x: Tensor, at: Level | None = None) -> Tensor:
        """Map features (N, C, H, W) to images of the same sides."""
        return torch.tanh(self.conv(functional.relu(self.norm(x, at)))[:, : self.channels])


class DeepGenerator(Generator):
    """BigGAN-deep's generator."""

    def __init__(self, config: DeepGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        bounded = config.bound is not None
        self.latent = Latent(config.latent_dim, "truncated_normal" if bounded else "normal", config.bound or 1.0)
        self.n_classes, self.channels = config.n_classes, config.channels
        side = config.side << sum(b.resample for b in config.blocks)
        self.size = (side, side)
        code_dim = config.latent_dim + config.class_dim
        self.entry = Entry(
            code_dim,
            config.blocks[0].inputs,
            config.side,
            config.n_classes,
            config.class_dim,
            _dialect(config.spectral),
            config.sn_eps,
        )
        self.blocks = nn.ModuleList(UpBottleneck(block, config, code_dim) for block in config.blocks)
        self.exit = DeepExit(config)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`.

        ``psi`` scales the latent, as the authors' truncated draw psi * truncnorm(-2, 2) does, and chooses the batch statistics
        that belong to it.  Statistics for psi below 1 are the source's; training on batch statistics renews those of 1 only.
        """
        c = self.config
        code = z if psi == 1.0 else z * psi
        at = level_of(psi, c.statistics, c.interpolation) if c.statistics > 1 else None
        if self.n_classes:
            code = torch.cat([code, class_vector(self, y, c.class_dim).to(code)], dim=1)
        x = self.entry(code)
        for block in self.blocks:
            x = block(x, code, at)
        images: Tensor = self.exit(x, at)
        return images

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`: class codes are vectors of the class table."""
        return self.entry.embed(y) if self.n_classes else super().embed(y)

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """See :attr:`Generator.conditionings`."""
        return () if self.n_classes else ("norm",)

    def with_classes(self, n: int, how: Conditioning = "norm") -> "DeepGenerator":
        """See :meth:`Generator.with_classes`: adds a class table; every norm takes its vectors by columns of zeros."""
        if self.n_classes or how != "norm":
            return cast(DeepGenerator, super().with_classes(n, how))
        conditional = DeepGenerator(self.config.model_copy(update={"n_classes": n, "class_dim": _biggan.CLASS_DIM}))
        return _biggan.add_class_inputs(conditional, self, class_first=False)

    def with_class_mix(self, weights: Tensor) -> "DeepGenerator":
        """See :meth:`Generator.with_class_mix`."""
        if not self.n_classes:
            return cast(DeepGenerator, super().with_class_mix(weights))
        return mix_class_axis(lambda n: DeepGenerator(self.config.model_copy(update={"n_classes": n})), self, weights)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("biggan_deep", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The entry (with the class table), the blocks, the exit."""
        return [self.entry, *self.blocks, self.exit]

    @property
    def norms(self) -> list[nn.Module]:
        """The blocks' norms, without the last one before the image."""
        return [module for module in self.modules() if isinstance(module, DeepNorm)]


class DeepCritic(Critic):
    """BigGAN-deep's critic, with a projection head where there are classes."""

    def __init__(self, config: DeepCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.channels, self.n_classes = (config.size, config.size), config.channels, config.n_classes
        spectral = _dialect(config.spectral)
        self.stem = _spectral.conv(config.channels, config.stem, 3, padding=1, spectral=spectral, sn_eps=config.sn_eps)
        self.blocks = nn.ModuleList(DownBottleneck(block, spectral, config.sn_eps) for block in config.blocks)
        self.head = Head(config.blocks[-1].outputs, config.n_classes, spectral, config.sn_eps)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`; without ``y`` the projection is left out."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x, y)
        return scores

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "DeepCritic":
        """See :meth:`Critic.with_classes`; the head is a projection."""
        check_head("projection", head)
        config = self.config.model_copy(update={"n_classes": n})
        return replace_head(lambda: DeepCritic(config), self, "head.classes.", seed)

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("biggan_deep", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The stem, the blocks, the head."""
        return [self.stem, *self.blocks, self.head]


class BigGANDeep(Backbone[DeepGeneratorConfig, DeepCriticConfig]):
    """BigGAN-deep's generator and critic; recipe and norms as :class:`biggan.BigGAN`'s."""

    objective = HINGE
    recipe = Recipe(generator_lr=1e-4, critic_lr=4e-4, miner_lr=1e-4, betas=(0.0, 0.999), ema_decay=0.999)
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 2, "latent_dim": 6, "class_dim": 5, "attention": (4, 8)}

    GeneratorConfig = DeepGeneratorConfig
    CriticConfig = DeepCriticConfig

    def generator(self, config: DeepGeneratorConfig) -> DeepGenerator:
        """Build a generator."""
        return DeepGenerator(config)

    def critic(self, config: DeepCriticConfig) -> DeepCritic:
        """Build a critic."""
        return DeepCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        _biggan.initialise(network)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[DeepGeneratorConfig, DeepCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int,
    channels: int,
    n_classes: int = 0,
    width: int = 32,
    latent_dim: int = 128,
    class_dim: int = 128,
    attention: tuple[int, ...] = (64,),
    depth: int = 2,
) -> tuple[DeepGeneratorConfig, DeepCriticConfig]:
    """Return the settings of a BigGAN-deep with the published width multiples.

    Args:
        size: side of the images, 8 to 512.
        channels: 1 or 3.
        n_classes: number of classes, 0 for none.
        width: base width; 128 in the published networks.
        latent_dim: numbers per latent.
        class_dim: width of the class table.
        attention: sides of the maps that get self-attention.
        depth: blocks per doubling or halving.
    """
    up_blocks, down_blocks = [], []
    pairs = list(zip(*_biggan.up_multiples(size), strict=True))
    for index, (a, b) in enumerate(pairs):
        for step in range(depth):
            last = step == depth - 1
            up_blocks.append(_bottleneck(a, b if last else a, width, last, last and 8 << index in attention, a))
    multiples = _biggan.DOWN_MULTIPLES.get(size, (4,) * (len(pairs) + 1))
    halvings = len(pairs) if size in _biggan.DOWN_MULTIPLES else max(1, len(pairs) - 1)
    for index, (a, b) in enumerate(zip(multiples, multiples[1:], strict=False)):
        halve = index < halvings
        for step in range(depth):
            attend = halve and step == depth - 1 and size >> (index + 1) in attention
            down_blocks.append(_bottleneck(a if step == 0 else b, b, width, halve and step == 0, attend, b))
    generator = DeepGeneratorConfig(
        latent_dim=latent_dim,
        n_classes=n_classes,
        class_dim=class_dim if n_classes else 0,
        blocks=tuple(up_blocks),
        channels=channels,
        rows=channels,
    )
    critic = DeepCriticConfig(
        size=size, channels=channels, stem=multiples[0] * width, blocks=tuple(down_blocks), n_classes=n_classes
    )
    return generator, critic


def _bottleneck(inputs: int, outputs: int, width: int, resample: bool, attention: bool, widest: int) -> BottleneckConfig:
    """Return the settings of a block whose channels are multiples of ``width``; the hidden ones are a quarter of ``widest``."""
    widths = {"inputs": inputs * width, "hidden": max(1, widest * width // 4), "outputs": outputs * width}
    return BottleneckConfig(**widths, resample=resample, attention=attention)


def _convolutions(block: BottleneckConfig, spectral: _spectral.Dialect | None, sn_eps: float) -> nn.ModuleList:
    h = block.hidden
    shapes = ((block.inputs, h, 1), (h, h, 3), (h, h, 3), (h, block.outputs, 1))
    return nn.ModuleList(_spectral.conv(a, b, k, padding=k // 2, spectral=spectral, sn_eps=sn_eps) for a, b, k in shapes)


def _dialect(spectral: Spectral) -> _spectral.Dialect | None:
    return None if spectral == "none" else spectral


PLUGIN = BigGANDeep()
