"""Which axis of an array of images holds the channels: one rule for arrays, tensors and files that hold them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError

CHANNELS = (1, 2, 3, 4)
"""Channels that an image may have: grey, grey with transparency, colour, colour with transparency."""

_WAY_OUT = "Give a list of PIL images, or of arrays whose other sides are longer than 4"


def channel_axis_of_many(shape: tuple[int, ...], where: str) -> int | None:
    """Find the axis of the channels in an array of images.

    Args:
        shape: (N, H, W), (N, H, W, C) or (N, C, H, W), where C is 1 to 4.
        where: what the array is, for errors.

    Returns:
        1 or 3; None for (N, H, W).

    Raises:
        DataError: if the shape is another one, or can be read in two ways.
    """
    allowed = "images are (N, H, W), (N, H, W, C) or (N, C, H, W), with 1 to 4 channels"
    if 0 in shape:
        raise DataError(f"{where}: is empty; {allowed}")
    if len(shape) == 3:
        if shape[0] == 3 or shape[2] in CHANNELS:
            raise DataError(
                f"{where}: is one image with its channels, or some grey images (N, H, W)? Add the axis that is missing: "
                "array[None] for one image, array[:, None] for grey ones"
            )
        return None
    if len(shape) == 2:
        raise DataError(f"{where}: holds flat rows; reshape them to images, as array.reshape(-1, 28, 28) does; {allowed}")
    if len(shape) != 4:
        raise DataError(f"{where}: has {len(shape)} axes; {allowed}")
    axis = _axis_of_channels(shape[1:], where)
    return 1 + axis if axis is not None else _refuse(where, allowed)


def channel_axis_of_one(shape: tuple[int, ...], where: str) -> int | None:
    """Find the axis of the channels in one image, (H, W), (H, W, C) or (C, H, W): 0, 2, or None for (H, W).

    Raises:
        DataError: if the shape is another one, or can be read in two ways.
    """
    allowed = "an image is (H, W), (H, W, C) or (C, H, W), with 1 to 4 channels"
    if 0 in shape:
        raise DataError(f"{where}: shape {shape} is empty; {allowed}")
    if len(shape) == 2:
        return None
    if len(shape) != 3:
        raise DataError(f"{where}: shape {shape}; {allowed}")
    axis = _axis_of_channels(shape, f"{where}: shape {shape}")
    return axis if axis is not None else _refuse(f"{where}: shape {shape}", allowed)


def channels_last(image: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Return a view of one image with its channels as the last axis.

    Args:
        image: the image.
        axis: that of its channels, 0 or 2, or None for (H, W).
    """
    return image if axis is None else np.moveaxis(image, axis, -1)


def _axis_of_channels(shape: tuple[int, ...], where: str) -> int | None:
    """Return 0 or 2 for (C, H, W) or (H, W, C); None if neither has 1 to 4 entries."""
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first and last:
        raise DataError(f"{where}: are the channels its first or its last axis? Both have 1 to 4 entries. {_WAY_OUT}")
    return 0 if first else 2 if last else None


def _refuse(where: str, allowed: str) -> int:
    raise DataError(f"{where}: no axis can be the channels; {allowed}")
