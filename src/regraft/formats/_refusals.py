"""Layers that fit one another and are no generator all the same: two networks read as one, critics, encoders."""

import itertools
import math
from collections.abc import Sequence

Shape = tuple[int, ...]
LEAST_IMAGE = 8
USUAL_SIDES = {28: 0.0, 32: 0.0, 64: 0.0, 128: 0.0, 256: 0.0, 512: 0.0, 1024: 0.0, 16: 0.5, 48: 0.5, 96: 0.5}
"""Sides that images have, and how unusual each is."""


def no_growth(shapes: Sequence[Shape], stated: bool) -> str | None:
    """What shows that layers, as far as they go, are those of no generator; None if nothing does.

    Args:
        shapes: of the latent and of what each layer gives.
        stated: whether a card states settings, which may then be unusual.
    """
    last, before = shapes[-1], shapes[:-1]
    # The first layer may give a map that only looks like an image: a vector viewed as one, of which the next makes features.
    image = next((s for s in before[2:] if len(s) == 3 and s[0] in (1, 3) and min(s[1:]) >= LEAST_IMAGE), None)
    if image is not None and (len(last) == 1 or last[0] > image[0]):
        return f"reaches an image, {_x(image)}, and goes on to {_x(last)}: two networks read as one"
    largest = max((min(s[1:]) for s in before if len(s) == 3), default=1)
    if largest > 1 and len(last) == 1:
        return f"makes a vector of {last[0]} numbers out of maps of side {largest}, as a critic or an encoder does"
    if len(last) == 3 and largest >= 4 and not stated and min(last[1:]) <= largest // 2:
        return f"contracts to {_x(last)} after it has grown to maps of side {largest}, as a critic or an encoder does"
    return None


def no_image(shapes: Sequence[Shape], stated: bool) -> str | None:
    """What shows that layers that end in one or three maps are no generator all the same; None if nothing does.

    Args:
        shapes: of the latent and of what each layer gives.
        stated: whether a card states settings, which may then be unusual.
    """
    last, widths = shapes[-1], [math.prod(s) for s in shapes]
    if widths[0] == widths[-1] and min(widths) < widths[0]:
        return f"takes as many numbers as the image has that it makes, {widths[0]}: an autoencoder, not a generator"
    if not stated and _is_no_side(shapes):
        return f"ends in {last[0]} channel{'s' * (last[0] > 1)} of side {last[1]}, which no image has"
    return None


def _is_no_side(shapes: Sequence[Shape]) -> bool:
    """Whether an image's side is none that people use, or was reached by growing a little several times."""
    sides = [s[1] for s in shapes if len(s) == 3]
    creeps = sum(LEAST_IMAGE <= a < b < 1.25 * a for a, b in itertools.pairwise(sides))
    return sides[-1] not in USUAL_SIDES and (creeps > 1 or (shapes[-1][0] == 1 and sides[-1] % 2 == 1))


def as_text(shapes: Sequence[Shape]) -> str:
    """Shapes between layers, for a reader."""
    return " -> ".join(_x(shape) for shape in shapes)


def _x(shape: Shape) -> str:
    return "x".join(str(n) for n in shape)
