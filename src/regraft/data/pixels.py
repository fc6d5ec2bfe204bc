"""Decode one image to 8-bit pixels of a given size, and note every conversion."""

import dataclasses
import io
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data import kinds
from regraft.data.ranges import SLACK, find_range, white_of

Fit = Literal["crop", "pad", "stretch"]
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 << 20
Pixels = NDArray[np.uint8]
Content = bytes | Pixels | Image.Image
"""What an image is read from: the bytes of a file, pixels (H, W) or (H, W, 1 to 4), or a picture."""


class UnreadableImage(DataError):
    """An image that cannot be used; the caller decides whether it is an error or is skipped."""


@dataclasses.dataclass(frozen=True)
class Depths:
    """Which grey values the images of more than 8 bits of a whole set have; they are scaled by these.

    Attributes:
        greatest: greatest integer, 0 to 65535; 0 if none has integers of more than 8 bits.
        low, high: least and greatest float; infinite if none has floats.
    """

    greatest: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    def joined(self, other: "Depths") -> "Depths":
        """Return the depths of both sets together."""
        return Depths(max(self.greatest, other.greatest), min(self.low, other.low), max(self.high, other.high))


def decode(
    content: Content, name: str, note: Callable[[str], None], background: int = 255, depths: Depths | None = None
) -> Image.Image:
    """Read an image to mode L or RGB.

    Args:
        content: bytes of a file, pixels, or a picture.
        name: name of the image in errors.
        note: called with a sentence for each conversion.
        background: grey level, 0 to 255, behind transparent pixels.
        depths: what grey values of more than 8 bits are scaled by; None scales by this image alone, and 16 bits by 65535.

    Raises:
        UnreadableImage: if it is damaged, no image, or larger than 100 million pixels.
    """
    image = _opened(content, name, note)
    try:
        upright = ImageOps.exif_transpose(image)
        if (upright is not None and upright.size != image.size) or image.getexif().get(0x0112, 1) not in (0, 1):
            note("turned as its EXIF tag says")
    except Exception:  # noqa: BLE001 - a damaged tag raises many kinds; the picture itself is sound
        upright = None
        note("its EXIF tag is damaged, so it is not turned")
    return _to_grey_or_rgb(upright or image, name, note, background, depths)


def depths_of(content: Content, name: str) -> Depths | None:
    """Return the grey values of an image of more than 8 bits; None for other images, which are not decoded for it.

    Raises:
        UnreadableImage: as :func:`decode` does.
    """
    if isinstance(content, np.ndarray):
        return None
    image = _opened(content, name, lambda note: None, only_deep=True)
    if not _is_deep(image):
        return None
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        return Depths(low=low, high=high) if np.isfinite(low) and np.isfinite(high) else Depths()
    return Depths(greatest=int(high) if low >= 0 and high <= 65535 else 0)


def from_array(array: Pixels, name: str) -> Image.Image:
    """Make a picture from bytes of shape (H, W) or (H, W, C), with 1 to 4 channels: grey or colour, with transparency or not.

    Raises:
        UnreadableImage: if the array has another shape.
    """
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise UnreadableImage(f"{name}: shape {array.shape} is not (H, W) or (H, W, C) with 1 to 4 channels")
    return Image.fromarray(array)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _opened(content: Content, name: str, note: Callable[[str], None], only_deep: bool = False) -> Image.Image:
    """Open what an image is read from, and load its pixels; with ``only_deep``, load those of more than 8 bits only."""
    if isinstance(content, np.ndarray):
        return from_array(content, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = content if isinstance(content, Image.Image) else _recognised(content, name)
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{name}: {image.width}x{image.height} pixels, more than the {MAX_PIXELS} allowed")
            if isinstance(content, bytes) and not only_deep and getattr(image, "n_frames", 1) > 1:
                note("first frame of an animation taken")
            if not only_deep or _is_deep(image):
                image.load()
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"{name}: refused, it would unpack to a huge picture ({error})") from None
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds for a damaged file
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({printable(' '.join(str(error).split())[:120])})"
        raise UnreadableImage(f"{name}: cannot be read as an image; it is damaged, or none{reason}") from None
    return image


def _recognised(content: bytes, name: str) -> Image.Image:
    """Open the bytes of a file, of whatever kind they are: an iPhone's HEIC may be called ``.jpg``."""
    way_out = kinds.missing_plugin(kinds.kind_of(name, content[: kinds.HEAD]))
    if way_out is not None:
        raise UnreadableImage(f"{name}: Pillow cannot read this kind of image here; {way_out}")
    return Image.open(io.BytesIO(content), formats=kinds.formats())


