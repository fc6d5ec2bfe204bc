"""The verb ``demo``: the main job on what ships with regraft."""

import pathlib
from collections.abc import Callable
from typing import Any

from regraft.verbs.adapt import Run, adapt
from regraft.verbs.load import bundled_images


def demo(out: str | pathlib.Path = "demo-run", on_event: Callable[[dict[str, Any]], None] | None = None) -> Run:
    """Adapt a bundled digit GAN to 25 bundled scans of one digit; ``out`` and ``on_event`` are those of :func:`adapt`."""
    # Scans of few strokes tempt to copying: with all augmentations half as many samples were near-copies as with the default.
    target, augment = bundled_images("scanned-sixes"), ["translation", "color", "cutout"]
    return adapt(target, "digits-high", out=out, on_event=on_event, steps=2000, augment=augment)
