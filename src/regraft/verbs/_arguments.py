"""Types of arguments that several verbs take."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.data.given_labels import GivenLabels
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN
from regraft.data.opening import open_images
from regraft.data.python import GivenImages

Source = GAN | str | pathlib.Path
"""A GAN: loaded, or a file, folder, source card, run, or the name of a bundled or public source."""

ImagesArgument = str | pathlib.Path | GivenImages
"""Images: a path or pattern, or what :func:`regraft.open_images` takes beside these: arrays, tensors, lists, data sets."""

Emit = Callable[[dict[str, Any]], None]
"""Takes one event, ``{"event": <kind>, ...}``."""


def ignore_event(event: dict[str, Any]) -> None:
    """Take an event and do nothing."""


Labels = GivenLabels | bool | None
"""The class of each image, numbers or names in the order of the images; or whether to learn the classes that images have."""


def list_images(
    images: ImagesArgument,
    tell: Callable[[str], None] | None = None,
    *,
    split: str | Sequence[str] = TRAIN,
    labels: Labels = None,
) -> ImageSet:
    """Return listed images as they are; list those of a path, or those that are given from Python.

    Args:
        images: what users give for images.
        tell: told what was assumed or left out.
        split, labels: as for :func:`regraft.open_images`.
    """
    listed = open_images(images, labels, split=split)
    if tell is not None:
        for note in listed.notes:
            tell(note)
    return listed


def teller(emit: Emit, about: str = "") -> Callable[[str], None]:
    """Return a function that emits a note for each sentence, with what it is about in front."""
    return lambda note: emit({"event": "note", "text": f"{about}: {note}" if about else note})


def take_images(images: ImagesArgument | None, labels: Labels) -> tuple[str | pathlib.Path | ImageSet | None, bool | None]:
    """Take images and labels as users give them.

    Returns:
        A path as it is, or listed images; and whether to learn classes, None where that is open.

    Raises:
        ConfigError: if there are labels and no images.
        DataError: if images or labels are none.
    """
    if labels is None or isinstance(labels, bool):
        if images is None or isinstance(images, str | pathlib.Path):
            return images, labels
        return open_images(images, labels), labels
    if images is None:
        raise ConfigError("labels were given, and no images; give both")
    return open_images(images, labels), None
