"""Settings of StyleALAE's networks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regraft.core.config import Config

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Widths = Annotated[tuple[Width, ...], Field(min_length=2, max_length=10)]


class ALAEConfig(Config):
    """Settings that all networks of the family have.

    Attributes:
        style_dim: numbers of a style vector.
        channels: channels of the images.
        blend: share of the last level in the image; below 1 the image of the level before makes up the rest.
    """

    style_dim: Width
    channels: Literal[1, 3] = 3
    blend: Annotated[float, Field(ge=0, le=1)] = 1.0


class ALAEGeneratorConfig(ALAEConfig):
    """Settings of a generator.

    Attributes:
        widths: channels of each level of the synthesis G, from 4x4 on.
        mapping: widths of the layers of the mapping F, its input first.
        truncated_ws: see the field's description.
    """

    widths: Widths
    mapping: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]
    truncated_ws: Annotated[int, Field(ge=0, description="Number of style vectors, from the first on, that psi truncates.")] = 8

    @model_validator(mode="after")
    def _fits(self) -> "ALAEGeneratorConfig":
        if self.mapping[-1] != self.style_dim:
            raise ValueError(f"the mapping ends in {self.mapping[-1]} numbers, not in style_dim={self.style_dim}")
        return self


class ALAECriticConfig(ALAEConfig):
    """Settings of a critic.

    Attributes:
        widths: channels of the encoder E from the image on, one more than there are levels.
        head: widths of the layers of the head D, its input first.
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=3, max_length=11)]
    head: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]

    @model_validator(mode="after")
    def _fits(self) -> "ALAECriticConfig":
        if self.head[0] != self.style_dim or self.head[-1] <= self.style_dim:
            raise ValueError(f"the head {self.head} must take style_dim={self.style_dim} numbers and give more than that")
        return self


class ALAEAutoencoderConfig(ALAEConfig):
    """Settings of an autoencoder.

    Attributes:
        encoder: channels of the encoder E from the image on, one more than there are levels.
        decoder: channels of each level of the decoder G, from 4x4 on.
    """

    encoder: Annotated[tuple[Width, ...], Field(min_length=3, max_length=11)]
    decoder: Widths

    @model_validator(mode="after")
    def _fits(self) -> "ALAEAutoencoderConfig":
        if len(self.encoder) != len(self.decoder) + 1:
            raise ValueError("encoder and decoder have different numbers of levels")
        return self


def image_size(levels: int) -> tuple[int, int]:
    """Return height and width of the images of a network with so many levels, the first being 4x4."""
    return (2 << levels, 2 << levels)
