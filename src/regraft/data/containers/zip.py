"""Zip archives of image files, as of a folder."""

import pathlib
import zipfile
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.data.containers.base import MAX_UNPACKED, Container
from regraft.data.images import ImageSet
from regraft.data.listing import list_images
from regraft.data.pixels import MAX_BYTES, UnreadableImage


class Zip(Container):
    """A .zip of images."""

    summary: ClassVar[str] = "a .zip of images"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return zipfile.is_zipfile(path)

    def open(self, path: pathlib.Path, part: str | None) -> ImageSet:
        """See :meth:`Container.open`."""
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: a damaged .zip ({error})") from None
        entries = {e.filename: e for e in archive.infolist() if not e.is_dir() and "__MACOSX" not in e.filename}
        total = sum(e.file_size for e in entries.values())
        if total > MAX_UNPACKED:
            raise DataError(f"{path}: would unpack to {total >> 30} GB, more than the {MAX_UNPACKED >> 30} GB allowed")

        def read(name: str) -> bytes:
            entry = entries[name]
            if entry.file_size > MAX_BYTES:
                raise UnreadableImage(f"{path}: {name} would unpack to more than {MAX_BYTES >> 20} MB")
            try:
                # One handle per read, because images are decoded in several threads.
                with zipfile.ZipFile(path) as handle, handle.open(entry) as file:
                    return file.read(MAX_BYTES + 1)
            except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError) as error:
                raise UnreadableImage(f"{path}: {name} cannot be unpacked ({error})") from None
            except Exception as error:  # noqa: BLE001 - zlib.error and kin have no common base
                raise UnreadableImage(f"{path}: {name} is damaged ({error})") from None

        return list_images(str(path), list(entries), read)


PLUGIN = Zip()
