"""Which classes are sampled, and how samples are laid out in folders and grids."""

import pathlib

import torch
from PIL import Image
from torch import Tensor

from regraft import pictures
from regraft.config import unknown
from regraft.errors import ConfigError
from regraft.gan import GAN
from regraft.jobs import SampleJob

MOST_ROWS = 12
PER_ROW = 8
PICTURES = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


def labels(gan: GAN, job: SampleJob) -> Tensor | None:
    """Classes (n,) of the images of a job: the one asked for, else all in turn; None without classes.

    Raises:
        ConfigError: if there is no such class.
    """
    n = gan.generator.n_classes
    if job.label is not None and job.class_name is not None:
        raise ConfigError(f"--label {job.label} and --class {job.class_name}: give one of them")
    if job.label is None and job.class_name is None:
        # Image k is of class k mod n whatever is asked for with it.
        return torch.arange(job.first, job.first + job.n) % n if n else None
    asked = f"--label {job.label}" if job.label is not None else f"--class {job.class_name}"
    if not n:
        raise ConfigError(f"{asked}: this generator has no classes")
    names, label = gan.provenance.classes, job.label
    if job.class_name is not None:
        if job.class_name in names:
            label = names.index(job.class_name)
        elif job.class_name.isdecimal() and names and all(name.isdecimal() for name in names):
            # A number that is no class here, such as 0 of the classes 3 and 7, would otherwise mean another one.
            there = f"there are: {', '.join(names)}; --label counts them from 0"
            raise ConfigError(f"{asked}: the classes of this generator are numbers, and this is none of them; {there}")
        elif job.class_name.isdecimal():
            label = int(job.class_name)
        else:
            raise ConfigError(unknown("class", job.class_name, names or [f"0 to {n - 1}"]))
    if label is None or label >= n:
        raise ConfigError(f"{asked}: this generator has classes 0 to {n - 1}")
    return torch.full((job.n,), label)


def check_out(path: pathlib.Path) -> None:
    """Refuse a place for samples before any is made.

    Raises:
        ConfigError: if something would be overwritten, or a name means a picture of another kind than the grid's.
    """
    if path.suffix.lower() in PICTURES:
        raise ConfigError(f"{path}: a grid is written as .png; choose another ending, or a folder for one .png per image")
    if path.suffix.lower() == ".png":
        refuse_overwriting(path)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path}: is not an empty folder, and nothing is overwritten; choose another --out")


def write(path: pathlib.Path, images: Tensor, classes: Tensor | None, gan: GAN, job: SampleJob, grid: bool) -> None:
    """Write samples as a grid (``.png``) or as one file each, in one folder per class; see :func:`check_out`."""
    if path.suffix.lower() == ".png":
        pictures.save_png(path, sheet(images, classes))
        return
    names = folder_names(gan)
    for k, image in enumerate(images):
        folder = path if classes is None else path / names[int(classes[k])]
        pictures.save_png(folder / f"seed{job.seed}-{job.first + k:06d}.png", pictures.to_picture(image, gan.aspect))
    if grid:
        pictures.save_png(path / "grid.png", sheet(images[:64], None if classes is None else classes[:64]))


def folder_names(gan: GAN) -> list[str]:
    """A folder name for each class: its own name where that is known and can be one, else its number."""
    n = gan.generator.n_classes
    numbers = [f"{k:0{len(str(max(0, n - 1)))}d}" for k in range(n)]
    names = gan.provenance.classes
    fit = len(names) == n and len({name.lower() for name in names}) == n
    fit = fit and all(name.strip(". ") == name and name and not set(name) & set('/\\:*?"<>|\0') for name in names)
    return list(names) if fit else numbers


def sheet(images: Tensor, classes: Tensor | None) -> Image.Image:
    """A grid of images; of several classes with the same number of images, one class per row."""
    if classes is None:
        return pictures.grid(images)
    order = classes.argsort(stable=True)
    counts = torch.bincount(classes)
    counts = counts[counts > 0]
    even = len(counts) > 1 and bool((counts == counts[0]).all()) and len(counts) <= 4 * int(counts[0])
    return pictures.grid(images[order], columns=int(counts[0]) if even else None)


def overview(gan: GAN, seed: int) -> Image.Image:
    """A grid of samples to look at first: of a conditional generator some of each class."""
    n = min(gan.generator.n_classes, MOST_ROWS)
    if not n:
        return pictures.grid(gan.sample(64, seed))
    classes = torch.arange(n).repeat_interleave(PER_ROW)
    return sheet(gan.sample(len(classes), seed, y=classes), classes)


def refuse_overwriting(path: pathlib.Path) -> None:
    """Stop before a file is replaced.

    Raises:
        ConfigError: if it is there.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists, and nothing is overwritten; choose another name")
