"""Whether images are copies of training images, told from samples and training images alone."""

import functools

import torch
from torch import Tensor

from regraft.data.nearest import Near, nearest, small

COPIED = 0.5  # of the distance between a training image and its nearest other one
ALARM = 0.25
EXCESS = 0.15
JUDGED = 400


class CopyScale:
    """How near to a training image is too near, and how many real images lie so near by nature."""

    def __init__(self, training: Tensor, held: Tensor | None) -> None:
        """Prepare.

        Args:
            training: at least three images, (N, C, H, W) in [-1, 1].
            held: target images that training does not see, if there are any.
        """
        # All that is compared are small pictures; training sets of large ones would not fit in memory beside a run.
        training = small(training)
        self.training, self.held = training, None if held is None else small(held)
        self._picked = torch.linspace(0, len(training) - 1, min(len(training), JUDGED)).long()
        self._usual = float(nearest(training[self._picked], training, own=self._picked).distance[:, 0].median())

    @functools.cached_property
    def natural(self) -> float:
        """Share of real images that would pass for copies: of unseen ones where there are 20, else of training images."""
        if self.held is not None and len(self.held) >= 20:
            return self.share(self.held)
        return self.share(self.training[self._picked], own=self._picked)

    def share(self, images: Tensor, own: Tensor | None = None) -> float:
        """Share of images that lie nearer to a training image than half its distance to its nearest other one.

        Args:
            images: (N, C, H, W) in [-1, 1].
            own: which training image each is, and may not be matched with; None if they are other images.
        """
        return float((self.nearness(images, own)[0] < COPIED).float().mean())

    def nearness(self, images: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """How near images are to their nearest training image, and which one that is.

        Args:
            images: (N, C, H, W) in [-1, 1].
            own: as for :meth:`share`.

        Returns:
            Distance over that of the training image to its nearest other one, (N,), infinite where that has only twins; and its
            index, (N,).
        """
        near = nearest(images, self.training, own=own)
        first = near.index[:, 0]
        images_of, back = torch.unique(first, return_inverse=True)
        twins = nearest(self.training[images_of], self.training, own=images_of)
        found = Near(twins.distance[back], twins.index[back])
        # Twins among the training images, and the image that is itself asked about, do not set the scale.
        unfit = found.distance < 0.2 * self._usual
        if own is not None:
            unfit |= found.index == own[:, None]
        scale = found.distance.masked_fill(unfit, float("inf")).min(1).values
        return (near.distance[:, 0] / scale).masked_fill(scale.isinf(), float("inf")), first

    def alarm(self, share: float) -> bool:
        """Whether a share is no chance any more."""
        return share >= ALARM and share >= self.natural + EXCESS


def critic_gap(train: float, held: float, fake: float) -> float | None:
    """How far unseen images have fallen from seen ones towards generated ones, by a critic's mean scores of these.

    Returns:
        0 not at all, 1 all the way; None where seen images score no better than generated ones.
    """
    return (train - held) / (train - fake) if train > fake else None
