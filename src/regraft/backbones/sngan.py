"""Residual GANs in the manner of Miyato et al. 2018 and related ones: SNGAN, projection, SAGAN, WGAN-GP, BigGAN-like ResNets.

There is one generator and one critic, whose settings say which family they follow: spectral normalisation (and in which
dialect), bilinear or nearest upsampling, sum or mean pooling, attention, and how the class enters.
"""

from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.backbones import _residual
from regraft.backbones._conditional import (
    LinearNorm,
    TableNorm,
    choose_head,
    class_code,
    class_vector,
    look_up_rows,
    mix_class_axis,
    replace_head,
    require_code,
    split_code,
    tile_norms,
)
from regraft.backbones._layer_config import LatentConfig
from regraft.backbones._residual import BlockConfig, CriticBlock, First, GeneratorBlock, Head, Last, Norm, OneHotNorm, Width
from regraft.backbones._spectral import Dialect
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Config, Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, ClassHead, Conditioning, Critic, Description, Generator, Noise
from regraft.core.randomness import Rng

Classes = Annotated[int, Field(ge=0, le=1 << 16)]
Epsilon = Annotated[float, Field(gt=0, lt=1)]


class ResidualGeneratorConfig(Config):
    """Settings of a residual generator."""

    latent: LatentConfig
    channels: Literal[1, 3] = 3
    bottom: Annotated[int, Field(ge=1, le=64, description="Side of the first map.")] = 4
    blocks: tuple[BlockConfig, ...]
    upsampling: _residual.Upsampling = "bilinear"
    spectral: Annotated[Dialect | None, Field(description="Dialect of the spectral normalisation of all weights.")] = None
    norm_eps: Epsilon = 1e-5
    sn_eps: Epsilon = 1e-12
    n_classes: Classes = 0
    conditioning: Annotated[
        Literal["none", "table", "one_hot", "shared"],
        Field(
            description="How norms get the class. table: each holds gains and shifts by class; one_hot: 1 + gain and shift are "
            "linear in the one-hot class; shared: they are linear in a class vector that all norms share."
        ),
    ] = "none"
    class_dim: Annotated[int, Field(ge=0, le=1 << 16, description="Width of the shared class vector.")] = 0
    chunk: Annotated[
        int,
        Field(
            ge=0,
            le=1 << 16,
            description="Numbers of the latent that the first layer and each block take; 0: the first layer takes all.",
        ),
    ] = 0

    @property
    def side(self) -> int:
        """Side of the images."""
        return self.bottom << sum(block.resample for block in self.blocks)

    @model_validator(mode="after")
    def _fits(self) -> "ResidualGeneratorConfig":
        _residual.check_chain(self.blocks)
        if (self.conditioning == "none") != (self.n_classes == 0):
            raise ValueError("n_classes and conditioning go together")
        if (self.conditioning == "shared") != (self.class_dim > 0):
            raise ValueError("class_dim is the width of the class vector of conditioning: shared")
        if self.chunk and self.conditioning not in ("none", "shared"):
            raise ValueError("a latent in chunks goes with conditioning: none or shared")
        if self.chunk and self.latent.dim != self.chunk * (len(self.blocks) + 1):
            raise ValueError(f"{len(self.blocks)} blocks need {len(self.blocks) + 1} chunks, latent.dim has another number")
        if self.side > 4096:
            raise ValueError(f"images of side {self.side} are beyond 4096")
        return self


class ResidualCriticConfig(Config):
    """Settings of a residual critic."""

    channels: Literal[1, 3] = 3
    size: tuple[Width, Width]
    blocks: tuple[BlockConfig, ...]
    spectral: Annotated[Dialect | None, Field(description="Dialect of the spectral normalisation of the blocks.")] = "stored"
    head_spectral: Annotated[Dialect | None, Field(description="Dialect of the spectral normalisation of the head.")] = "stored"
    sn_eps: Epsilon = 1e-12
    norm_eps: Annotated[Epsilon | None, Field(description="Small constant of the batch norms; None: there are none.")] = None
    rectified: Annotated[bool, Field(description="Whether shortcuts start from relu(x) instead of x.")] = True
    pooling: Literal["sum", "mean"] = "sum"
    n_classes: Classes = 0
    head: Literal["none", "projection", "auxiliary"] = "none"
    classifier_bias: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "ResidualCriticConfig":
        _residual.check_chain(self.blocks)
        if self.blocks[0].inputs != self.channels:
            raise ValueError(f"the first block takes {self.blocks[0].inputs} channels, the images have {self.channels}")
        if (self.head == "none") != (self.n_classes == 0):
            raise ValueError("n_classes and head go together")
        halvings = sum(block.resample for block in self.blocks)
        if min(self.size) >> halvings < 1:
            raise ValueError(f"{halvings} halvings leave nothing of images of {self.size[0]}x{self.size[1]}")
        return self


