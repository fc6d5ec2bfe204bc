"""Settings of networks that are given as a list of layers."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regraft.core.config import Config

Activation = Literal["none", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
Pair = tuple[Annotated[int, Field(ge=0, le=1024)], Annotated[int, Field(ge=0, le=1024)]]
Width = Annotated[int, Field(ge=1, le=1 << 20)]


MAX_SIDE = 8192
MAX_LAYERS = 256


class LayerConfig(Config):
    """Settings of one stage: nearest upsampling, a linear map or a convolution, a view as maps, a norm, an activation.

    Attributes:
        kind: linear map, convolution, or transposed convolution.
        inputs, outputs: numbers or channels.
        kernel, stride, padding, output_padding: of a convolution, (vertical, horizontal).
        upsample: factor of the upsampling before the layer.
        bias: whether the layer has a bias.
        view: shape (C, H, W) that the numbers of a linear map are given, None to leave them as they are.
        norm: kind of normalisation.
        norm_eps: its small constant.
        activation: function after the norm.
        slope: slope of a leaky ReLU on its negative side.
    """

    kind: Literal["linear", "conv", "deconv"]
    inputs: Width
    outputs: Width
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)
    upsample: Annotated[int, Field(ge=1, le=8)] = 1
    bias: bool = True
    view: tuple[Width, Width, Width] | None = None
    norm: Literal["none", "batch", "instance"] = "none"
    norm_eps: float = 1e-5
    activation: Activation = "none"
    slope: float = 0.2

    @property
    def norm_channels(self) -> int:
        """Number of channels that the norm takes."""
        return self.view[0] if self.view else self.outputs

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one output for one input of ``shape``, the axis of the batch left out.

        Raises:
            ValueError: if the layer does not take that input or would give an empty map.
        """
        if self.kind == "linear":
            if math.prod(shape) != self.inputs:
                raise ValueError(f"a linear layer of {self.inputs} inputs cannot take {shape}")
            if self.view and math.prod(self.view) != self.outputs:
                raise ValueError(f"{self.outputs} outputs cannot be viewed as {self.view}")
            return self.view or (self.outputs,)
        channels, *side = shape if len(shape) == 3 else (*shape, 1, 1)
        if channels != self.inputs:
            raise ValueError(f"a layer of {self.inputs} input channels cannot take {shape}")
        out = [self._side(n * self.upsample, i) for i, n in enumerate(side)]
        if max(out) > MAX_SIDE:
            raise ValueError(f"{self.kind} {self.kernel} makes a map of side {max(out)}; at most {MAX_SIDE} is allowed")
        if min(out) < 1:
            raise ValueError(f"{self.kind} {self.kernel} leaves nothing of a {side[0]}x{side[1]} map")
        return (self.outputs, *out)

    def _side(self, n: int, axis: int) -> int:
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        if stride < 1 or kernel < 1:
            raise ValueError("kernel and stride must be at least 1")
        if self.kind == "deconv":
            return (n - 1) * stride - 2 * padding + kernel + self.output_padding[axis]
        return (n + 2 * padding - kernel) // stride + 1


class LatentConfig(Config):
    """Settings of the generator's input: see :class:`Latent`."""

    dim: Annotated[int, Field(ge=1, le=1 << 16)]
    distribution: Literal["normal", "truncated_normal", "uniform", "sphere"] = "normal"
    bound: Annotated[float, Field(gt=0)] = 1.0


class LayeredGeneratorConfig(Config):
    """Settings of a generator.

    Attributes:
        latent: the input.
        layers: layers from the latent to the image.
        image_range: of what the last layer puts out: ``signed`` is [-1, 1], ``unit`` is [0, 1].
        n_classes: number of classes, 0 for none.
        conditioning: how the class enters: a class vector beside the latent, or gains and shifts by class in the norms.
        class_dim: width of the class vector of ``concat``.
    """

    latent: LatentConfig
    layers: Annotated[tuple[LayerConfig, ...], Field(max_length=MAX_LAYERS)]
    image_range: Literal["signed", "unit"] = "signed"
    n_classes: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    conditioning: Literal["none", "concat", "norm"] = "none"
    class_dim: Annotated[int, Field(ge=0, le=1 << 16)] = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the images."""
        shape: tuple[int, ...] = (self.latent.dim + (self.class_dim if self.conditioning == "concat" else 0),)
        for layer in self.layers:
            shape = layer.output_shape(shape)
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"the layers end in {shape}, not in an image of 1 or 3 channels")
        return (shape[0], shape[1], shape[2])

    @model_validator(mode="after")
    def _fits(self) -> "LayeredGeneratorConfig":
        if (self.conditioning == "none") != (self.n_classes == 0):
            raise ValueError("n_classes and conditioning go together")
        if (self.conditioning == "concat") != (self.class_dim > 0):
            raise ValueError("class_dim is the width of the class vector of conditioning: concat")
        _ = self.image_shape
        return self


class LayeredCriticConfig(Config):
    """Settings of a critic.

    Attributes:
        channels, size: of the images; size is (height, width).
        layers: layers from the image to the score.
        image_range: values that the first layer takes: ``signed`` is [-1, 1], ``unit`` is [0, 1].
        n_classes: number of classes, 0 for none.
        head: how classes are judged, if at all.
        resize: see the field's description.
    """

    channels: Literal[1, 3]
    size: tuple[Width, Width]
    layers: Annotated[tuple[LayerConfig, ...], Field(max_length=MAX_LAYERS)]
    image_range: Literal["signed", "unit"] = "signed"
    n_classes: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    head: Literal["none", "projection", "auxiliary"] = "none"
    resize: Annotated[tuple[Width, Width] | None, Field(description="Height and width to resize images to first.")] = None

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the last layer's input, the axis of the batch left out."""
        shape: tuple[int, ...] = (self.channels, *(self.resize or self.size))
        for layer in self.layers[:-1]:
            shape = layer.output_shape(shape)
        return shape

    @model_validator(mode="after")
    def _fits(self) -> "LayeredCriticConfig":
        out = self.layers[-1].output_shape(self.feature_shape) if self.layers else ()
        if math.prod(out) != 1 or not out:
            raise ValueError(f"the layers end in {out}, not in one score")
        if (self.head == "none") != (self.n_classes == 0):
            raise ValueError("n_classes and head go together")
        return self
