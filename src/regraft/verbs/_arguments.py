"""Types of arguments that several verbs take."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from regraft.core.gan import GAN
from regraft.data.images import ImageSet
from regraft.data.listing import TRAIN
from regraft.data.opening import open_images

Source = GAN | str | pathlib.Path
"""A GAN: loaded, or a file, folder, source card, run, or the name of a bundled or public source."""

ImagesArgument = str | pathlib.Path | ImageSet
"""Images: a folder, a .zip, an .npz, or listed."""

Emit = Callable[[dict[str, Any]], None]
"""Takes one event, ``{"event": <kind>, ...}``."""


def ignore_event(event: dict[str, Any]) -> None:
    """Take an event and do nothing."""


def list_images(
    images: ImagesArgument,
    tell: Callable[[str], None] | None = None,
    *,
    split: str | Sequence[str] = TRAIN,
    labels: bool | None = None,
) -> ImageSet:
    """Return listed images as they are; list those of a path.

    Args:
        images: a path, or listed images.
        tell: told what was assumed or left out.
        split, labels: of a path, as for :func:`regraft.open_images`.
    """
    listed = images if isinstance(images, ImageSet) else open_images(images, split=split, labels=labels)
    if tell is not None:
        for note in listed.notes:
            tell(note)
    return listed


def teller(emit: Emit, about: str = "") -> Callable[[str], None]:
    """Return a function that emits a note for each sentence, with what it is about in front."""
    return lambda note: emit({"event": "note", "text": f"{about}: {note}" if about else note})
