"""Turn tensors into pictures, grids and animations, and write these as PNG and GIF."""

import io
import math
import pathlib
from collections.abc import Sequence

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from regraft.files.atomic import replacing

MARK = "made by regraft"
"""Comment in every picture that regraft writes, by which it is known not to be an image of a data set."""


def is_marked(head: bytes) -> bool:
    """Return whether a PNG or GIF is one that regraft wrote.

    Args:
        head: its first 1,024 bytes; the mark stands before the pixels.
    """
    return head.startswith((b"\x89PNG", b"GIF8")) and MARK.encode() in head


def to_picture(image: Tensor, aspect: float | None = None) -> Image.Image:
    """Turn an image into a picture.

    Args:
        image: (1 or 3, H, W), clamped to [-1, 1].
        aspect: width over height of the picture, which is shrunk along one side to it; None for no change.
    """
    pixels = image.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array)
    if aspect is not None and abs(aspect / (picture.width / picture.height) - 1) > 0.02:
        width = picture.width if aspect > 1 else round(picture.height * aspect)
        height = round(picture.width / aspect) if aspect > 1 else picture.height
        picture = picture.resize((max(1, width), max(1, height)), Image.Resampling.LANCZOS)
    return picture


def grid(images: Tensor, columns: int | None = None, gap: int = 1, scale: int | None = None) -> Image.Image:
    """Put images side by side in rows.

    Args:
        images: (N, C, H, W) in [-1, 1].
        columns: images in a row; by default the grid is about as wide as high.
        gap: white pixels between images, before enlarging.
        scale: whole number by which the grid is enlarged; by default small images become about 64 pixels large.
    """
    n, channels, height, width = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(n)))
    rows = max(1, math.ceil(n / columns))
    scale = scale or max(1, round(64 / max(height, width)))
    sheet = torch.ones(channels, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for k in range(n):
        top, left = (k // columns) * (height + gap), (k % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = images[k]
    picture = to_picture(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG, with :data:`MARK`."""
    buffer, comment = io.BytesIO(), PngImagePlugin.PngInfo()
    comment.add_text("Comment", MARK)
    picture.save(buffer, "PNG", optimize=True, pnginfo=comment)
    return buffer.getvalue()


def save_png(path: pathlib.Path, picture: Image.Image) -> None:
    """Write a PNG atomically."""
    with replacing(path) as file:
        file.write(png(picture))


def save_gif(path: pathlib.Path, frames: Sequence[Image.Image], seconds: float = 0.08) -> None:
    """Write an animation that repeats for ever, atomically; each frame is shown for ``seconds``."""
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=list(frames[1:]),
        duration=round(seconds * 1000),
        loop=0,
        disposal=2,
        comment=MARK,
    )
    with replacing(path) as file:
        file.write(buffer.getvalue())
