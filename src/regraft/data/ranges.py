"""Which numbers of an array are black and white: one rule for arrays, tensors and files that hold them.

    uint8            as it is
    bool             False is black, True is white
    integers         0 to 255 are 8 bits; higher ones up to 65535 are scaled by :func:`white_of`
    floats           0 to 1, or -1 to 1

Anything else is refused, for a guess would make every image too dark, too bright or inverted.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regraft.core.errors import DataError

SLACK = 1e-3
"""By how much floats may leave [0, 1] or [-1, 1]: the rounding of half precision."""
DARKEST = -0.1
"""Least float of images in [-1, 1], at most: the least one of a whole set, for overshoots of [0, 1] must not count as it."""


@dataclasses.dataclass(frozen=True)
class ValueRange:
    """How the numbers of images become 8 bits.

    Attributes:
        black, white: numbers that become 0 and 255.
        text: the range in words, for a note; None for 8 bits in uint8, of which nothing needs saying.
    """

    black: float
    white: float
    text: str | None

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return numbers of any shape as 8 bits, rounded; uint8 of the full range is not copied."""
        if values.dtype == np.uint8 and (self.black, self.white) == (0, 255):
            return values.astype(np.uint8, copy=False)
        wide = np.float64 if values.dtype.kind in "iu" or values.dtype.itemsize > 4 else np.float32
        scaled: NDArray[np.floating[Any]] = values.astype(wide)
        scaled = (scaled - self.black) * (255 / (self.white - self.black))
        rounded: NDArray[np.floating[Any]] = np.rint(scaled).clip(0, 255)
        return rounded.astype(np.uint8)


class Extremes:
    """The least and greatest number of many arrays of one kind, gathered one by one."""

    def __init__(self) -> None:
        self.dtype: np.dtype[Any] | None = None
        self.low, self.high = float("inf"), float("-inf")

    def add(self, values: NDArray[Any]) -> None:
        """Take the numbers of an array of any shape into account; NaN counts as an extreme."""
        if self.dtype is None or values.dtype.itemsize > self.dtype.itemsize:
            self.dtype = values.dtype
        if values.size and values.dtype.kind in "buif":
            # Python's min and max lose NaN, depending on the order; NumPy's keep it.
            self.low = float(np.minimum(self.low, np.float64(values.min())))
            self.high = float(np.maximum(self.high, np.float64(values.max())))


def find_range(dtype: np.dtype[Any], low: float, high: float, where: str) -> ValueRange:
    """Find which numbers are black and white.

    Args:
        dtype: of the array.
        low, high: its least and greatest number over the whole set of images; not used for bool and uint8.
        where: what the array is, for errors.

    Raises:
        DataError: saying which numbers were seen, which are allowed and what to do.
    """
    if dtype == np.uint8:
        return ValueRange(0, 255, None)
    if dtype.kind == "b":
        return ValueRange(0, 1, "True and False read as white and black")
    if dtype.kind in "iu":
        return _range_of_integers(dtype, low, high, where)
    if dtype.kind == "f":
        return _range_of_floats(dtype, low, high, where)
    raise DataError(f"{where}: holds {dtype}, which are no pixels; they are uint8, or floats in [0, 1] or [-1, 1]")


def range_of(arrays: Iterable[NDArray[Any]], where: str) -> ValueRange:
    """Find the range of arrays of one kind, which are looked at one by one; see :func:`find_range`."""
    seen = Extremes()
    for values in arrays:
        seen.add(values)
    return find_range(seen.dtype or np.dtype(np.uint8), seen.low, seen.high, where)


def white_of(high: int) -> tuple[int, str]:
    """Find the white of grey values that fill more than 8 bits.

    Args:
        high: the greatest value of the whole set of images, at most 65535.

    Returns:
        ``high`` itself where it is a power of two minus one; else the greatest value of 10 or 12 bits, as cameras and scanners
        have, where all values fit in, since images that dark in 16 bits would be black; else 65535; and a note.
    """
    bits = high.bit_length()
    if 8 <= bits < 16 and high == (1 << bits) - 1:
        return high, f"{bits} bits in 16 scaled to 8: the greatest value of the set, {high}, is white"
    if bits <= 12:
        bits, white = (10, 1023) if bits <= 10 else (12, 4095)
        return white, f"taken for {bits} bits in 16, for the greatest value of the set is {high}; {white} is white"
    if bits <= 14:
        return 65535, f"16 bits scaled to 8; the greatest value of the set is {high} of 65535, so the images are dark"
    return 65535, "16 bits scaled to 8"


def _range_of_integers(dtype: np.dtype[Any], low: float, high: float, where: str) -> ValueRange:
    if low == 0 and high == 1:
        raise DataError(
            f"{where}: {dtype} with no numbers but 0 and 1; convert them to bool for black and white, or to uint8 from 0 to 255"
        )
    if low >= 0 and high <= 255:
        return ValueRange(0, 255, f"{dtype} from {low:g} to {high:g} read as 8 bits")
    if low >= 0 and high <= 65535:
        white, text = white_of(int(high))
        return ValueRange(0, white, text)
    raise DataError(
        f"{where}: {dtype} from {low:g} to {high:g}; integers are pixels from 0 to 255, or up to 65535 in 16 bits. "
        "Scale them to 0 to 255 first"
    )


def _range_of_floats(dtype: np.dtype[Any], low: float, high: float, where: str) -> ValueRange:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{where}: {dtype} that are not all finite numbers; find the NaN or infinite ones and mend them")
    seen = f"{dtype} from {low:.4g} to {high:.4g}"
    if low >= -SLACK and high <= 1 + SLACK:
        return ValueRange(0, 1, f"{seen} read as the range [0, 1]")
    if -1 - SLACK <= low <= DARKEST and high <= 1 + SLACK:
        return ValueRange(-1, 1, f"{seen} read as the range [-1, 1]")
    if low >= -SLACK and 1 < high <= 255 + SLACK:
        way_out = "If they are meant to be 0 to 255, divide them by 255, or convert them to uint8"
    elif low < 0 and high <= 1 + SLACK and low > DARKEST:
        way_out = "They look like [0, 1] with some numbers below it; clip them to [0, 1]"
    else:
        way_out = "Undo what normalised them (mean and standard deviation, perhaps), or scale them to [0, 1]"
    raise DataError(f"{where}: {seen}; floats are pixels in [0, 1] or [-1, 1]. {way_out}")
