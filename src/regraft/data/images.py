"""Target images: listed but not decoded, and decoded to (N, C, H, W) pixels; conversions are noted, bad files named."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.core.networks import Batch
from regraft.core.randomness import subset
from regraft.data import rules
from regraft.data.pixels import Content, Depths, Fit, Pixels, UnreadableImage, decode, depths_of, fit_picture

_Decoded = tuple[Pixels, set[str], tuple[int, int]]
"""Pixels, the conversions made, and width and height as they were."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One image that is not decoded yet.

    Attributes:
        name: name for messages and records.
        read: returns the bytes of an image file, pixels of shape (H, W) or (H, W, 1 to 4), or a picture; called from several
            threads.
        label: index of its class, or None.
    """

    name: str
    read: Callable[[], Content]
    label: int | None = None


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images of a folder or archive, listed but not decoded.

    Attributes:
        where: the path, for messages.
        items: sorted by name, in the order of the archive for .npz.
        classes: names of the labels, empty without labels.
        notes: what was assumed or left out when they were listed, one sentence each.
        depths: grey values of more than 8 bits, if :meth:`measured` has looked for them.
    """

    where: str
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    depths: Depths | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def counts(self) -> list[int]:
        """Number of images of each class."""
        by_label = collections.Counter(i.label for i in self.items)
        return [by_label[label] for label in range(len(self.classes))]

    @property
    def summary(self) -> str:
        """The number of images and, with classes, that of each, in words."""
        if not self.classes:
            return f"{len(self)} images"
        counts = [f"{name} ({count})" for name, count in zip(self.classes, self.counts, strict=True)]
        rest = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
        return f"{len(self)} images of {len(counts)} classes: {', '.join(counts[:12])}{rest}"

    def named(self, names: Collection[str]) -> "ImageSet":
        """Return the images of these names, in their order here.

        Raises:
            DataError: if some are not there.
        """
        wanted = set(names)
        items = tuple(item for item in self.items if item.name in wanted)
        missing = sorted(wanted - {item.name for item in items})
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(f"{self.where}: {len(missing)} of {len(wanted)} images are no longer there: {shown}")
        return dataclasses.replace(self, items=items)

    def take(self, start: int, stop: int) -> "ImageSet":
        """Return images ``start`` to ``stop - 1``."""
        return dataclasses.replace(self, items=self.items[start:stop])

    def some(self, n: int, seed: int) -> "ImageSet":
        """Return at most ``n`` images, drawn by a seed, in their old order."""
        return dataclasses.replace(self, items=tuple(self.items[k] for k in subset(len(self), n, seed)))

    def only(self, name: str) -> "ImageSet":
        """Return the images of one class, without labels.

        Raises:
            DataError: if there is no such class, or no image of it.
        """
        shown = printable(name)
        if shown not in self.classes:
            raise DataError(f"{self.where}: no class {shown}; there are: {', '.join(self.classes) or 'no classes'}")
        label = self.classes.index(shown)
        items = tuple(dataclasses.replace(i, label=None) for i in self.items if i.label == label)
        if not items:
            raise DataError(
                f"{self.where}: there is no image of class {shown}; choose another one of {', '.join(self.classes)}"
            )
        return dataclasses.replace(self, items=items, classes=())

    def with_classes(self, names: Sequence[str]) -> "ImageSet":
        """Return the same images with labels renumbered by ``names``, which must contain all their class names."""
        order = [printable(name) for name in names]
        table = [order.index(printable(name)) for name in self.classes]
        items = tuple(i if i.label is None else dataclasses.replace(i, label=table[i.label]) for i in self.items)
        return dataclasses.replace(self, items=items, classes=tuple(names))

    def without_labels(self) -> "ImageSet":
        """Return the same images without classes and labels."""
        items = tuple(dataclasses.replace(i, label=None) for i in self.items)
        return dataclasses.replace(self, items=items, classes=())

    def measured(self) -> "ImageSet":
        """Return the same images with the depth of all, for callers that decode them a few at a time; reads every one."""

        def measure(item: Item) -> Depths | None:
            try:
                return depths_of(item.read(), item.name)
            except UnreadableImage:
                return None

        if self.depths is not None:
            return self
        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = [depths for depths in pool.map(measure, self.items) if depths is not None]
        return dataclasses.replace(self, depths=functools.reduce(Depths.joined, found, Depths()))

    def decode(
        self,
        size: tuple[int, int],
        channels: int,
        fit: Fit = "crop",
        on_bad: Literal["error", "skip"] = "error",
        version: int = rules.NEWEST,
    ) -> "Images":
        """Read all images.

        Args:
            size: height and width of the result.
            channels: 1 or 3.
            fit: what happens to another aspect ratio: ``crop`` the middle, ``pad`` with the border, or ``stretch``.
            on_bad: ``error`` raises on an unreadable file, ``skip`` leaves it out and counts it in the notes.
            version: of the rules for more than 8 bits; see :mod:`regraft.data.rules`.

        Raises:
            DataError: naming the first unreadable files, or if no image can be read.
        """

        def decode_one(item: Item, depths: Depths | None, measures: bool = False) -> _Decoded | Depths | UnreadableImage:
            notes: set[str] = set()
            try:
                content = item.read()
                if measures and (found := depths_of(content, item.name)) is not None:
                    return found
                picture = decode(content, item.name, notes.add, depths=depths)
                return fit_picture(picture, size, channels, fit, notes.add), notes, picture.size
            except UnreadableImage as error:
                return error

        scaled_by_set = version > rules.FIRST
        first = functools.partial(
            decode_one, depths=self.depths if scaled_by_set else None, measures=scaled_by_set and self.depths is None
        )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = list(pool.map(first, self.items))
            deep = {k: r for k, r in enumerate(results) if isinstance(r, Depths)}
            second = functools.partial(decode_one, depths=functools.reduce(Depths.joined, deep.values(), Depths()))
            for k, result in zip(deep, pool.map(second, [self.items[k] for k in deep]), strict=True):
                results[k] = result
        return self._collected([r for r in results if not isinstance(r, Depths)], on_bad)

    def _collected(self, results: Sequence[_Decoded | UnreadableImage], on_bad: Literal["error", "skip"]) -> "Images":
        """Put decoded images together; arguments and errors are those of :meth:`decode`."""
        errors = [r for r in results if isinstance(r, UnreadableImage)]
        if errors and on_bad == "error":
            more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
            raise DataError(
                "; ".join(str(e) for e in errors[:3]) + more + ". Remove the file, or use --on-bad skip to go on without it"
            )
        decoded = [(item, r) for item, r in zip(self.items, results, strict=True) if not isinstance(r, UnreadableImage)]
        if not decoded:
            raise DataError(f"{self.where}: none of its {len(self.items)} images can be read, for example: {errors[0]}")
        conversions = collections.Counter(note for _, (_, notes, _) in decoded for note in notes)
        notes = [f"{count} of {len(decoded)} images: {note}" for note, count in sorted(conversions.items())]
        if errors:
            notes.append(f"{len(errors)} unreadable images skipped, first: {errors[0]}")
        pixels = torch.from_numpy(np.stack([array for _, (array, _, _) in decoded]))
        labels = torch.tensor([item.label for item, _ in decoded]) if self.classes else None
        names = tuple(item.name for item, _ in decoded)
        sizes = tuple(shape for _, (_, _, shape) in decoded)
        return Images(pixels, labels, self.classes, names, tuple(notes), aspect=_common_aspect(sizes), sizes=sizes)


