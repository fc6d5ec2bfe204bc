"""Find images that show the same picture: with the same pixels, or nearly so, perhaps mirrored."""

import dataclasses
import hashlib

import torch
from torch import Tensor

from regraft.data.nearest import squared_distances

GREY_SIDE = 16
"""Side of the grey pictures that near-duplicates are told by."""
ALIKE = 0.99
"""Correlation of the grey pictures of near-duplicates, at least."""
ALIKE_DISTANCE = 0.3
"""Distance of near-duplicates, at most, relative to the median distance to the nearest other image."""
SAME_DISTANCE = 1e-3
"""Distance of grey pictures that are the same whatever the set is like."""
MAX_COMPARED = 10_000
"""Images of a set, beyond which only identical ones are looked for; all pairs of so many take seconds."""
BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Which images of a set show the same picture.

    Attributes:
        group: for each image the number of the first one that shows its picture, which may be itself, (N,), int64.
        identical: number of images that have the pixels of an earlier one.
        compared: whether near-duplicates were looked for.
    """

    group: Tensor
    identical: int
    compared: bool

    @property
    def count(self) -> int:
        """Number of images that show what an earlier one shows."""
        return int((self.group != torch.arange(len(self.group))).sum())

    def example(self) -> tuple[int, int] | None:
        """Return an image that shows what an earlier one shows, and that one; None if there is none."""
        later = (self.group != torch.arange(len(self.group))).nonzero().flatten()
        return (int(later[0]), int(self.group[later[0]])) if len(later) else None


def find_duplicates(pixels: Tensor) -> Duplicates:
    """Find which images show the same picture.

    Args:
        pixels: (N, C, H, W), uint8.
    """
    first: dict[bytes, int] = {}
    same = [
        first.setdefault(hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest(), k) for k, image in enumerate(pixels)
    ]
    group = torch.tensor(same, dtype=torch.long)
    identical = len(pixels) - len(first)
    if not 3 <= len(pixels) <= MAX_COMPARED:
        return Duplicates(group, identical, compared=len(pixels) < 3)
    return Duplicates(_joined(group, _Greys(pixels)), identical, compared=True)


def near_duplicates(pixels: Tensor, limit: int = 200) -> list[tuple[int, int]]:
    """Find pairs of images that show almost the same picture, perhaps mirrored; each image is paired with its likest only.

    Their small grey pictures correlate by more than 0.99, and are much nearer to each other than images of the set usually are
    to their nearest other one: in simple sets (digits, icons) different images correlate as well.

    Args:
        pixels: (N, C, H, W), uint8.
        limit: pairs at most.

    Returns:
        Pairs of indices, the lower one first, in order.
    """
    if len(pixels) < 3:
        return []
    greys = _Greys(pixels)
    pairs = {(min(k, other), max(k, other)) for k in greys.alike.tolist() for other in [int(greys.likest[k])]}
    return sorted(pairs)[:limit]


class _Greys:
    """Small grey pictures of a set, and which of them have one that is alike.

    Attributes:
        likest: for each image the one that correlates best with it, (N,).
        radius: distance below which two images that correlate are alike.
        alike: images that have one that is alike, rising.
    """

    def __init__(self, pixels: Tensor) -> None:
        parts = [part.float().div_(127.5).sub_(1).mean(1, keepdim=True) for part in torch.split(pixels, 256)]
        size = (GREY_SIDE, GREY_SIDE)
        grey = torch.cat([torch.nn.functional.interpolate(part, size=size, mode="area") for part in parts])
        self._mirrored = grey.flip(3).flatten(1)
        self._grey = grey.flatten(1)
        self._normal, self._normal_mirrored = (
            torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in (self._grey, self._mirrored)
        )
        best, likest, distances = [], [], []
        for rows in torch.split(torch.arange(len(grey)), BLOCK):
            value, index = self._likeness(rows).max(1)
            part = self._grey[rows]
            best.append(value)
            likest.append(index)
            to_both = ((part - others[index]).norm(dim=1) for others in (self._grey, self._mirrored))
            distances.append(torch.minimum(*to_both))
        self.likest, distance = torch.cat(likest), torch.cat(distances)
        self.radius = float(ALIKE_DISTANCE * distance.median())
        alike = (torch.cat(best) > ALIKE) & (distance < self.radius)
        # If most images have a twin, the median is a distance between twins; identical pictures count all the same.
        self.alike = (alike | (distance < SAME_DISTANCE)).nonzero().flatten()

    def _likeness(self, rows: Tensor) -> Tensor:
        """Return the correlation of some images with all, mirrored or not, (M, N); -2 with themselves."""
        part = self._normal[rows]
        likeness = torch.maximum(part @ self._normal.T, part @ self._normal_mirrored.T)
        likeness[torch.arange(len(rows)), rows] = -2
        return likeness

    def pairs(self) -> Tensor:
        """Return which of the images in ``alike`` are alike to one another, (M, M), bool, symmetric."""
        masks = []
        for rows in torch.split(self.alike, BLOCK):
            part = self._grey[rows]
            squares = torch.minimum(*(squared_distances(part, others[self.alike]) for others in (self._grey, self._mirrored)))
            near = (self._likeness(rows)[:, self.alike] > ALIKE) & (squares < self.radius**2)
            masks.append(near | (squares < SAME_DISTANCE**2))
        mask = torch.cat(masks)
        places = torch.full((len(self._grey),), -1)
        places[self.alike] = torch.arange(len(self.alike))
        partner = places[self.likest[self.alike]]
        linked = (partner >= 0).nonzero().flatten()
        mask[linked, partner[linked]] = True
        return mask | mask.T


def _joined(group: Tensor, greys: _Greys) -> Tensor:
    """Join groups of identical images whose images are near-duplicates; return the first image of each one's group, (N,)."""
    if not len(greys.alike):
        return group
    mask = greys.pairs()
    places = torch.full((len(group),), -1)
    places[greys.alike] = torch.arange(len(greys.alike))
    # Every round takes the least number among neighbours, then that one's; the number of rounds is about a logarithm.
    while True:
        of_alike = group[greys.alike]
        least = torch.cat(
            [torch.where(rows, of_alike[None], len(group)).min(1).values for rows in torch.split(mask, BLOCK // 4)]
        )
        joined = group.clone()
        joined.scatter_reduce_(0, of_alike, torch.minimum(least, of_alike), "amin")
        joined[greys.alike] = torch.minimum(joined[greys.alike], least)
        joined = joined[joined[joined]]
        if torch.equal(joined, group):
            return group
        group = joined
