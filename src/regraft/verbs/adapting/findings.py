"""What is odd about target images: blank ones, ones unlike all others, odd sizes; ``check`` lists it and ``adapt`` notes it."""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.core.randomness import subset
from regraft.data.images import Images
from regraft.data.nearest import small
from regraft.evaluation.compare import extractor

BLANK = 0.02
"""Standard deviation of the pixels of a blank image in [-1, 1], at most, in every channel."""
OUTLYING = 6.0
"""Distance of outliers, at least, in robust standard deviations."""
MOST_COMPARED = 1000
"""Images that ``adapt`` compares with one another, which takes about a second."""


def blank(pixels: Tensor) -> Tensor:
    """Return which images are of one colour, (N,), bool.

    Args:
        pixels: (N, C, H, W) in [-1, 1].
    """
    return small(pixels).flatten(2).std(2).amax(1) < BLANK


def outliers(pixels: Tensor, limit: int = 50) -> list[int]:
    """Return the indices of images unlike all others in colours, edges and their arrangement, farthest first.

    Args:
        pixels: (N, C, 32, 32) in [-1, 1].
        limit: how many at most.
    """
    if len(pixels) < 8:
        return []
    features = extractor("random_conv")(pixels)
    features = features / features.std(0).clamp_min(1e-6)
    distance = torch.cat(
        [torch.cdist(part, features).topk(4, largest=False).values[:, 3] for part in torch.split(features, 1024)]
    )
    middle = distance.median()
    spread = 1.4826 * (distance - middle).abs().median().clamp_min(0.02 * middle)
    far = ((distance - middle) / spread > OUTLYING).nonzero().flatten()
    return [int(k) for k in far[distance[far].argsort(descending=True)][:limit]]


def odd_sizes(sizes: Sequence[tuple[int, int]]) -> dict[int, str]:
    """Say which images are much smaller than the others, or of a very different shape.

    Args:
        sizes: width and height of each image.

    Returns:
        By the number of an image what is odd about it.
    """
    median_side = statistics.median(min(size) for size in sizes)
    median_ratio = statistics.median(width / height for width, height in sizes)
    odd = {}
    for k, (width, height) in enumerate(sizes):
        if min(width, height) < median_side / 2:
            odd[k] = f"much smaller than the others ({width}x{height})"
        elif max(width / height / median_ratio, median_ratio / (width / height)) > 2:
            odd[k] = f"a very different shape ({width}x{height})"
    return odd


def look_at(images: Images, where: str) -> list[str]:
    """Return notes on what is odd about the images of a run; near-duplicates are found where images are held out.

    Args:
        images: all images of the run.
        where: their path, for errors.

    Raises:
        DataError: if half of the images or more are blank.
    """
    reduced = torch.cat([small(images.tensor(slice(k, k + 256))) for k in range(0, images.n, 256)])
    names = images.names or tuple(f"image {k}" for k in range(images.n))
    notes = []
    empty = blank(reduced).nonzero().flatten().tolist()
    if 2 * len(empty) >= images.n:
        raise DataError(
            f"{where}: {len(empty)} of {images.n} images are blank, each of one colour ({_examples(empty, names)}), so there "
            "is nothing to learn; see what regraft check says of them"
        )
    if empty:
        notes.append(f"{len(empty)} of {images.n} images are blank, which is learned too: {_examples(empty, names)}")
    drawn = subset(images.n, MOST_COMPARED, 0)
    side = torch.nn.functional.interpolate(reduced[drawn].expand(-1, 3, -1, -1), size=(32, 32), mode="area")
    apart = [int(drawn[k]) for k in outliers(side)]
    apart = [k for k in apart if k not in empty]
    if apart:
        among = f" among {len(drawn)} that were compared" if len(drawn) < images.n else ""
        notes.append(f"unlike all others{among}, look at them: {_examples(apart, names)}")
    odd = odd_sizes(images.sizes) if images.sizes else {}
    for what in ("much smaller", "a very different shape"):
        found = [k for k, text in odd.items() if text.startswith(what)]
        if found:
            shown = ", ".join(f"{names[k]} {images.sizes[k][0]}x{images.sizes[k][1]}" for k in found[:3])
            title = "much smaller than the others" if what == "much smaller" else "of a very different shape"
            notes.append(f"{len(found)} of {images.n} images are {title}: {shown}{', ...' if len(found) > 3 else ''}")
    return notes


def _examples(numbers: Sequence[int], names: Sequence[str]) -> str:
    return ", ".join(names[k] for k in numbers[:3]) + (", ..." if len(numbers) > 3 else "")
