"""Choose the target images that a run uses, and hold some of them out of training."""

import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import generator_at
from regraft.data.images import Images, ImageSet
from regraft.data.opening import open_images

MIN_IMAGES = 4
"""Fewest images that a run can adapt to."""


def select_images(job: AdaptJob, images: ImageSet | None) -> ImageSet:
    """List the images that a job uses.

    Args:
        job: its settings name the class, the labels and how many images to take.
        images: listed images that replace the job's path, or None.
    """
    listed = images if images is not None else open_images(job.images)
    if job.only_class is not None:
        listed = listed.only(job.only_class)
    if job.labels is False:
        listed = listed.without_labels()
    return listed.take(0, job.take_count(len(listed), listed.where))


def split_images(images: Images, job: AdaptJob, where: str) -> tuple[Images, Images | None]:
    """Split images into those to train on and those held out, by the job's seed.

    Args:
        images: all images of the run; where they are labelled, each class is held out in the same share.
        job: its settings name the seed and how many images to hold out; :func:`held_out_count` decides if they do not.
        where: path of the images, for errors.

    Returns:
        Images to train on, and held-out images (None if there are none), both in their old order.

    Raises:
        DataError: if there are too few images.
    """
    if images.n < MIN_IMAGES:
        raise DataError(f"{where}: {images.n} usable images; at least {MIN_IMAGES} are needed, and 25 or more are advised")
    count = held_out_count(images.n) if job.held_out is None else job.held_out
    if images.n - count < MIN_IMAGES - 1:
        raise DataError(f"{where}: holding {count} of {images.n} images out leaves too few to train on; lower --held-out")
    if count == 0:
        return images, None
    order = torch.randperm(images.n, generator=generator_at(job.seed, "held out"))
    if images.labels is not None:
        order = _interleave_classes(order, images.labels)
    return images.select(order[count:].sort().values), images.select(order[:count].sort().values)


def held_out_count(n: int) -> int:
    """Return how many of ``n`` images to hold out of training.

    One of 4 images, a fifth of fewer than 50, a tenth of more, at most 500.
    """
    if n <= MIN_IMAGES:
        return 1
    return min(500, max(2, n // 5)) if n < 50 else min(500, max(10, n // 10))


def _interleave_classes(order: Tensor, labels: Tensor) -> Tensor:
    """Reorder images so that every beginning of the order holds about the same share of each class.

    Args:
        order: indices of images, (N,).
        labels: class of each image, (N,), indexed by image and not by place in ``order``.
    """
    rank = torch.empty(len(order))
    for label in range(int(labels.max()) + 1):
        places = (labels[order] == label).nonzero().flatten()
        rank[places] = (torch.arange(len(places)) + 0.5) / len(places)
    return order[rank.argsort(stable=True)]
