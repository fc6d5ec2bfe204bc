"""Animations and stacks: the frames of a GIF, TIFF, WebP, AVIF or PNG that holds several pictures."""

import functools
import mmap
import pathlib
import threading
import warnings
from typing import ClassVar

from PIL import Image

from regraft.core.names import printable
from regraft.data import kinds
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import MAX_PIXELS, UnreadableImage

KINDS = {"GIF", "TIFF", "WebP", "AVIF", "PNG"}
MAX_FRAMES = 1_000_000
AHEAD = 64
"""Frames that are kept for threads that ask for them a little later."""


class Frames(Container):
    """A picture with several frames."""

    summary: ClassVar[str] = "a .gif or .tif of several frames"
    order: ClassVar[int] = 60

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        return kinds.kind_of(path.name, head) in KINDS and count_frames(path) > 1

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`."""
        asked.refuse_part(path)
        film = _Film(path, count_frames(path))
        items = tuple(Item(f"{printable(path.name)}[{i}]", functools.partial(film.read, i)) for i in range(film.count))
        note = f"{printable(path.name)} holds {film.count} frames, and each is used as an image"
        return ImageSet(printable(str(path)), items, (), (note,))


def count_frames(path: pathlib.Path) -> int:
    """Return the number of pictures in a file; 0 if it cannot be read as one."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return min(MAX_FRAMES, int(getattr(image, "n_frames", 1)))
    except Exception:  # noqa: BLE001 - decoders raise many kinds for damaged files
        return 0


class _Film:
    """Frames of one file, read in their order as far as possible, for most of them build on those before."""

    def __init__(self, path: pathlib.Path, count: int) -> None:
        self.path, self.count = path, count
        self._lock = threading.Lock()
        self._image: Image.Image | None = None
        self._kept: dict[int, Image.Image] = {}

    def read(self, i: int) -> Image.Image:
        """Return one frame.

        Raises:
            UnreadableImage: if it is damaged or too large.
        """
        with self._lock:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return self._kept.pop(i, None) or self._seek(i)
            except UnreadableImage:
                raise
            except Exception as error:  # noqa: BLE001 - decoders raise many kinds for damaged frames
                self._image = None
                reason = " ".join(str(error).split())[:120]
                raise UnreadableImage(f"{self.path}: frame {i} cannot be read; it is damaged ({reason})") from None

    def _seek(self, wanted: int) -> Image.Image:
        """Go to a frame; those on the way are kept for other threads."""
        if self._image is None:
            # A mapped file needs no handle that would stay open as long as the set.
            with self.path.open("rb") as file:
                self._image = Image.open(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # type: ignore[arg-type]
        image = self._image
        start = image.tell() + 1
        on_the_way = range(start, wanted) if start <= wanted <= start + AHEAD else range(0)
        for i in on_the_way:
            self._kept[i] = self._copied(image, i)
        while len(self._kept) > AHEAD:
            del self._kept[min(self._kept)]
        return self._copied(image, wanted)

    def _copied(self, image: Image.Image, i: int) -> Image.Image:
        image.seek(i)
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImage(
                f"{self.path}: frame {i} has {image.width}x{image.height} pixels, more than the {MAX_PIXELS} allowed"
            )
        return image.copy()


PLUGIN = Frames()