class ResidualGenerator(Generator):
    """The residual generator: first layer, blocks, last layer."""

    def __init__(self, config: ResidualGeneratorConfig) -> None:
        super().__init__()
        self.config = c = config
        self.latent = Latent(**c.latent.model_dump())
        self.n_classes, self.channels, self.size = c.n_classes, c.channels, (c.side, c.side)
        if c.conditioning == "shared":
            self.classes = nn.Embedding(c.n_classes, c.class_dim)
        self.first = First(c.chunk or c.latent.dim, c.blocks[0].inputs, c.bottom, spectral=c.spectral, sn_eps=c.sn_eps)
        self.blocks = nn.ModuleList(
            GeneratorBlock(
                block,
                (self._norm(block.inputs), self._norm(block.hidden)),
                c.upsampling,
                spectral=c.spectral,
                sn_eps=c.sn_eps,
            )
            for block in c.blocks
        )
        self.last = Last(c.blocks[-1].outputs, c.channels, c.norm_eps, spectral=c.spectral, sn_eps=c.sn_eps)

    def _norm(self, channels: int) -> Norm:
        c = self.config
        if c.conditioning == "table":
            return TableNorm(channels, c.n_classes, c.norm_eps)
        if c.conditioning == "one_hot":
            return OneHotNorm(channels, c.n_classes, c.spectral, c.norm_eps, c.sn_eps)
        if c.class_dim + c.chunk:
            return LinearNorm(channels, c.class_dim + c.chunk, c.spectral, c.norm_eps, c.sn_eps)
        return nn.BatchNorm2d(channels, eps=c.norm_eps)

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
        z = z if psi == 1.0 else z * psi
        first, *chunks = torch.split(z, self.config.chunk, dim=1) if self.config.chunk else (z,)
        codes = self._codes(y, chunks)
        x = self.first(first)
        for block, code in zip(self.blocks, codes, strict=True):
            x = block(x, code)
        images: Tensor = self.last(x)
        return images

    def _codes(self, y: Tensor | ClassCode | None, chunks: list[Tensor]) -> list[tuple[Tensor, Tensor] | None]:
        """Return the codes of the two norms of each block, None for norms that take none."""
        c = self.config
        parts: list[Tensor] = []
        if self.n_classes:
            if c.conditioning != "shared":
                rows = split_code(self._coded_norms, require_code(self, y))
                return list(zip(rows[::2], rows[1::2], strict=True))
            parts = [class_vector(self, y, c.class_dim)]
        if not parts and not chunks:
            return [None] * len(self.blocks)
        by_block = [torch.cat([*parts, chunk], dim=1) for chunk in chunks] or parts * len(self.blocks)
        return [(code, code) for code in by_block]

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        if not self.n_classes:
            return super().embed(y)
        if self.config.conditioning == "shared":
            return ClassCode(look_up_rows(self.classes.weight, y))
        return class_code(self._coded_norms, y)

    @property
    def _coded_norms(self) -> list[TableNorm | OneHotNorm]:
        return [norm for norm in self.norms if isinstance(norm, TableNorm | OneHotNorm)]

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """See :attr:`Generator.conditionings`."""
        return () if self.n_classes or self.config.chunk else ("norm",)

    def with_classes(self, n: int, how: Conditioning = "norm") -> "ResidualGenerator":
        """See :meth:`Generator.with_classes`: gains and shifts of the blocks' norms become rows of tables."""
        if self.n_classes or self.config.chunk or how != "norm":
            return cast(ResidualGenerator, super().with_classes(n, how))
        conditional = ResidualGenerator(self.config.model_copy(update={"n_classes": n, "conditioning": "table"}))
        conditional.load_state_dict(tile_norms(self.state_dict(), n, ("norm1", "norm2")), strict=True)
        return conditional.train(self.training)

    def with_class_mix(self, weights: Tensor) -> "ResidualGenerator":
        """See :meth:`Generator.with_class_mix`; norms linear in a one-hot class become tables, whose mixtures are exact."""
        c = self.config
        if not self.n_classes:
            return cast(ResidualGenerator, super().with_class_mix(weights))
        if c.conditioning != "one_hot":
            return mix_class_axis(lambda n: ResidualGenerator(c.model_copy(update={"n_classes": n})), self, weights)
        mixed = ResidualGenerator(c.model_copy(update={"n_classes": len(weights), "conditioning": "table"}))
        tensors = {k: v.clone() for k, v in self.state_dict().items() if k in mixed.state_dict()}
        names = [k for k, m in mixed.named_modules() if isinstance(m, TableNorm)]
        for name, norm in zip(names, self._coded_norms, strict=True):
            tensors[f"{name}.codes"] = (weights.to(norm.codes) @ norm.codes).detach()
        mixed.load_state_dict(tensors, strict=True)
        return mixed.train(self.training)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("sngan", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The first layer, the blocks, the last layer."""
        return [self.first, *self.blocks, self.last]

    @property
    def norms(self) -> list[nn.Module]:
        """The two norms of each block, then that of the last layer."""
        blocks = cast(list[GeneratorBlock], list(self.blocks))
        return [*(norm for block in blocks for norm in (block.norm1, block.norm2)), self.last.norm]


class ResidualCritic(Critic):
    """The residual critic: blocks, then a head."""

    def __init__(self, config: ResidualCriticConfig) -> None:
        super().__init__()
        self.config = c = config
        self.channels, self.size, self.n_classes = c.channels, c.size, c.n_classes
        self.blocks = nn.ModuleList(
            CriticBlock(block, first=k == 0, rectified=c.rectified, norm_eps=c.norm_eps, spectral=c.spectral, sn_eps=c.sn_eps)
            for k, block in enumerate(c.blocks)
        )
        width = c.blocks[-1].outputs
        self.head = Head(width, c.n_classes, c.head, c.pooling, c.classifier_bias, spectral=c.head_spectral, sn_eps=c.sn_eps)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        scores: Tensor = self.head(self._map(x), y)
        return scores

    def classify(self, x: Tensor) -> Tensor:
        """See :meth:`Critic.classify`."""
        return self.score_and_classify(x)[1] if self.head.classifier is not None else super().classify(x)

    @property
    def classifies(self) -> bool:
        """See :attr:`Critic.classifies`."""
        return self.config.head == "auxiliary"

    def score_and_classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Critic.score_and_classify`."""
        maps = self._map(x)
        if self.head.classifier is None:
            return self.head(maps), super().classify(x)
        return self.head(maps), self.head.classifier(self.head.features(maps))

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "ResidualCritic":
        """See :meth:`Critic.with_classes`."""
        head = choose_head(self.config.head, head)
        config = self.config.model_copy(update={"n_classes": n, "head": head})
        name = "head.classifier." if head == "auxiliary" else "head.classes."
        return replace_head(lambda: ResidualCritic(config), self, name, seed)

    def _map(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("sngan", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The blocks, then the head."""
        return [*self.blocks, self.head]


class SNGAN(Backbone[ResidualGeneratorConfig, ResidualCriticConfig]):
    """The residual generator and critic, trained as by Miyato et al. 2018: hinge loss, five critic steps, Adam (0, 0.9)."""

    objective = Objective(loss="hinge", penalty="none", critic_steps=5)
    recipe = Recipe(betas=(0.0, 0.9), generator_norm="batch")
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 16, "latent_dim": 6}

    GeneratorConfig = ResidualGeneratorConfig
    CriticConfig = ResidualCriticConfig

    def generator(self, config: ResidualGeneratorConfig) -> ResidualGenerator:
        """Build a generator."""
        return ResidualGenerator(config)

    def critic(self, config: ResidualCriticConfig) -> ResidualCritic:
        """Build a critic."""
        return ResidualCritic(config)

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights."""
        _residual.initialise(network)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[ResidualGeneratorConfig, ResidualCriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        check_settings(default_configs, settings)
        return default_configs(size, channels, n_classes=n_classes, **settings)


def default_configs(
    size: int, channels: int, latent_dim: int = 128, width: int | None = None, n_classes: int = 0
) -> tuple[ResidualGeneratorConfig, ResidualCriticConfig]:
    """Return the settings of an ordinary SNGAN pair.

    Args:
        size: side of the images, 4 times a power of two; up to 32 all blocks are equally wide, beyond that widths halve
            towards the image.
        channels: 1 or 3.
        latent_dim: numbers per latent.
        width: channels next to the image; 256 up to 32 pixels (half of it in the critic), 64 beyond.
        n_classes: 0, or the number of classes: a table in every norm of the generator, a projection head of the critic.
    """
    doublings = size.bit_length() - 3
    if doublings < 1 or size != 4 << doublings:
        raise ConfigError(f"a plain SNGAN has a side of 8, 16, 32, 64, ..., not {size}")
    if size <= 32:
        width = width or 256
        up_widths = [width] * (doublings + 1)
        narrow = max(1, width // 2)
        down_widths = [(narrow, True), (narrow, True), (narrow, False), (narrow, False)]
    else:
        width = width or 64
        up_widths = [width << min(4, doublings - k) for k in range(doublings + 1)]
        down_widths = [(width << min(4, k), True) for k in range(max(5, doublings))]
        if doublings > 4:
            down_widths.append((down_widths[-1][0], False))
    blocks = [BlockConfig(inputs=a, hidden=b, outputs=b) for a, b in zip(up_widths[:-1], up_widths[1:], strict=True)]
    critic_blocks = []
    inputs = channels
    for k, (outputs, resample) in enumerate(down_widths):
        hidden = inputs if k else outputs
        shortcut = resample or inputs != outputs
        critic_blocks.append(BlockConfig(inputs=inputs, hidden=hidden, outputs=outputs, resample=resample, shortcut=shortcut))
        inputs = outputs
    generator = {"latent": {"dim": latent_dim}, "channels": channels, "blocks": blocks, "n_classes": n_classes}
    critic = {"channels": channels, "size": (size, size), "blocks": critic_blocks, "n_classes": n_classes}
    return (
        ResidualGeneratorConfig.model_validate(generator | {"conditioning": "table" if n_classes else "none"}),
        ResidualCriticConfig.model_validate(critic | {"head": "projection" if n_classes else "none"}),
    )


PLUGIN = SNGAN()
