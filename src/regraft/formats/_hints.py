"""What a source card may say of a generator, a critic and their latent; what it leaves out is inferred."""

from typing import Annotated, Literal

from pydantic import Field

from regraft.core.config import Config

Activation = Literal["none", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
Side = Annotated[int, Field(ge=1, le=4096)]


class LayerHints(Config):
    """What a card may say of one layer; anything left out is inferred."""

    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] | None = None
    output_padding: int | tuple[int, int] | None = None
    upsample: int | None = None
    view: tuple[int, int, int] | None = None
    activation: Activation | None = None


class NetworkHints(Config):
    """What a card may say of a generator's or critic's file."""

    file: Annotated[str | None, Field(description="Weights, relative to the card.")] = None
    key: Annotated[str | None, Field(description="Key of the state dict inside the file, where it holds several.")] = None
    prefix: Annotated[
        str | None, Field(description="What the network's names begin with, where one state dict holds several networks.")
    ] = None
    activation: Annotated[Activation | None, Field(description="After every hidden layer.")] = None
    slope: Annotated[float | None, Field(description="Of leaky_relu.")] = None
    output: Annotated[Literal["tanh", "sigmoid", "none"] | None, Field(description="After a generator's last layer.")] = None
    norm_eps: Annotated[float, Field(gt=0, description="Of every batch norm.")] = 1e-5
    order: Annotated[
        tuple[str, ...], Field(description="Names of the layers in the order of computation, where the file's is another.")
    ] = ()
    layers: Annotated[tuple[LayerHints, ...], Field(description="One entry per weight, in order.")] = ()


class LatentHints(Config):
    """What a card may say of the latent."""

    distribution: Literal["normal", "truncated_normal", "uniform", "sphere"] | None = None
    bound: Annotated[float, Field(gt=0)] = 1.0
