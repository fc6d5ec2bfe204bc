"""BigGAN: residual generator with class-conditional norms and a projection critic, spectrally normalised.

A hierarchical generator cuts the latent into one chunk for the first layer and one per block; each block's norms see its
chunk beside the class vector.  Without classes they see the chunk alone.  There is no mapping network: ``psi`` scales the
latent, a deterministic stand-in for drawing it from a truncated normal.

Source: Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", appendix B.
"""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _biggan, _spectral
from regraft.backbones._attention import SelfAttention
from regraft.backbones._biggan import Entry, Head
from regraft.backbones._biggan_config import BigGANCriticConfig, BigGANGeneratorConfig, DownBlockConfig, UpBlockConfig
from regraft.backbones._conditional import (
    LinearNorm,
    TableNorm,
    check_head,
    class_code,
    class_vector,
    mix_class_axis,
    replace_head,
    require_code,
    split_code,
)
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import HINGE, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, ClassHead, Conditioning, Critic, Description, Generator, Noise
from regraft.core.randomness import Rng


class UpBlock(nn.Module):
    """A generator block: norm, relu, upsampling, 3x3, norm, relu, 3x3, beside an upsampled 1x1 shortcut; then attention."""

    def __init__(self, block: UpBlockConfig, config: BigGANGeneratorConfig, spectral: _spectral.Dialect | None) -> None:
        super().__init__()

        def norm(channels: int) -> LinearNorm | TableNorm:
            if not config.code_dim:
                return TableNorm(channels, config.n_classes, config.bn_eps)
            return LinearNorm(channels, config.code_dim, spectral, config.bn_eps, config.sn_eps)

        def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
            return _spectral.conv(inputs, outputs, kernel, padding=kernel // 2, spectral=spectral, sn_eps=config.sn_eps)

        self.norm1, self.norm2 = norm(block.inputs), norm(block.outputs)
        self.conv1, self.conv2 = conv(block.inputs, block.outputs, 3), conv(block.outputs, block.outputs, 3)
        self.shortcut = conv(block.inputs, block.outputs, 1)
        self.attention = SelfAttention(block.outputs, spectral, config.sn_eps) if block.attention else None

    def forward(self, x: Tensor, code1: Tensor, code2: Tensor) -> Tensor:
        """Double the side of (N, C, H, W) under the codes of the two norms."""
        h = self.conv1(_double(functional.relu(self.norm1(x, code1))))
        h = self.conv2(functional.relu(self.norm2(h, code2)))
        # A 1x1 convolution commutes with nearest upsampling, and is four times cheaper before it.
        out: Tensor = h + _double(self.shortcut(x))
        return out if self.attention is None else self.attention(out)


class Exit(nn.Module):
    """The last layer: norm with an ordinary gain, relu, 3x3, tanh."""

    def __init__(self, config: BigGANGeneratorConfig, spectral: _spectral.Dialect | None) -> None:
        super().__init__()
        width = config.blocks[-1].outputs
        self.norm = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.conv = _spectral.conv(width, config.channels, 3, padding=1, spectral=spectral, sn_eps=config.sn_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C, H, W) to images of the same sides."""
        return torch.tanh(self.conv(functional.relu(self.norm(x))))


class DownBlock(nn.Module):
    """A critic block: relu, 3x3, relu, 3x3, pooling, beside a shortcut of the input before its relu; then attention."""

    def __init__(self, block: DownBlockConfig, spectral: _spectral.Dialect | None, sn_eps: float, first: bool) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
            return _spectral.conv(inputs, outputs, kernel, padding=kernel // 2, spectral=spectral, sn_eps=sn_eps)

        self.downsample, self.first = block.downsample, first
        self.conv1, self.conv2 = conv(block.inputs, block.hidden, 3), conv(block.hidden, block.outputs, 3)
        learned = block.inputs != block.outputs or block.downsample
        self.shortcut = conv(block.inputs, block.outputs, 1) if learned else None
        self.attention = SelfAttention(block.outputs, spectral, sn_eps) if block.attention else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), halving the side where the block downsamples."""
        h = self.conv1(x if self.first else functional.relu(x))
        h = self.conv2(functional.relu(h))
        if self.downsample:
            # Averaging and a 1x1 convolution commute, so their published order does not matter.
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        out: Tensor = h + (x if self.shortcut is None else self.shortcut(x))
        return out if self.attention is None else self.attention(out)


class BigGANGenerator(Generator):
    """BigGAN's generator: its norms see the class and, in a hierarchical one, a chunk of the latent."""

    def __init__(self, config: BigGANGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.latent = Latent(config.latent_dim)
        self.n_classes, self.channels = config.n_classes, config.channels
        side = config.side << len(config.blocks)
        self.size = (side, side)
        spectral: _spectral.Dialect | None = "fresh" if config.spectral else None
        self.entry = Entry(
            config.chunk, config.blocks[0].inputs, config.side, config.n_classes, config.class_dim, spectral, config.sn_eps
        )
        self.blocks = nn.ModuleList(UpBlock(block, config, spectral) for block in config.blocks)
        self.exit = Exit(config, spectral)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` scales the latent."""
        z = z if psi == 1.0 else z * psi
        chunks = torch.split(z, self.config.chunk, dim=1)
        x = self.entry(chunks[0])
        for block, (code1, code2) in zip(self.blocks, self._codes(chunks, y), strict=True):
            x = block(x, code1, code2)
        images: Tensor = self.exit(x)
        return images

    def _codes(self, chunks: tuple[Tensor, ...], y: Tensor | ClassCode | None) -> list[tuple[Tensor, Tensor]]:
        """Return the codes of the two norms of each block: (N, code_dim), or parts of the class code if norms hold tables."""
        if self.n_classes and not self.config.class_dim:
            parts = split_code(self._tables, require_code(self, y))
            return list(zip(parts[::2], parts[1::2], strict=True))
        codes = [chunks[0].new_zeros(len(chunks[0]), 0)] * len(self.blocks)
        if self.n_classes:
            codes = [class_vector(self, y, self.config.class_dim).to(chunks[0])] * len(self.blocks)
        if self.config.hierarchical:
            codes = [torch.cat([code, chunk], dim=1) for code, chunk in zip(codes, chunks[1:], strict=True)]
        return [(code, code) for code in codes]

    @property
    def _tables(self) -> list[TableNorm]:
        return [norm for norm in self.norms if isinstance(norm, TableNorm)]

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`: the shared class vector, or all norms' gains and shifts where each norm has a table."""
        if not self.n_classes:
            return super().embed(y)
        return self.entry.embed(y) if self.config.class_dim else class_code(self._tables, y)

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """See :attr:`Generator.conditionings`."""
        return () if self.n_classes else ("norm",)

    def with_classes(self, n: int, how: Conditioning = "norm") -> "BigGANGenerator":
        """See :meth:`Generator.with_classes`: adds a class table; every norm takes its vectors by columns of zeros."""
        if self.n_classes or how != "norm":
            return cast(BigGANGenerator, super().with_classes(n, how))
        conditional = BigGANGenerator(self.config.model_copy(update={"n_classes": n, "class_dim": _biggan.CLASS_DIM}))
        return _biggan.add_class_inputs(conditional, self, class_first=True)

    def with_class_mix(self, weights: Tensor) -> "BigGANGenerator":
        """See :meth:`Generator.with_class_mix`."""
        if not self.n_classes:
            return cast(BigGANGenerator, super().with_class_mix(weights))
        return mix_class_axis(lambda n: BigGANGenerator(self.config.model_copy(update={"n_classes": n})), self, weights)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("biggan", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The entry (with the class table), the blocks, the exit."""
        return [self.entry, *self.blocks, self.exit]

    @property
    def norms(self) -> list[nn.Module]:
        """The blocks' norms, without the last one before the image."""
        return [norm for block in self.blocks if isinstance(block, UpBlock) for norm in (block.norm1, block.norm2)]


class BigGANCritic(Critic):
    """BigGAN's critic, with a projection head where there are classes."""

    def __init__(self, config: BigGANCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.size, self.channels, self.n_classes = (config.size, config.size), config.channels, config.n_classes
        spectral: _spectral.Dialect | None = "fresh" if config.spectral else None
        self.blocks = nn.ModuleList(
            DownBlock(block, spectral, config.sn_eps, first=index == 0) for index, block in enumerate(config.blocks)
        )
        self.head = Head(config.blocks[-1].outputs, config.n_classes, spectral, config.sn_eps)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`; without ``y`` the projection is left out."""
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x, y)
        return scores

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "BigGANCritic":
        """See :meth:`Critic.with_classes`; the head is a projection."""
        check_head("projection", head)
        config = self.config.model_copy(update={"n_classes": n})
        return replace_head(lambda: BigGANCritic(config), self, "head.classes.", seed)

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("biggan", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The blocks, then the head."""
        return [*self.blocks, self.head]


class BigGAN(Backbone[BigGANGeneratorConfig, BigGANCriticConfig]):
    """BigGAN's generator and critic.

    The recipe is that of MineGAN's BigGAN (Adam at 1e-4 and 4e-4, one critic step); the published average over 10,000 steps
    would outlast a short adaptation.  The generator trains on its stored statistics, on which it is also sampled; the critic
    has no norms.
    """

    objective = HINGE
    recipe = Recipe(generator_lr=1e-4, critic_lr=4e-4, miner_lr=1e-4, betas=(0.0, 0.999), ema_decay=0.999)
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 2, "latent_dim": 8, "class_dim": 5, "attention": (4, 8)}

    GeneratorConfig = BigGANGeneratorConfig
    CriticConfig = BigGANCriticConfig

    def generator(self, config: BigGANGeneratorConfig) -> BigGANGenerator:
        """Build a generator."""
        return BigGANGenerator(config)

    def critic(self, config: BigGANCriticConfig) -> BigGANCritic:
        """Build a critic."""
        return BigGANCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        _biggan.initialise(network)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[BigGANGeneratorConfig, BigGANCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int,
    channels: int,
    n_classes: int = 0,
    width: int = 32,
    latent_dim: int = 120,
    class_dim: int = 128,
    attention: tuple[int, ...] = (64,),
    hierarchical: bool = True,
    shared: bool = True,
) -> tuple[BigGANGeneratorConfig, BigGANCriticConfig]:
    """Return the settings of a BigGAN with the published width multiples.

    Args:
        size: side of the images, 8 to 512.
        channels: 1 or 3.
        n_classes: number of classes, 0 for none.
        width: base width; 96 in the public network of 128 px.
        latent_dim: numbers per latent, rounded down to a multiple of the number of chunks.
        class_dim: width of the shared class table.
        attention: sides of the maps that get self-attention.
        hierarchical: whether each block sees a chunk of the latent.
        shared: whether all norms share one class table.
    """
    input_multiples, output_multiples = _biggan.up_multiples(size)
    if not hierarchical and not n_classes:
        raise ConfigError("hierarchical=false: without classes the norms have nothing but the latent's chunks to go by")
    if hierarchical and n_classes and not shared:
        raise ConfigError("shared=false: a hierarchical BigGAN with classes has one shared class table")
    chunks = len(input_multiples) + 1
    chunk = latent_dim // chunks if hierarchical else latent_dim
    if chunk < 1:
        raise ConfigError(f"latent_dim={latent_dim}: a hierarchical BigGAN of {size} px needs at least {chunks}")
    up_blocks = [
        UpBlockConfig(inputs=a * width, outputs=b * width, attention=8 << index in attention)
        for index, (a, b) in enumerate(zip(input_multiples, output_multiples, strict=True))
    ]
    generator = BigGANGeneratorConfig(
        chunk=chunk,
        hierarchical=hierarchical,
        n_classes=n_classes,
        class_dim=class_dim if n_classes and shared else 0,
        blocks=tuple(up_blocks),
        channels=channels,
    )
    halvings = len(_biggan.DOWN_MULTIPLES[size]) - 1 if size in _biggan.DOWN_MULTIPLES else max(1, size.bit_length() - 4)
    multiples = _biggan.DOWN_MULTIPLES.get(size, (4,) * (halvings + 2))
    down_blocks, side, previous = [], size, channels
    for index, multiple in enumerate(multiples):
        halve = index < halvings
        side = side // 2 if halve else side
        down_blocks.append(
            DownBlockConfig(
                inputs=previous,
                hidden=multiple * width,
                outputs=multiple * width,
                downsample=halve,
                attention=halve and side in attention,
            )
        )
        previous = multiple * width
    return generator, BigGANCriticConfig(size=size, channels=channels, blocks=tuple(down_blocks), n_classes=n_classes)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


PLUGIN = BigGAN()
