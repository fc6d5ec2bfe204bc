"""Tell from samples and training images alone whether samples are copies, and from scores whether a critic has memorised.

A sample counts as a copy here if it lies on a training image: less than half as far from it as the nearest other training image
does.  The metric ``copies`` counts something else: samples that are nearer to training images than unseen images usually are.
"""

import functools

import torch
from torch import Tensor

from regraft.data.nearest import Near, nearest, small

COPY_RADIUS = 0.5
"""Distance from a training image within which a sample lies on it, over the distance to the nearest other training image."""
ALARM_SHARE = 0.25
"""Least share of samples on training images that raises an alarm."""
ALARM_EXCESS = 0.15
"""By how much that share must also exceed the share of real images."""
MAX_SAMPLES = 400
"""Samples, or training images, that are compared."""
MIN_HELD_OUT = 20
"""Fewest held-out images that show how near unseen images are to training images."""
TWIN_RADIUS = 0.2
"""Distance within which two training images are twins, over the usual distance between neighbours."""


class NeighbourScale:
    """Measures distances from training images, in units of their distances from one another."""

    def __init__(self, training: Tensor, held: Tensor | None) -> None:
        """Shrink the images and measure the usual distance between neighbours.

        Args:
            training: at least three images, (N, C, H, W) in [-1, 1].
            held: target images that training does not see, or None.
        """
        # Only small pictures are compared; training sets of large images would not fit in memory beside a run.
        training = small(training)
        self.training, self.held = training, None if held is None else small(held)
        self._some = torch.linspace(0, len(training) - 1, min(len(training), MAX_SAMPLES)).long()
        neighbours = nearest(training[self._some], training, exclude=self._some)
        self._usual_distance = float(neighbours.distance[:, 0].median())

    @functools.cached_property
    def natural_share(self) -> float:
        """Share of real images that lie on a training image: of held-out ones if there are 20, else of training images."""
        if self.held is not None and len(self.held) >= MIN_HELD_OUT:
            return self.share_on_training_images(self.held)
        return self.share_on_training_images(self.training[self._some], exclude=self._some)

    def share_on_training_images(self, images: Tensor, exclude: Tensor | None = None) -> float:
        """Return the share of images that lie less than half as far from a training image as its nearest neighbour does.

        Args:
            images: (N, C, H, W) in [-1, 1].
            exclude: the training image that each image may not be matched with, (N,), because it is that image; or None.
        """
        return float((self.relative_distances(images, exclude)[0] < COPY_RADIUS).float().mean())

    def relative_distances(self, images: Tensor, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Measure how far images are from their nearest training image.

        Args:
            images: (N, C, H, W) in [-1, 1].
            exclude: as for :meth:`share_on_training_images`.

        Returns:
            Distance from the nearest training image over that image's distance from its nearest neighbour, (N,), infinite if
            that image has only twins; and the index of the training image, (N,).
        """
        near = nearest(images, self.training, exclude=exclude)
        first = near.index[:, 0]
        matched, row = torch.unique(first, return_inverse=True)
        neighbours = nearest(self.training[matched], self.training, exclude=matched)
        neighbours = Near(neighbours.distance[row], neighbours.index[row])
        # Twins do not set the scale, nor does the image that is itself measured.
        unusable = neighbours.distance < TWIN_RADIUS * self._usual_distance
        if exclude is not None:
            unusable |= neighbours.index == exclude[:, None]
        scale = neighbours.distance.masked_fill(unusable, float("inf")).min(1).values
        return (near.distance[:, 0] / scale).masked_fill(scale.isinf(), float("inf")), first

    def is_alarming(self, share: float) -> bool:
        """Return whether a share of samples on training images is too large to be chance."""
        return share >= ALARM_SHARE and share >= self.natural_share + ALARM_EXCESS


def critic_gap(train: float, held: float, fake: float) -> float | None:
    """Return (train - held) / (train - fake): how far held-out images have fallen from training images to generated ones.

    Args:
        train, held, fake: mean scores, by the critic, of training, held-out and generated images.

    Returns:
        0 if held-out images score like training images, 1 if they score like generated ones; None if training images score no
        better than generated ones.
    """
    return (train - held) / (train - fake) if train > fake else None
