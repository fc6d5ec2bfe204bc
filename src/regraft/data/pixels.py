"""Decode one image file to 8-bit pixels of a given size, and note every conversion."""

import io
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from regraft.core.errors import DataError

Fit = Literal["crop", "pad", "stretch"]
MAX_PIXELS = 100_000_000
MAX_BYTES = 512 << 20
Pixels = NDArray[np.uint8]


class UnreadableImage(DataError):
    """An image that cannot be used; the caller decides whether it is an error or is skipped."""


def decode(data: bytes, name: str, note: Callable[[str], None], background: int = 255) -> Image.Image:
    """Read an image to mode L or RGB.

    Args:
        data: bytes of the file.
        name: name of the image in errors.
        note: called with a sentence for each conversion.
        background: grey level, 0 to 255, behind transparent pixels.

    Raises:
        UnreadableImage: if it is damaged, no image, or larger than 100 million pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{name}: {image.width}x{image.height} pixels, more than the {MAX_PIXELS} allowed")
            if getattr(image, "n_frames", 1) > 1:
                note("first frame of an animation taken")
            image.load()
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"{name}: refused, it would unpack to a huge picture ({error})") from None
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds for a damaged file
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())[:120]})"
        raise UnreadableImage(f"{name}: cannot be read as an image; it is damaged, or none{reason}") from None
    upright = ImageOps.exif_transpose(image)
    if (upright is not None and upright.size != image.size) or image.getexif().get(0x0112, 1) not in (0, 1):
        note("turned as its EXIF tag says")
    return _to_grey_or_rgb(upright or image, name, note, background)


def _to_grey_or_rgb(image: Image.Image, name: str, note: Callable[[str], None], background: int) -> Image.Image:
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode.startswith("I") or mode == "F":
        return _to_8_bits(image, name, note)
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
    """Scale a grey image of 16 or 32 bits, or of floats, to mode L."""
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise UnreadableImage(f"{name}: holds values that are not numbers")
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
