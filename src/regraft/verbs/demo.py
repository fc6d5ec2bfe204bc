"""The verb ``demo``: the main job on what ships with regraft."""

import pathlib

from regraft.verbs._arguments import Emit
from regraft.verbs.adapt import adapt
from regraft.verbs.adapting.finish import Run
from regraft.verbs.load import bundled_images


def demo(out: str | pathlib.Path = "demo-run", on_event: Emit | None = None) -> Run:
    """Adapt a bundled GAN of digits to 25 bundled scans of one digit.

    Args:
        out: run folder to make.
        on_event: called with each event, as for :func:`regraft.adapt`.

    Returns:
        The run with its adapted GAN.
    """
    # Scans of few strokes tempt to copying: with all augmentations half as many samples were near-copies as with the default.
    target, augment = bundled_images("scanned-sixes"), ["translation", "color", "cutout"]
    return adapt(target, "digits-high", out=out, on_event=on_event, steps=2000, augment=augment)
