"""Settings of BigGAN-deep's networks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regraft.backbones._biggan_config import Count, Eps, Side, Width
from regraft.core.config import Config

Spectral = Literal["stored", "fresh", "none"]


class BottleneckConfig(Config):
    """Settings of a block; ``resample`` doubles the side in a generator and halves it in a critic."""

    inputs: Width
    hidden: Width
    outputs: Width
    resample: bool
    attention: bool = False


class DeepGeneratorConfig(Config):
    """Settings of a generator.

    Attributes:
        latent_dim: numbers per latent.
        bound: the latent is a normal redrawn inside [-bound, bound]; None for an unbounded one.
        n_classes: number of classes, 0 for none.
        class_dim: width of the class table.
        side: side of the smallest feature map.
        blocks: settings of the blocks, latent side first.
        channels: channels of the images.
        rows: output channels of the last convolution, of which the first ``channels`` are the image.
        spectral: dialect of spectral normalisation.
        statistics: rows of batch statistics, for truncations evenly spaced from 0 to 1; 1 where there is no such table.
        interpolation: between rows; ``published`` swaps the weights of the two neighbours, as the authors' code does.
        bn_eps, sn_eps: small constants of batch and spectral normalisation.
    """

    latent_dim: Width
    bound: Annotated[float | None, Field(gt=0)] = None
    n_classes: Count = 0
    class_dim: Count = 0
    side: Side = 4
    blocks: tuple[BottleneckConfig, ...]
    channels: Width = 3
    rows: Width = 3
    spectral: Spectral = "fresh"
    statistics: Width = 1
    interpolation: Literal["published", "corrected"] = "published"
    bn_eps: Eps = 1e-5
    sn_eps: Eps = 1e-6

    @model_validator(mode="after")
    def _fits(self) -> "DeepGeneratorConfig":
        _check_chain(self.blocks)
        if any(b.outputs > b.inputs for b in self.blocks):
            raise ValueError("a generator block keeps or drops channels, it adds none")
        if bool(self.n_classes) != bool(self.class_dim):
            raise ValueError("n_classes and class_dim go together")
        if self.rows < self.channels:
            raise ValueError("rows is at least channels")
        return self


class DeepCriticConfig(Config):
    """Settings of a critic.

    Attributes:
        size, channels: side and channels of the images.
        stem: channels after the first convolution.
        blocks: settings of the blocks, image side first.
        n_classes: number of classes, 0 for none.
        spectral: dialect of spectral normalisation.
        sn_eps: its small constant.
    """

    size: Side
    channels: Width = 3
    stem: Width
    blocks: tuple[BottleneckConfig, ...]
    n_classes: Count = 0
    spectral: Spectral = "fresh"
    sn_eps: Eps = 1e-6

    @model_validator(mode="after")
    def _fits(self) -> "DeepCriticConfig":
        _check_chain(self.blocks)
        if self.blocks[0].inputs != self.stem or any(b.outputs < b.inputs for b in self.blocks):
            raise ValueError("the first block takes the stem's channels, and a critic block drops none")
        if self.size >> sum(b.resample for b in self.blocks) < 1:
            raise ValueError(f"the blocks leave nothing of a side of {self.size}")
        return self


def _check_chain(blocks: tuple[BottleneckConfig, ...]) -> None:
    if not 1 <= len(blocks) <= 64:
        raise ValueError("a BigGAN-deep has 1 to 64 blocks")
    if any(a.outputs != b.inputs for a, b in zip(blocks, blocks[1:], strict=False)):
        raise ValueError("a block's inputs are the outputs of the one before")