@dataclasses.dataclass(frozen=True)
class Images:
    """Decoded images of one size, as data of the training loop.

    Attributes:
        pixels: (N, C, H, W), uint8.
        labels: classes, (N,), int64, or None.
        classes: names of the labels.
        names: file names.
        notes: conversions that were made, one sentence each.
        aspect: width over height of the files if all agree within 2 %, else None.
        flip: whether batches are mirrored at random.
        sizes: width and height of each image as it was before, or empty.
    """

    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    aspect: float | None = None
    flip: bool = False
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.pixels)

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.classes)

    def select(self, indices: Sequence[int] | Tensor) -> "Images":
        """Return the images at ``indices``, in that order."""
        index = torch.as_tensor(indices, dtype=torch.long)
        names = tuple(self.names[i] for i in index.tolist()) if self.names else ()
        sizes = tuple(self.sizes[i] for i in index.tolist()) if self.sizes else ()
        labels = None if self.labels is None else self.labels[index]
        return dataclasses.replace(self, pixels=self.pixels[index], labels=labels, names=names, sizes=sizes)

    def tensor(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Return images as float32 in [-1, 1]."""
        return self.pixels[indices].float().div_(127.5).sub_(1)

    def batch(self, index: Tensor, rng: torch.Generator, device: torch.device) -> Batch:
        """Return the images at ``index``, each mirrored with probability one half if ``flip``."""
        data = self.pixels[index].to(device).float().div_(127.5).sub_(1)
        if self.flip:
            mirrored = torch.rand(len(index), 1, 1, 1, generator=rng, device=rng.device).to(device) < 0.5
            data = torch.where(mirrored, data.flip(3), data)
        labels = None if self.labels is None else self.labels[index].to(device)
        return Batch(data, index, labels)

    @property
    def digest(self) -> str:
        """SHA-256 of pixels and labels."""
        digest = hashlib.sha256(f"{tuple(self.pixels.shape)}|{self.classes}".encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def _common_aspect(shapes: Sequence[tuple[int, int]]) -> float | None:
    """Return the median of width over height of (width, height) pairs if all agree within 2 %, else None."""
    ratios = [width / height for width, height in shapes]
    median = sorted(ratios)[len(ratios) // 2]
    return median if all(abs(r / median - 1) < 0.02 for r in ratios) else None
