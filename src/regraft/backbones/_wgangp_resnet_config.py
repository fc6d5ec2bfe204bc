"""Settings of the residual WGAN-GP pair."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regraft.core.config import Config

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Side = Annotated[int, Field(ge=1, le=1 << 10)]
Widths = Annotated[tuple[Width, ...], Field(min_length=2, max_length=9)]


class ResNetGeneratorConfig(Config):
    """Settings of a generator.

    Attributes:
        latent_dim: numbers per latent.
        base: height and width of the first map.
        widths: channels after the linear layer, then after each block, which doubles the sides.
        channels: channels of the images.
        n_classes: number of classes, 0 for none.
        last_norm_by_class: whether the norm before the image is conditional too.
        conditioning: ``norm`` gives each norm a table of gains and shifts, ``concat`` a one-hot class beside the latent.
        batch_statistics: whether norms use the batch's statistics in evaluation too.
    """

    latent_dim: Width = 128
    base: tuple[Side, Side] = (4, 4)
    widths: Widths
    channels: Literal[1, 3] = 3
    n_classes: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    last_norm_by_class: bool = False
    conditioning: Literal["norm", "concat"] = "norm"
    batch_statistics: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "ResNetGeneratorConfig":
        if self.last_norm_by_class and not self.n_classes:
            raise ValueError("last_norm_by_class needs classes")
        if self.conditioning == "concat" and (self.last_norm_by_class or not self.n_classes):
            raise ValueError("conditioning: concat needs classes, and has no norm by class")
        return self

    @property
    def table_rows(self) -> int:
        """Rows of the tables in the norms, 0 for plain norms."""
        return self.n_classes if self.conditioning == "norm" else 0


class ResNetCriticConfig(Config):
    """Settings of a critic.

    Attributes:
        size: height and width of the images.
        widths: channels after the first convolution, then after each block, which halves the sides.
        channels: channels of the images.
        n_classes: number of classes of the classifier head, 0 for no such head.
    """

    size: tuple[Side, Side] = (64, 64)
    widths: Widths
    channels: Literal[1, 3] = 3
    n_classes: Annotated[int, Field(ge=0, le=1 << 16)] = 0

    @property
    def features(self) -> int:
        """Number of inputs of the linear layers."""
        return self.widths[-1] * math.prod(side >> (len(self.widths) - 1) for side in self.size)

    @model_validator(mode="after")
    def _fits(self) -> "ResNetCriticConfig":
        if any(side % (1 << (len(self.widths) - 1)) for side in self.size):
            raise ValueError(f"sides of {self.size} cannot be halved {len(self.widths) - 1} times")
        return self
