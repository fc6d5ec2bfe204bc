"""Which target images are used, and which of them are kept from training."""

import torch

from regraft.core.errors import DataError
from regraft.core.jobs import AdaptJob
from regraft.core.randomness import generator_at
from regraft.data.images import Images, ImageSet, open_images


def chosen_images(job: AdaptJob, images: ImageSet | None) -> ImageSet:
    """List the images that a job uses.

    Args:
        job: its settings name the class, the labels and how many images to take.
        images: listed images, in place of the job's path.
    """
    listed = images if images is not None else open_images(job.images)
    if job.only_class is not None:
        listed = listed.only(job.only_class)
    if job.labels is False:
        listed = listed.without_labels()
    return listed.take(0, job.take_count(len(listed), listed.where))


def split(images: Images, job: AdaptJob, where: str) -> tuple[Images, Images | None]:
    """Keep some images from training, chosen by the seed."""
    if images.n < LEAST:
        raise DataError(f"{where}: {images.n} usable images; at least {LEAST} are needed, and 25 or more are advised")
    keep = held_out(images.n) if job.held_out is None else job.held_out
    if images.n - keep < LEAST - 1:
        raise DataError(f"{where}: holding {keep} of {images.n} images out leaves too few to train on; lower --held-out")
    if keep == 0:
        return images, None
    order = torch.randperm(images.n, generator=generator_at(job.seed, "held out"))
    if images.labels is not None:
        order = _spread(order, images.labels)
    return images.select(order[keep:].sort().values), images.select(order[:keep].sort().values)


def _spread(order: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same order with classes mixed evenly, so that a share of its beginning holds the same share of each class."""
    rank = torch.empty(len(order))
    for label in range(int(labels.max()) + 1):
        rows = (labels[order] == label).nonzero().flatten()
        rank[rows] = (torch.arange(len(rows)) + 0.5) / len(rows)
    return order[rank.argsort(stable=True)]


LEAST = 4  # images that can be adapted to


def held_out(n: int) -> int:
    """How many of ``n`` images to keep from training: a fifth of few, a tenth of many, at most 500; one of 4."""
    if n <= LEAST:
        return 1
    return min(500, max(2, n // 5)) if n < 50 else min(500, max(10, n // 10))
