"""Settings of BigGAN's networks."""

from typing import Annotated

from pydantic import Field, model_validator

from regraft.core.config import Config

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Count = Annotated[int, Field(ge=0, le=1 << 16)]
Side = Annotated[int, Field(ge=2, le=4096)]
Eps = Annotated[float, Field(gt=0, le=1)]


class UpBlockConfig(Config):
    """Settings of a generator block, which doubles the side."""

    inputs: Width
    outputs: Width
    attention: bool = False


class DownBlockConfig(Config):
    """Settings of a critic block, which halves the side where it downsamples."""

    inputs: Width
    hidden: Width
    outputs: Width
    downsample: bool
    attention: bool = False


class BigGANGeneratorConfig(Config):
    """Settings of a generator.

    Attributes:
        chunk: numbers of the latent that the first layer takes; a hierarchical generator has as many for each block.
        hierarchical: whether each block takes a chunk of the latent.
        n_classes: number of classes, 0 for none.
        class_dim: width of the shared class table; 0 for a table in every norm, or no classes.
        side: side of the smallest feature map.
        blocks: settings of the blocks, latent side first.
        channels: channels of the images.
        spectral: whether weights are spectrally normalised.
        bn_eps, sn_eps: small constants of batch and spectral normalisation.
    """

    chunk: Width
    hierarchical: bool
    n_classes: Count = 0
    class_dim: Count = 0
    side: Side = 4
    blocks: tuple[UpBlockConfig, ...]
    channels: Width = 3
    spectral: bool = True
    bn_eps: Eps = 1e-5
    sn_eps: Eps = 1e-6

    @property
    def latent_dim(self) -> int:
        """Numbers per latent."""
        return self.chunk * (len(self.blocks) + 1) if self.hierarchical else self.chunk

    @property
    def code_dim(self) -> int:
        """Width of the code that each norm sees; 0 where norms hold tables."""
        return self.class_dim + (self.chunk if self.hierarchical else 0)

    @model_validator(mode="after")
    def _fits(self) -> "BigGANGeneratorConfig":
        if not 1 <= len(self.blocks) <= 10:
            raise ValueError("a BigGAN has 1 to 10 blocks")
        if any(a.outputs != b.inputs for a, b in zip(self.blocks, self.blocks[1:], strict=False)):
            raise ValueError("a block's inputs are the outputs of the one before")
        if not self.n_classes and (self.class_dim or not self.hierarchical):
            raise ValueError("without classes the generator is hierarchical, and class_dim is 0")
        if self.n_classes and self.hierarchical and not self.class_dim:
            raise ValueError("a hierarchical generator with classes has a shared table: class_dim is at least 1")
        return self


class BigGANCriticConfig(Config):
    """Settings of a critic.

    Attributes:
        size, channels: side and channels of the images.
        blocks: settings of the blocks, image side first; there is no activation before the first one.
        n_classes: number of classes, 0 for none.
        spectral: whether weights are spectrally normalised.
        sn_eps: small constant of spectral normalisation.
    """

    size: Side
    channels: Width = 3
    blocks: tuple[DownBlockConfig, ...]
    n_classes: Count = 0
    spectral: bool = True
    sn_eps: Eps = 1e-6

    @model_validator(mode="after")
    def _fits(self) -> "BigGANCriticConfig":
        widths = [self.channels, *(b.outputs for b in self.blocks)]
        if not self.blocks or any(b.inputs != n for b, n in zip(self.blocks, widths, strict=False)):
            raise ValueError("a block's inputs are the outputs of the one before, the first one's the image's channels")
        if self.size >> sum(b.downsample for b in self.blocks) < 1:
            raise ValueError(f"the blocks leave nothing of a side of {self.size}")
        return self
