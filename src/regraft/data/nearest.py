"""Find which image is nearest to which, whatever mirroring and shifts of up to two pixels hide.

Two searches share one distance, the least root mean squared difference over mirroring and shifts.  :func:`nearest` compares
small pictures and only a few candidates of each, which are chosen among blurred pictures: 1,000 samples against 10,000 images
take seconds.  :func:`nearest_in_pixels` compares all images at their full size.
"""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

SIDE = 32
SHIFT = 2
CANDIDATES = 6


@dataclasses.dataclass(frozen=True)
class Near:
    """The nearest few images of each image.

    Attributes:
        distance: root mean squared difference, (N, K), rising along rows; images are in [-1, 1].
        index: which image it is, (N, K).
    """

    distance: Tensor
    index: Tensor


def small(images: Tensor, side: int = SIDE) -> Tensor:
    """Shrink images to at most ``side`` pixels on their longer side, (N, C, h, w), float32."""
    factor = side / max(images.shape[2:])
    if factor >= 1:
        return images.float()
    size = tuple(max(1, round(s * factor)) for s in images.shape[2:])
    return torch.nn.functional.interpolate(images.float(), size=size, mode="area")


def nearest(images: Tensor, others: Tensor, *, exclude: Tensor | None = None, block: int = 128) -> Near:
    """Find the nearest few of ``others`` for each image, compared as small pictures.

    Args:
        images: (N, C, H, W) in [-1, 1].
        others: (M, C, H, W).
        exclude: the one of ``others`` that each image may not be matched with, (N,), because it is the image itself; or None.
        block: images at a time.

    Returns:
        The ``min(6, M)`` nearest (one less with ``exclude``), nearest first.
    """
    a, b = small(images), small(others)
    k = min(CANDIDATES, len(b) - (exclude is not None))
    if k < 1:
        raise ValueError("there is no other image to be near to")
    # Blurred by as much as images may be shifted: a thin line that moved would match nothing.
    straight, mirrored = _blurred(b).flatten(1), _blurred(b.flip(3)).flatten(1)
    distances, indices = [], []
    for start in range(0, len(a), block):
        part = a[start : start + block]
        blurred = _blurred(part).flatten(1)
        coarse = torch.minimum(squared_distances(blurred, straight), squared_distances(blurred, mirrored))
        if exclude is not None:
            coarse.scatter_(1, exclude[start : start + block, None], float("inf"))
        candidates = coarse.topk(k, largest=False).indices
        fine = _distances_to_candidates(part, b[candidates])
        order = fine.argsort(1)
        distances.append(fine.gather(1, order))
        indices.append(candidates.gather(1, order))
    return Near(torch.cat(distances), torch.cat(indices))


def nearest_in_pixels(images: Tensor, others: Tensor, block: int = 256) -> tuple[Tensor, Tensor]:
    """Find the nearest of ``others`` for each image, compared at full size with all of them.

    Args:
        images: (N, C, H, W).
        others: (M, C, H, W).
        block: images at a time.

    Returns:
        Root mean squared difference, (N,), float64, and index of the nearest one, (N,).
    """
    margin = _margin(images)
    middle = _middle(images, margin).flatten(1).float()
    best = torch.full((len(images),), float("inf"))
    index, variant = torch.zeros(len(images), dtype=torch.long), torch.zeros(len(images), dtype=torch.long)
    for number, view in enumerate(_views(others, margin)):
        rows = view.flatten(1).float()
        for start in range(0, len(images), block):
            part = slice(start, start + block)
            distance, nearest_row = squared_distances(middle[part], rows).min(1)
            nearer = distance < best[part]
            best[part] = torch.where(nearer, distance, best[part])
            index[part] = torch.where(nearer, nearest_row, index[part])
            variant[part] = torch.where(nearer, number, variant[part])
    # Searched in single precision; the distance itself is computed again, as products of large numbers lose small differences.
    squares = torch.zeros(len(images), dtype=torch.float64)
    for number, view in enumerate(_views(others, margin)):
        chosen = (variant == number).nonzero()[:, 0]
        if len(chosen):
            squares[chosen] = (middle[chosen].double() - view[index[chosen]].flatten(1).double()).square().mean(1)
    return squares.sqrt(), index


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances between rows, (N, M), at least 0, and exactly 0 on the diagonal if ``a is b``."""
    products = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    if a is b:
        products.fill_diagonal_(0)
    return products.clamp_min(0)


def _blurred(images: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(images, 2 * SHIFT + 1, 1, SHIFT, count_include_pad=False)


def _distances_to_candidates(images: Tensor, candidates: Tensor) -> Tensor:
    """Return the least root mean squared difference over mirroring and shifts.

    Args:
        images: (N, C, H, W).
        candidates: (N, K, C, H, W).

    Returns:
        (N, K).
    """
    margin = _margin(images)
    middle = _middle(images, margin)[:, None]
    best = torch.full(candidates.shape[:2], float("inf"))
    for view in _views(candidates, margin):
        best = torch.minimum(best, (view - middle).square().mean((2, 3, 4)))
    return best.sqrt()


def _margin(images: Tensor) -> int:
    """Return by how many pixels images are shifted; those of 8 pixels or less are not."""
    return SHIFT if min(images.shape[-2:]) > 4 * SHIFT else 0


def _middle(images: Tensor, margin: int) -> Tensor:
    """Cut the margin off: only the part that overlaps at every shift is compared, so that no invented border counts."""
    height, width = images.shape[-2:]
    return images[..., margin : height - margin, margin : width - margin]


def _views(images: Tensor, margin: int) -> Iterator[Tensor]:
    """Yield what lies in the middle of images (..., H, W) at every shift, as they are and mirrored."""
    height, width = (side - 2 * margin for side in images.shape[-2:])
    for mirrored in (images, images.flip(-1)):
        for dy in range(2 * margin + 1):
            for dx in range(2 * margin + 1):
                yield mirrored[..., dy : dy + height, dx : dx + width]