def _to_grey_or_rgb(
    image: Image.Image, name: str, note: Callable[[str], None], background: int, depths: Depths | None
) -> Image.Image:
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if _is_deep(image):
        return _to_8_bits(image, name, note) if depths is None else _to_8_bits_of_set(image, name, note, depths)
    if mode == "P":
        note("palette resolved")
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        note(f"transparency laid on grey level {background}")
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
        return image.convert("L") if mode in ("LA", "La") else image
    if mode == "1":
        note("black and white read as grey")
        return image.convert("L")
    if image.mode != "RGB":
        note(f"{image.mode} converted to RGB")
        image = image.convert("RGB")
    return image


def _to_8_bits(image: Image.Image, name: str, note: Callable[[str], None]) -> Image.Image:
    """Scale a grey image of 16 or 32 bits, or of floats, to mode L, by its own values."""
    values, low, high = _grey_values(image, name)
    if image.mode == "F" and low >= 0 and high <= 1:
        note("values in [0, 1] scaled to 8 bits")
        scaled = values * 255
    elif low >= 0 and high <= 255 and not image.mode.startswith("I;16"):
        scaled = values
    elif low >= 0 and high <= 65535:
        note("16 bits scaled to 8")
        scaled = values / 257
    else:
        raise UnreadableImage(f"{name}: grey values from {low:g} to {high:g}; at most 16 bits, none negative, can be used")
    return Image.fromarray((scaled + 0.5).clip(0, 255).astype(np.uint8), "L")


def _to_8_bits_of_set(image: Image.Image, name: str, note: Callable[[str], None], depths: Depths) -> Image.Image:
    """Scale a grey image of 16 or 32 bits, or of floats, to mode L, by the values of its whole set."""
    values, low, high = _grey_values(image, name)
    if image.mode == "F" and not (depths.low >= 0 and depths.high > 1 + SLACK):
        try:
            found = find_range(np.dtype(np.float32), min(low, depths.low), max(high, depths.high), name)
        except DataError as error:
            raise UnreadableImage(str(error)) from None
        note(str(found.text))
        return Image.fromarray(found.to_bytes(values), "L")
    if low < 0 or high > 65535 or not depths.high <= 65535:
        raise UnreadableImage(f"{name}: grey values from {low:g} to {high:g}; at most 16 bits, none negative, can be used")
    greatest = max(int(high), int(depths.high) if image.mode == "F" else depths.greatest)
    white, text = (255, "16 bits that hold 8") if greatest <= 255 else white_of(greatest)
    if greatest > 255 or image.mode.startswith("I;16"):
        note(text)
    return Image.fromarray((values * (255 / white) + 0.5).clip(0, 255).astype(np.uint8), "L")


def _grey_values(image: Image.Image, name: str) -> tuple[NDArray[np.float64], float, float]:
    """Return the values of a grey image of more than 8 bits, and the least and greatest of them."""
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImage(f"{name}: holds values that are not numbers")
    return values, low, high


def fit_picture(image: Image.Image, size: tuple[int, int], channels: int, fit: Fit, note: Callable[[str], None]) -> Pixels:
    """Bring a picture to a size and a number of channels.

    Args:
        image: of mode L or RGB.
        size: height and width of the result.
        channels: 1 or 3.
        fit: what happens to another aspect ratio: ``crop`` the middle, ``pad`` with the border, or ``stretch``.
        note: called with a sentence for each conversion.

    Returns:
        Pixels, (C, H, W), uint8.
    """
    height, width = size
    if image.mode == "L" and channels == 3:
        note("grey copied to three channels")
        image = image.convert("RGB")
    elif image.mode == "RGB" and channels == 1:
        note("colour reduced to luminance")
        image = image.convert("L")
    if image.size != (width, height):
        if min(image.width / width, image.height / height) < 1:
            note("enlarged")
        if image.width * height != image.height * width:
            note({"crop": "cropped to the middle", "pad": "padded with its border", "stretch": "stretched"}[fit])
        if fit == "crop":
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        elif fit == "pad":
            image = ImageOps.contain(image, (width, height), Image.Resampling.LANCZOS)
        else:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.uint8)
    if pixels.shape[:2] != (height, width):
        top, left = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
        margins = ((top, height - pixels.shape[0] - top), (left, width - pixels.shape[1] - left))
        pixels = np.pad(pixels, (*margins, (0, 0))[: pixels.ndim], mode="edge")
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
