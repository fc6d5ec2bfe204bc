"""The verbs ``sample`` and ``interpolate``: images of a generator as files, a grid, or a walk between latents."""

import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from regraft.composites.mixed import interpolate_latents, one_source, pick_source
from regraft.core.config import parse, unknown_name
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import SampleJob
from regraft.core.names import printable
from regraft.data import pictures
from regraft.verbs._arguments import Source
from regraft.verbs._open import open_gan

MOST_ROWS = 12
PER_ROW = 8
PICTURES = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


def classes_for(gan: GAN, job: SampleJob) -> Tensor | None:
    """Return the classes (n,) of the images to sample; None without classes.

    The one that the job names, else all in turn, or drawn in the target's shares where these differ.

    Raises:
        ConfigError: if the generator has no such class.
    """
    n = gan.generator.n_classes
    if job.label is not None and job.class_name is not None:
        raise ConfigError(f"--label {job.label} and --class {job.class_name}: give one of them")
    if job.label is None and job.class_name is None:
        if gan.class_shares is not None:
            return gan.classes_at(job.n, job.seed, job.first)
        # Image k is of class k mod n, whatever range it is sampled in.
        return torch.arange(job.first, job.first + job.n) % n if n else None
    option = f"--label {job.label}" if job.label is not None else f"--class {job.class_name}"
    if not n:
        raise ConfigError(f"{option}: this generator has no classes")
    names, label = gan.provenance.classes, job.label
    if job.class_name is not None:
        if printable(job.class_name) in names:
            label = names.index(printable(job.class_name))
        elif job.class_name.isdecimal() and names and all(name.isdecimal() for name in names):
            # Read as an index, a number such as 0 would silently mean another class where the classes are 3 and 7.
            known = f"there are: {', '.join(names)}; --label counts them from 0"
            raise ConfigError(f"{option}: the classes of this generator are numbers, and this is none of them; {known}")
        elif job.class_name.isdecimal():
            label = int(job.class_name)
        else:
            raise ConfigError(unknown_name("class", job.class_name, names or [f"0 to {n - 1}"]))
    if label is None or label >= n:
        raise ConfigError(f"{option}: this generator has classes 0 to {n - 1}")
    return torch.full((job.n,), label)


def check_out(path: pathlib.Path) -> None:
    """Check, before anything is sampled, that samples can be written to a path.

    Raises:
        ConfigError: if something would be overwritten, or the name is that of a picture other than a .png.
    """
    if path.suffix.lower() in PICTURES:
        raise ConfigError(f"{path}: a grid is written as .png; choose another ending, or a folder for one .png per image")
    if path.suffix.lower() == ".png":
        refuse_overwriting(path)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path}: is not an empty folder, and nothing is overwritten; choose another --out")


def write_samples(path: pathlib.Path, images: Tensor, classes: Tensor | None, gan: GAN, job: SampleJob, grid: bool) -> None:
    """Write samples as a grid, if the path is a ``.png``, or as one file each, in one folder per class."""
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
    """Return a folder name for each class: its own name if all of them can be folder names, else its number."""
    n = gan.generator.n_classes
    numbers = [f"{k:0{len(str(max(0, n - 1)))}d}" for k in range(n)]
    names = gan.provenance.classes
    usable = len(names) == n and len({name.lower() for name in names}) == n
    usable = usable and all(name.strip(". ") == name and name and not set(name) & set('/\\:*?"<>|\0') for name in names)
    return list(names) if usable else numbers


def sheet(images: Tensor, classes: Tensor | None) -> Image.Image:
    """Make a grid of images, with one class per row if there are several classes with the same number of images."""
    if classes is None:
        return pictures.grid(images)
    order = classes.argsort(stable=True)
    counts = torch.bincount(classes)
    counts = counts[counts > 0]
    even = len(counts) > 1 and bool((counts == counts[0]).all()) and len(counts) <= 4 * int(counts[0])
    return pictures.grid(images[order], columns=int(counts[0]) if even else None)


