"""Folders of small pictures, as a user would have them."""

import io
import zipfile

import numpy as np
from PIL import Image

from regraft.data import pictures
from regraft.data.opening import open_images


def save_images(folder, images):
    """Write images (N, C, H, W) in [-1, 1] as ``000.png``, ``001.png``, ... into a folder, and make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        pictures.to_picture(image).save(folder / f"{k:03d}.png")  # without the mark of pictures that regraft makes


def save_arrays(folder, arrays):
    """Write arrays of bytes, (H, W) or (H, W, 3), as ``000.png``, ``001.png``, ... into a folder, and make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{k:03d}.png")


def ramp(height=12, width=12):
    """Dark at the left, bright at the right."""
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def png_bytes(array=None):
    """A PNG file of a grey image, of the ramp if none is given."""
    buffer = io.BytesIO()
    Image.fromarray(ramp() if array is None else array).save(buffer, "PNG")
    return buffer.getvalue()


def save(folder, name, picture, **how):
    """Save one picture into a folder."""
    folder.mkdir(exist_ok=True)
    picture.save(folder / name, **how)


def one(folder, size=(8, 8), channels=3, **how):
    """The first image of a folder as training sees it, in [-1, 1], and all of them."""
    images = open_images(folder).decode(size, channels, **how)
    return images.tensor()[0], images


def zipped(path, entries, **how):
    """Write a .zip of entries by name."""
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path
