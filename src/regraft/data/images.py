"""Read target images from a folder, a .zip or an .npz to (N, C, H, W) pixels; note every conversion, name every bad file."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.errors import DataError
from regraft.core.networks import Batch
from regraft.core.randomness import subset
from regraft.data.pixels import MAX_BYTES, Fit, Pixels, UnreadableImage, decode, fit_picture
from regraft.files import npz

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"}
MAX_UNPACKED = 16 << 30


@dataclasses.dataclass(frozen=True)
class Item:
    """One image that is not decoded yet.

    Attributes:
        name: name for messages and records.
        read: returns the bytes of an image file, or pixels of shape (H, W), (H, W, 1) or (H, W, 3).
        label: index of its class, or None.
    """

    name: str
    read: Callable[[], bytes | Pixels]
    label: int | None = None


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images of a folder or archive, listed but not decoded.

    Attributes:
        where: the path, for messages.
        items: sorted by name, in the order of the archive for .npz.
        classes: names of the labels, empty without labels.
    """

    where: str
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def counts(self) -> list[int]:
        """Number of images of each class."""
        by_label = collections.Counter(i.label for i in self.items)
        return [by_label[label] for label in range(len(self.classes))]

    def take(self, start: int, stop: int) -> "ImageSet":
        """Return images ``start`` to ``stop - 1``."""
        return dataclasses.replace(self, items=self.items[start:stop])

    def some(self, n: int, seed: int) -> "ImageSet":
        """Return at most ``n`` images, drawn by a seed, in their old order."""
        return dataclasses.replace(self, items=tuple(self.items[k] for k in subset(len(self), n, seed)))

    def only(self, name: str) -> "ImageSet":
        """Return the images of one class, without labels.

        Raises:
            DataError: if there is no such class.
        """
        if name not in self.classes:
            raise DataError(f"{self.where}: no class {name}; there are: {', '.join(self.classes) or 'no classes'}")
        label = self.classes.index(name)
        items = tuple(dataclasses.replace(i, label=None) for i in self.items if i.label == label)
        return dataclasses.replace(self, items=items, classes=())

    def with_classes(self, names: Sequence[str]) -> "ImageSet":
        """Return the same images with labels renumbered by ``names``, which must contain all their class names."""
        table = [list(names).index(name) for name in self.classes]
        items = tuple(i if i.label is None else dataclasses.replace(i, label=table[i.label]) for i in self.items)
        return dataclasses.replace(self, items=items, classes=tuple(names))

    def without_labels(self) -> "ImageSet":
        """Return the same images without classes and labels."""
        return ImageSet(self.where, tuple(dataclasses.replace(i, label=None) for i in self.items))

    def decode(
        self, size: tuple[int, int], channels: int, fit: Fit = "crop", on_bad: Literal["error", "skip"] = "error"
    ) -> "Images":
        """Read all images.

        Args:
            size: height and width of the result.
            channels: 1 or 3.
            fit: what happens to another aspect ratio: ``crop`` the middle, ``pad`` with the border, or ``stretch``.
            on_bad: ``error`` raises on an unreadable file, ``skip`` leaves it out and counts it in the notes.

        Raises:
            DataError: naming the first unreadable files, or if no image can be read.
        """

        def decode_one(item: Item) -> tuple[Pixels, set[str], tuple[int, int]] | UnreadableImage:
            notes: set[str] = set()
            try:
                content = item.read()
                image = decode(content, item.name, notes.add) if isinstance(content, bytes) else from_array(content, item.name)
                return fit_picture(image, size, channels, fit, notes.add), notes, image.size
            except UnreadableImage as error:
                return error

        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = list(pool.map(decode_one, self.items))
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
        aspect = _common_aspect([shape for _, (_, _, shape) in decoded])
        return Images(pixels, labels, self.classes, names, tuple(notes), aspect=aspect)


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
    """

    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    aspect: float | None = None
    flip: bool = False

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
        labels = None if self.labels is None else self.labels[index]
        return dataclasses.replace(self, pixels=self.pixels[index], labels=labels, names=names)

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


def open_images(path: str | pathlib.Path) -> ImageSet:
    """List the images of a folder, a folder of class folders, a .zip, or an .npz.

    Sub-folders are classes if every image lies in one of them; a StyleGAN ``dataset.json`` gives labels too.  One array of an
    ``.npz`` is chosen by ``file.npz:x_train`` (with labels ``y_train``); the default is its first array of images.

    Raises:
        DataError: if the path does not exist or holds no image.
    """
    text, _, part = str(path).partition(".npz:")
    where = pathlib.Path(text + (".npz" if part else ""))
    if not where.exists():
        raise DataError(f"{where}: there is no such file or folder of images")
    if where.is_dir():
        files = sorted(
            p for p in where.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(where).parts)
        )
        names = [str(p.relative_to(where)) for p in files]
        return _image_set(str(where), names, lambda name: _read_file(where / name))
    if where.suffix.lower() == ".npz" or part:
        return _from_npz(where, part or None)
    if zipfile.is_zipfile(where):
        return _from_zip(where)
    raise DataError(f"{where}: not a folder, a .zip or an .npz of images")


def from_array(array: Pixels, name: str) -> Image.Image:
    """Make a picture from bytes of shape (H, W), (H, W, 1) or (H, W, 3).

    Raises:
        UnreadableImage: if the array has another shape.
    """
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise UnreadableImage(f"{name}: shape {array.shape} is not (H, W), (H, W, 1) or (H, W, 3)")
    return Image.fromarray(array)


def _image_set(where: str, names: Sequence[str], read: Callable[[str], bytes]) -> ImageSet:
    images = sorted(n for n in names if pathlib.PurePosixPath(n).suffix.lower() in SUFFIXES)
    if not images:
        suffixes = ", ".join(sorted({pathlib.PurePosixPath(n).suffix or n for n in names})[:6]) or "nothing"
        raise DataError(f"{where}: holds no images ({suffixes}); known suffixes: {' '.join(sorted(SUFFIXES))}")
    description = next((n for n in names if pathlib.PurePosixPath(n).name == "dataset.json"), None)
    labels, classes = _labels_from_json(where, read(description), description, images) if description else (None, ())
    if labels is None:
        labels, classes = _labels_from_folders(images)
    items = tuple(
        Item(name, functools.partial(read, name), None if labels is None else labels[i]) for i, name in enumerate(images)
    )
    return ImageSet(where, items, classes)


def _labels_from_folders(names: Sequence[str]) -> tuple[list[int] | None, tuple[str, ...]]:
    """Label each image by its folder, the first one below the path that all images share; no labels if an image has none."""
    parents = [pathlib.PurePosixPath(n).parts[:-1] for n in names]
    shared = 0
    while all(len(p) > shared for p in parents) and len({p[shared] for p in parents}) == 1:
        shared += 1
    if any(len(p) <= shared for p in parents):
        return None, ()
    classes = tuple(sorted({p[shared] for p in parents}))
    return [classes.index(p[shared]) for p in parents], classes


def _labels_from_json(where: str, data: bytes, name: str, images: Sequence[str]) -> tuple[list[int] | None, tuple[str, ...]]:
    try:
        rows = json.loads(data)["labels"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: {name} is not a StyleGAN data set description ({type(error).__name__}: {error})") from None
    if rows is None:
        return None, ()
    root = pathlib.PurePosixPath(name).parent
    try:
        table = {str(root / file): label for file, label in rows}
        given = [table.get(n) for n in images]
        if any(label is None for label in given):
            missing = images[given.index(None)]
            raise DataError(f"{where}: {name} has no label for {missing}")
        labels = [
            int(label.index(max(label))) if isinstance(label, list) else int(label) for label in given if label is not None
        ]
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: {name} holds labels that regraft cannot use ({error})") from None
    if min(labels) < 0 or max(labels) > 1 << 16:
        raise DataError(f"{where}: {name} holds labels from {min(labels)} to {max(labels)}; at least 0 and at most 65536")
    return labels, tuple(str(i) for i in range(max(labels) + 1))


def _read_file(path: pathlib.Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableImage(f"{path}: larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None


def _from_zip(where: pathlib.Path) -> ImageSet:
    try:
        archive = zipfile.ZipFile(where)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{where}: a damaged .zip ({error})") from None
    entries = {e.filename: e for e in archive.infolist() if not e.is_dir() and "__MACOSX" not in e.filename}
    total = sum(e.file_size for e in entries.values())
    if total > MAX_UNPACKED:
        raise DataError(f"{where}: would unpack to {total >> 30} GB, more than the {MAX_UNPACKED >> 30} GB allowed")

    def read(name: str) -> bytes:
        entry = entries[name]
        if entry.file_size > MAX_BYTES:
            raise UnreadableImage(f"{where}: {name} would unpack to more than {MAX_BYTES >> 20} MB")
        try:
            # One handle per read, because images are decoded in several threads.
            with zipfile.ZipFile(where) as handle, handle.open(entry) as file:
                return file.read(MAX_BYTES + 1)
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError) as error:
            raise UnreadableImage(f"{where}: {name} cannot be unpacked ({error})") from None
        except Exception as error:  # noqa: BLE001 - zlib.error and kin have no common base
            raise UnreadableImage(f"{where}: {name} is damaged ({error})") from None

    return _image_set(str(where), list(entries), read)


def _from_npz(where: pathlib.Path, part: str | None) -> ImageSet:
    arrays = npz.arrays(where)
    images = [k for k, a in arrays.items() if len(a.shape) in (3, 4) and k.split("_")[0] not in ("y", "labels")]
    name = part or next((k for k in ("x_train", "images", "x", "arr_0") if k in images), images[0] if images else None)
    if name is None or name not in arrays:
        contents = ", ".join(f"{k} {a.shape}" for k, a in arrays.items())
        raise DataError(f"{where}: no array of images {part or ''}; it holds {contents}")
    array = arrays[name]
    if array.dtype != np.uint8 or len(array.shape) not in (3, 4) or array.nbytes > MAX_UNPACKED:
        allowed = f"uint8, (N, H, W) or (N, H, W, C), and at most {MAX_UNPACKED >> 30} GB"
        raise DataError(f"{where}: {name} is {array}; images must be {allowed}")
    label_name = name.replace("x_", "y_") if name.startswith("x_") else {"x": "y", "images": "labels"}.get(name, "")
    label = arrays.get(label_name)
    if label is not None and len(label.shape) != 1:
        label = None
    if label is not None and (label.shape != array.shape[:1] or label.dtype.kind not in "iu"):
        raise DataError(
            f"{where}: {label_name} is {label}, not one integer per image of {name}; save class numbers, or images alone"
        )
    pixels, labels = array.read(), None if label is None else label.read()
    if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)
    numbers = [] if labels is None else sorted(set(labels.tolist()))
    table = {number: i for i, number in enumerate(numbers)}

    def read(i: int) -> Pixels:
        return np.asarray(pixels[i], dtype=np.uint8)

    items = tuple(
        Item(f"{name}[{i}]", functools.partial(read, i), None if labels is None else table[int(labels[i])])
        for i in range(len(pixels))
    )
    return ImageSet(str(where), items, tuple(str(number) for number in numbers))


def _common_aspect(shapes: Sequence[tuple[int, int]]) -> float | None:
    """Return the median of width over height of (width, height) pairs if all agree within 2 %, else None."""
    ratios = [width / height for width, height in shapes]
    median = sorted(ratios)[len(ratios) // 2]
    return median if all(abs(r / median - 1) < 0.02 for r in ratios) else None
