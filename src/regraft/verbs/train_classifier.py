"""The verb ``train-classifier``: train a small classifier, as an extractor for a domain that no public network knows."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.config import parse
from regraft.core.errors import ConfigError, DataError
from regraft.core.jobs import ClassifierJob
from regraft.core.randomness import generator_at
from regraft.data.given_labels import GivenLabels
from regraft.data.images import Images
from regraft.extractors.classifier import ConvNet
from regraft.files.atomic import write_tensors
from regraft.metrics.class_accuracy import accuracy_interval
from regraft.verbs._arguments import ImagesArgument, list_images

LEAST_PER_CLASS = 2
SHIFT = 0.1


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained classifier.

    Attributes:
        file: where it was written.
        classes: names of the classes.
        accuracy: share of held-out images that it classifies correctly.
        interval: 95 % interval of the accuracy.
        chance: accuracy of always naming the commonest class.
        n_train, n_held: numbers of training and held-out images.
        notes: what was assumed or left out when the images were listed.
    """

    file: pathlib.Path
    classes: tuple[str, ...]
    accuracy: float
    interval: tuple[float, float]
    chance: float
    n_train: int
    n_held: int
    notes: tuple[str, ...] = ()


def train_classifier(
    images: ImagesArgument,
    out: str | pathlib.Path,
    *,
    labels: GivenLabels | None = None,
    on_step: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> Trained:
    """Train a small classifier and write it for ``--extractor classifier:FILE``.

    Args:
        images: a folder of class folders or a file with labels, or images in memory as :func:`regraft.open_images` takes them.
        out: file to write; must not exist.
        labels: the class of each image, numbers or names in the order of the images.
        on_step: called with step and loss, every 100 steps.
        **settings: fields of :class:`regraft.core.jobs.ClassifierJob`.

    Raises:
        ConfigError: if the file exists.
        DataError: if the images have no labels, or too few images of a class.
    """
    job = parse(ClassifierJob, settings, "settings of train-classifier")
    path = pathlib.Path(out)
    if path.exists():
        raise ConfigError(f"{path}: exists, and nothing is overwritten; choose another --out")
    listed = list_images(images, labels=True if labels is None else labels)
    if len(listed.classes) < 2:
        raise DataError(
            f"{listed.where}: a classifier needs at least two classes; put the images of each into a folder, or give labels"
        )
    decoded = listed.decode((job.size, job.size), 3, job.fit)
    train, held = _split(decoded, job)
    network = _train(train, job, on_step)
    if decoded.labels is None or held.labels is None:
        raise DataError(f"{listed.where}: no labels")
    is_correct = (classify(network, held.tensor()).argmax(1) == held.labels).double()
    accuracy = float(is_correct.mean())
    chance = float(torch.bincount(held.labels).max() / held.n)
    write_tensors(path, network.tensors, {"format": "pt"})
    interval = accuracy_interval(accuracy, held.n)
    return Trained(path, decoded.classes, accuracy, interval, chance, train.n, held.n, listed.notes)


def _split(images: Images, job: ClassifierJob) -> tuple[Images, Images]:
    """Split images into training and held-out ones, with the same share of each class."""
    labels = images.labels if images.labels is not None else torch.zeros(images.n, dtype=torch.long)
    train, held = [], []
    for label, name in enumerate(images.classes):
        index = (labels == label).nonzero()[:, 0]
        if len(index) < LEAST_PER_CLASS:
            raise DataError(f"class {name} has {len(index)} images, and at least {LEAST_PER_CLASS} are needed")
        index = index[torch.randperm(len(index), generator=generator_at(job.seed, "split", label))]
        count = min(max(1, round(len(index) * job.held_out)), len(index) - 1)
        held.append(index[:count])
        train.append(index[count:])
    return images.select(torch.cat(train)), images.select(torch.cat(held))


def _train(images: Images, job: ClassifierJob, on_step: Callable[[int, float], None] | None) -> ConvNet:
    rng = generator_at(job.seed, "classifier")
    network = ConvNet.new(job.size, images.classes, rng)
    learned = [parameter.requires_grad_(True) for parameter in network.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=job.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, job.rate, total_steps=job.steps)
    labels = images.labels if images.labels is not None else torch.zeros(images.n, dtype=torch.long)
    for step in range(1, job.steps + 1):
        index = torch.randint(images.n, (min(job.batch, 4 * images.n),), generator=rng)
        _, logits = network(_augment(images.tensor(index), job.flip, rng))
        loss = F.cross_entropy(logits, labels[index])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if on_step is not None and (step % 100 == 0 or step == job.steps):
            on_step(step, float(loss.detach()))
    return dataclasses.replace(network, tensors={name: tensor.detach() for name, tensor in network.tensors.items()})


def _augment(x: Tensor, flip: bool, rng: torch.Generator) -> Tensor:
    """Shift, scale and, with ``flip``, mirror images at random."""
    n = len(x)
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * 2 * SHIFT
    scale = 1 + (torch.rand(n, generator=rng) * 2 - 1) * SHIFT
    sign = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * sign, scale, shift
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def classify(network: ConvNet, images: Tensor, batch: int = 256) -> Tensor:
    """Return class logits (N, K) of images (N, C, H, W) in [-1, 1]."""
    return torch.cat([network(part)[1] for part in torch.split(images, batch)])