def overview(gan: GAN, seed: int) -> Image.Image:
    """Make a grid of samples; of a conditional generator, some of each class."""
    n = min(gan.generator.n_classes, MOST_ROWS)
    if not n:
        return pictures.grid(gan.sample(64, seed))
    classes = torch.arange(n).repeat_interleave(PER_ROW)
    return sheet(gan.sample(len(classes), seed, y=classes), classes)


def refuse_overwriting(path: pathlib.Path) -> None:
    """Check that a file does not exist.

    Raises:
        ConfigError: if it does.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists, and nothing is overwritten; choose another name")


def sample(
    source: Source,
    out: str | pathlib.Path | None = None,
    *,
    sources: Sequence[Source] | None = None,
    grid: bool = False,
    **settings: Any,
) -> Tensor:
    """Sample a run, an adapter or any source, and write pictures if ``out`` is given.

    Args:
        source: what to sample.
        out: a folder for one PNG per image, in one folder per class if there are classes, or a ``.png`` for a grid.
        sources: the sources of an adapter, if they are not where it expects them.
        grid: write a grid into the folder too.
        **settings: ``n``, ``seed``, ``first``, ``psi``, ``label`` or ``class_name``, ``source_index``, ``batch``, ``device``.

    Returns:
        (n, C, H, W) in [-1, 1]; of a conditional generator all classes in turn, unless one is named.

    Raises:
        ConfigError: if a setting is wrong, or something would be overwritten.
        SourceError, AdapterError: if the source cannot be opened.
    """
    job = parse(SampleJob, settings, "settings of sample")
    if out is not None:
        check_out(pathlib.Path(out))
    gan = open_gan(source, sources, job.device)
    gan = gan if job.source_index is None else one_source(gan, job.source_index)
    labels = classes_for(gan, job)
    images = gan.sample(job.n, job.seed, first=job.first, y=labels, psi=job.psi, batch=job.batch)
    if out is not None:
        write_samples(pathlib.Path(out), images, labels, gan, job, grid)
    return images


def interpolate(
    source: Source,
    out: str | pathlib.Path,
    *,
    sources: Sequence[Source] | None = None,
    keys: int = 6,
    frames: int = 12,
    **settings: Any,
) -> None:
    """Walk between latents and write an animation (``.gif``) or a strip (``.png``).

    Args:
        source: what to sample.
        out: ``.gif`` or ``.png``.
        sources: the sources of an adapter, if they are not where it expects them.
        keys: latents on the walk; an animation returns to the first.
        frames: images from one latent to the next.
        **settings: as for :func:`sample`; ``n`` is not used.

    Raises:
        ConfigError: if a setting is wrong, or something would be overwritten.
        SourceError, AdapterError: if the source cannot be opened.
    """
    job = parse(SampleJob, settings, "settings of sample")
    path = pathlib.Path(out)
    if path.suffix.lower() not in (".gif", ".png"):
        raise ConfigError(f"{path}: an interpolation is written as .gif or .png")
    refuse_overwriting(path)
    gan = pick_source(open_gan(source, sources, job.device), job.source_index)
    closed = path.suffix.lower() == ".gif"
    latents = gan.generator.latent.at(job.seed, range(job.first, job.first + keys))
    ends = list(zip(latents, [*latents[1:], latents[0]] if closed else latents[1:], strict=False))
    walk = [interpolate_latents(gan.generator, a, b, t / frames) for a, b in ends for t in range(frames)]
    walk += [] if closed else [latents[-1]]
    label = classes_for(gan, job.model_copy(update={"n": 1}))
    images = gan.at(torch.stack(walk), label, psi=job.psi, batch=job.batch)
    if closed:
        pictures.save_gif(path, [pictures.to_picture(image, gan.aspect) for image in images])
    else:
        pictures.save_png(path, pictures.grid(images, columns=len(images)))
