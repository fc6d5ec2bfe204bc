"""Settings of StyleGAN2's generator and of the critic that StyleGAN2 and StyleGAN3 share.

Names follow the NVlabs constructors where they have one for the thing, so that their keyword arguments map one to one.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regraft.core.config import Config

Count = Annotated[int, Field(ge=0, le=1 << 16)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]


class StyleMappingConfig(Config):
    """Settings that every network with a mapping has.

    Attributes:
        c_dim: number of classes, 0 for none.
        mapping_layers: number of fully connected layers of the mapping.
        mapping_lr: equalised learning rate of these layers (``lr_multiplier``).
        embed_features: width of the class embedding; the output width (``w_dim``, in a critic ``cmap_dim``) if left out.
        layer_features: width of the hidden layers; the output width if left out.
        activation: activation of these layers and of all convolutions.
    """

    c_dim: Count = 0
    mapping_layers: Annotated[int, Field(ge=0, le=64)] = 8
    mapping_lr: Annotated[float, Field(gt=0)] = 0.01
    embed_features: Width | None = None
    layer_features: Width | None = None
    activation: Literal["lrelu"] = "lrelu"


class StyleGAN2GeneratorConfig(StyleMappingConfig):
    """Settings of the generator of Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN".

    Attributes:
        z_dim, w_dim: width of latents and styles.
        img_resolution: side of the images, a power of two from 8 on (4 is the first block).
        img_channels: 1 or 3.
        channels: width of the block of each resolution 4, 8, ..., ``img_resolution``, lowest first.
        architecture: ``skip`` sums the images of all blocks; ``resnet`` has residual blocks, ``orig`` plain ones, and both
            make the image in the last block only.
        use_noise: whether layers have noise maps.
        conv_clamp: bound of the layers' outputs, None for none.
        scaled_demod: weights are scaled by 1 / sqrt(fan-in) before they are demodulated (rosinality), which makes the constant
            1e-8 in the demodulation fan-in times as large; False is NVlabs.
    """

    z_dim: Width = 512
    w_dim: Width = 512
    img_resolution: Annotated[int, Field(ge=8, le=4096)]
    img_channels: Literal[1, 3] = 3
    channels: tuple[Width, ...]
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    use_noise: bool = True
    conv_clamp: Annotated[float, Field(gt=0)] | None = None
    scaled_demod: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "StyleGAN2GeneratorConfig":
        check_widths(self.img_resolution, self.channels)
        return self

    @property
    def num_ws(self) -> int:
        """Rows of styles that the synthesis takes."""
        return 2 * len(self.channels)


class StyleCriticConfig(StyleMappingConfig):
    """Settings of the critic of StyleGAN2 and StyleGAN3.

    Attributes:
        img_resolution, img_channels: as the generator's.
        channels: width of the features of each resolution 4, 8, ..., ``img_resolution``, lowest first.
        architecture: ``skip`` feeds the image to every block; ``resnet`` has residual blocks, ``orig`` plain ones, and both
            feed the image to the first block only.
        conv_clamp: bound of the layers' outputs, None for none.
        mbstd_group_size: images per group of the minibatch standard deviation, None for the whole batch.
        mbstd_channels: its number of channels, 0 for none.
        cmap_dim: width of the class vector on which the head projects; needed with classes, 0 without.
    """

    img_resolution: Annotated[int, Field(ge=8, le=4096)]
    img_channels: Literal[1, 3] = 3
    channels: tuple[Width, ...]
    architecture: Literal["resnet", "skip", "orig"] = "resnet"
    conv_clamp: Annotated[float, Field(gt=0)] | None = None
    mbstd_group_size: Width | None = 4
    mbstd_channels: Annotated[int, Field(ge=0, le=64)] = 1
    cmap_dim: Count = 0

    @model_validator(mode="after")
    def _fits(self) -> "StyleCriticConfig":
        check_widths(self.img_resolution, self.channels)
        if (self.cmap_dim > 0) != (self.c_dim > 0):
            raise ValueError("cmap_dim is the width of the class vector: above 0 with classes (c_dim), 0 without")
        if self.mbstd_channels and self.channels[0] % self.mbstd_channels:
            raise ValueError(f"mbstd_channels={self.mbstd_channels} does not divide the {self.channels[0]} channels at 4x4")
        return self


def check_widths(resolution: int, channels: tuple[int, ...]) -> None:
    """Check that there is a width for each resolution 4, 8, ..., ``resolution``.

    Raises:
        ValueError: if there is not, or the resolution is no power of two.
    """
    blocks = resolution.bit_length() - 2
    if resolution != 4 << (blocks - 1):
        raise ValueError(f"img_resolution must be a power of two, not {resolution}")
    if len(channels) != blocks:
        raise ValueError(f"channels must hold {blocks} widths, for 4 to {resolution} px; it holds {len(channels)}")
