"""Which image is nearest to which, in pixels: small pictures, mirrored and slightly shifted.

Candidates are found among small blurred pictures, as they are and mirrored; only the few nearest are compared at every shift.
So 1,000 samples against 10,000 images take seconds.
"""

import dataclasses

import torch
from torch import Tensor

SIDE = 32
SHIFT = 2
CANDIDATES = 6


@dataclasses.dataclass(frozen=True)
class Near:
    """Nearest images.

    Attributes:
        distance: root mean squared difference, (N, K), rising along rows; images are in [-1, 1].
        index: of the other image, (N, K).
    """

    distance: Tensor
    index: Tensor


def small(images: Tensor, side: int = SIDE) -> Tensor:
    """Images no larger than ``side`` on their longer side, (N, C, h, w), float32."""
    factor = side / max(images.shape[2:])
    if factor >= 1:
        return images.float()
    size = tuple(max(1, round(s * factor)) for s in images.shape[2:])
    return torch.nn.functional.interpolate(images.float(), size=size, mode="area")


def nearest(images: Tensor, others: Tensor, *, own: Tensor | None = None, block: int = 128) -> Near:
    """The nearest few of ``others`` for each image, the least over mirroring and shifts of up to two pixels.

    Args:
        images: (N, C, H, W) in [-1, 1].
        others: (M, C, H, W).
        own: (N,) which of ``others`` each image is, and may not be matched with; None if they are other images.
        block: images at a time.

    Returns:
        The ``min(6, M)`` nearest (one less where ``own`` is given), nearest first.
    """
    a, b = small(images), small(others)
    k = min(CANDIDATES, len(b) - (own is not None))
    if k < 1:
        raise ValueError("there is no other image to be near to")
    # Blurred by as much as images may be shifted: a thin line that moved would match nothing.
    straight, mirrored = _blurred(b).flatten(1), _blurred(b.flip(3)).flatten(1)
    distances, indices = [], []
    for start in range(0, len(a), block):
        part = a[start : start + block]
        blurred = _blurred(part).flatten(1)
        coarse = torch.minimum(_squared(blurred, straight), _squared(blurred, mirrored))
        if own is not None:
            coarse.scatter_(1, own[start : start + block, None], float("inf"))
        picked = coarse.topk(k, largest=False).indices
        fine = _shifted(part, b[picked])
        order = fine.argsort(1)
        distances.append(fine.gather(1, order))
        indices.append(picked.gather(1, order))
    return Near(torch.cat(distances), torch.cat(indices))


def _blurred(images: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(images, 2 * SHIFT + 1, 1, SHIFT, count_include_pad=False)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp_min(0)


def _shifted(images: Tensor, candidates: Tensor) -> Tensor:
    """Least root mean squared difference of (N, C, H, W) from (N, K, C, H, W) over mirroring and shifts, (N, K)."""
    height, width = images.shape[2:]
    m = SHIFT if min(height, width) > 4 * SHIFT else 0
    # Only the part that overlaps at every shift is compared, so that no invented border counts.
    inner = images[:, None, :, m : height - m, m : width - m]
    best = torch.full(candidates.shape[:2], float("inf"))
    for view in (candidates, candidates.flip(4)):
        for dy in range(2 * m + 1):
            for dx in range(2 * m + 1):
                part = view[..., dy : dy + height - 2 * m, dx : dx + width - 2 * m]
                best = torch.minimum(best, (part - inner).square().mean((2, 3, 4)))
    return best.sqrt()
