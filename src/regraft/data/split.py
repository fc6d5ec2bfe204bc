"""Choose the target images that a run uses, and hold some of them out of training."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.core.jobs import AdaptJob
from regraft.core.names import printable
from regraft.core.randomness import generator_at
from regraft.data import rules
from regraft.data.duplicates import Duplicates, find_duplicates
from regraft.data.images import Images, ImageSet
from regraft.data.listing import TRAIN
from regraft.data.opening import open_images

MIN_IMAGES = 4
"""Fewest images that a run can adapt to."""


def select_images(job: AdaptJob, images: ImageSet | None, names: Sequence[str] | None = None) -> ImageSet:
    """List the images that a job uses.

    Args:
        job: its settings name the split, the class, the labels and how many images to take.
        images: listed images that replace the job's path, or None.
        names: those of the images that a run began with, if it is resumed or looked at again; others that have come since are
            left out.

    Raises:
        DataError: if there is no such class, too few images, or no longer one of those named.
    """
    # Class folders are asked for where one class is, whether or not the classes are learned.
    labels = job.labels if job.only_class is None else None
    listed = images if images is not None else open_images(job.images, split=job.split or TRAIN, labels=labels)
    if job.only_class is not None:
        if images is None and printable(job.only_class) not in listed.classes:
            listed = _with_doubtful_classes(job, listed)
        listed = listed.only(job.only_class)
    if job.labels is False:
        listed = listed.without_labels()
    if names is None:
        return listed.take(0, job.take_count(len(listed), listed.where))
    selected = listed.named(names)
    new = len(listed) - len(selected)
    if new and job.take is None:
        note = f"left out, because they have come since the run began: {new} of {len(listed)} images"
        selected = dataclasses.replace(selected, notes=(*selected.notes, note))
    return selected


def _with_doubtful_classes(job: AdaptJob, listed: ImageSet) -> ImageSet:
    """List a job's images with all folders as classes; return them as listed if that does not give the class asked for."""
    doubtful = open_images(job.images, split=job.split or TRAIN, labels=True)
    return doubtful if printable(job.only_class or "") in doubtful.classes else listed


@dataclasses.dataclass(frozen=True)
class Split:
    """Images of a run, some of them held out of training.

    Attributes:
        train: images to train on.
        held: held-out images, or None if there are none.
        wanted: how many were to be held out; images that show the same picture stay together, so it may be another number.
        notes: what was done about images that show the same picture, one sentence each.
        cautions: what these do to the verdict, one sentence each.
    """

    train: Images
    held: Images | None
    wanted: int
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def split_images(images: Images, job: AdaptJob, where: str, version: int = rules.NEWEST) -> Split:
    """Split images into those to train on and those held out, by the job's seed.

    Images that show the same picture are kept on one side.  Where there are none, the split is that of the first rules.

    Args:
        images: all images of the run; where they are labelled, each class is held out in the same share.
        job: its settings name the seed and how many images to hold out; :func:`held_out_count` decides if they do not.
        where: path of the images, for errors.
        version: of the rules; by the first ones images that show the same picture may lie on both sides.

    Returns:
        Images to train on, and held-out images, both in their old order.

    Raises:
        DataError: if there are too few images.
    """
    if images.n < MIN_IMAGES:
        raise DataError(f"{where}: {images.n} usable images; at least {MIN_IMAGES} are needed, and 25 or more are advised")
    count = held_out_count(images.n) if job.held_out is None else job.held_out
    if images.n - count < MIN_IMAGES - 1:
        raise DataError(f"{where}: holding {count} of {images.n} images out leaves too few to train on; lower --held-out")
    duplicates = find_duplicates(images.pixels) if version > rules.FIRST else None
    if duplicates is not None and not duplicates.group.any():
        raise DataError(f"{where}: all {images.n} images show the same picture; give different ones to learn from")
    order = torch.randperm(images.n, generator=generator_at(job.seed, "held out"))
    if images.labels is not None:
        order = _interleave_classes(order, images.labels)
    if duplicates is None or not duplicates.count:
        held = order[:count]
    else:
        held = _hold_groups_out(order, count, duplicates.group, images.labels)
    is_train = torch.ones(images.n, dtype=torch.bool)
    is_train[held] = False
    notes, cautions = ([], []) if duplicates is None else _tell_duplicates(images, duplicates, count, len(held))
    train = images if not len(held) else images.select(is_train.nonzero().flatten())
    return Split(train, images.select(held.sort().values) if len(held) else None, count, tuple(notes), tuple(cautions))


def _hold_groups_out(order: Tensor, count: int, group: Tensor, labels: Tensor | None) -> Tensor:
    """Choose images to hold out so that no group is divided; as many of each class as without groups, or nearly so.

    Args:
        order: indices of images in the order in which they are held out, (N,).
        count: how many to hold out.
        group: number of each image's group, (N,).
        labels: class of each image, (N,), or None.

    Returns:
        Indices of the held-out images; those of the first ``count`` if none of them is of a group that goes on behind.
    """
    classes = torch.zeros_like(group) if labels is None else labels
    n_classes = int(classes.max()) + 1
    left = torch.bincount(classes[order[:count]], minlength=n_classes)
    sizes = torch.zeros(len(group), n_classes, dtype=torch.long).index_put_((group, classes), torch.tensor(1), accumulate=True)
    taken, asked = [], set()
    for index in group[order].tolist():
        if index not in asked and bool((sizes[index] <= left).all()):
            taken.append(index)
            left = left - sizes[index]
        asked.add(index)
        if not left.any():
            break
    # What is left has room for no group.  One that is a little too large may be nearer to what is wanted than none.
    groups = torch.tensor(sorted(set(group.tolist()) - set(taken)))
    miss = (left - sizes[groups]).abs().sum(1)
    nearest = int(miss.argmin())
    if (
        miss[nearest] < left.sum()
        and len(group) - count + int(left.sum()) - int(sizes[groups[nearest]].sum()) >= MIN_IMAGES - 1
    ):
        taken.append(int(groups[nearest]))
    return torch.isin(group, torch.tensor(taken, dtype=torch.long)).nonzero().flatten()


def _tell_duplicates(images: Images, duplicates: Duplicates, wanted: int, held: int) -> tuple[list[str], list[str]]:
    """Return notes and cautions about images that show the same picture."""
    example = duplicates.example()
    if example is None:
        return [], []
    later, earlier = (images.names[k] if images.names else f"image {k}" for k in example)
    count = duplicates.count
    kind = "pixel for pixel" if duplicates.identical == count else "pixel for pixel or nearly so"
    text = f"{count} of {images.n} images show what another one shows, {kind} (for example {later} and {earlier})"
    if wanted:
        text += "; those that show the same stay together, in training or held out"
    if wanted != held:
        text += f", so {held} images are held out and not {wanted}"
    caution = (
        f"{count} of the {images.n} target images show what another one shows: the generator favours these, and scores count "
        "them more than once. Remove them for numbers that mean more."
    )
    return [text], [caution]


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
