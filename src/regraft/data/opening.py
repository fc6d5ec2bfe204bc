"""Open a set of images by its path: a folder, or a file that one of the containers reads."""

import pathlib

from regraft.core import discover
from regraft.core.errors import DataError
from regraft.data.containers.base import Container
from regraft.data.images import ImageSet
from regraft.data.listing import list_images
from regraft.data.pixels import MAX_BYTES, UnreadableImage

HEAD = 512
"""Bytes of a file that containers are told to recognise it by."""


def open_images(path: str | pathlib.Path) -> ImageSet:
    """List the images of a folder, a folder of class folders, or a file that holds many images.

    Sub-folders are classes if every image lies in one of them; a StyleGAN ``dataset.json`` gives labels too.  A part of a file
    is named behind a colon: ``file.npz:x_train`` (with labels ``y_train``); the default is its first array of images.

    Args:
        path: the folder or file.

    Raises:
        DataError: if the path does not exist, holds no image, or is of a kind that is not read.
    """
    where, part = _split_part(str(path))
    if not where.exists():
        raise DataError(f"{where}: there is no such file or folder of images")
    if where.is_dir():
        return _open_folder(where)
    with where.open("rb") as file:
        head = file.read(HEAD)
    for container in containers():
        if container.matches(where, head):
            return container.open(where, part)
    raise DataError(f"{where}: not a folder, a .zip or an .npz of images")


def containers() -> list[Container]:
    """Return all containers, specific ones first."""
    plugins = [discover.plugin("containers", name, Container) for name in discover.names("containers")]
    return sorted(plugins, key=lambda container: container.order)


def _split_part(text: str) -> tuple[pathlib.Path, str | None]:
    """Split ``file:part`` where the whole is no path and what stands before the last colon is a file."""
    before, colon, part = text.rpartition(":")
    if colon and part and not pathlib.Path(text).exists() and pathlib.Path(before).is_file():
        return pathlib.Path(before), part
    return pathlib.Path(text), None


def _open_folder(where: pathlib.Path) -> ImageSet:
    files = sorted(
        p for p in where.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(where).parts)
    )
    names = [str(p.relative_to(where)) for p in files]
    return list_images(str(where), names, lambda name: _read_file(where / name))


def _read_file(path: pathlib.Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableImage(f"{path}: larger than {MAX_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None
