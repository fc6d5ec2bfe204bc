"""Types of arguments that several verbs take."""

import pathlib
from collections.abc import Callable
from typing import Any

from regraft.core.gan import GAN
from regraft.data.images import ImageSet
from regraft.data.opening import open_images

Source = GAN | str | pathlib.Path
"""A GAN: loaded, or a file, folder, source card, run, or the name of a bundled or public source."""

ImagesArgument = str | pathlib.Path | ImageSet
"""Images: a folder, a .zip, an .npz, or listed."""

Emit = Callable[[dict[str, Any]], None]
"""Takes one event, ``{"event": <kind>, ...}``."""


def ignore_event(event: dict[str, Any]) -> None:
    """Take an event and do nothing."""


def list_images(images: ImagesArgument) -> ImageSet:
    """Return listed images as they are; list those of a path."""
    return images if isinstance(images, ImageSet) else open_images(images)
