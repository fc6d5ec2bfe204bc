"""HDF5 files of images, as BigGAN's ``make_hdf5.py`` writes them: ``imgs`` (N, C, H, W) and ``labels`` (N,)."""

import pathlib
from typing import ClassVar

from regraft.core.errors import DataError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._choice import Chosen, choose_arrays
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container, check_unpacked
from regraft.data.images import ImageSet
from regraft.data.joining import join_sets
from regraft.files.hdf5 import MAGIC, StoredArray, read_arrays

_LEAVES = ("kernel:0", "bias:0", "gamma:0", "kernel", "bias")
"""Last parts of the names of arrays of a Keras network."""


class Hdf5(Container):
    """An HDF5 file of images."""

    summary: ClassVar[str] = "an HDF5 file of images (BigGAN)"

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        # Programs may put a block of their own before it; MATLAB's is 512 bytes.
        return MAGIC in (head[:8], head[512:520])

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is an array or a split."""
        arrays = read_arrays(path)
        if any(name.rpartition("/")[2] in _LEAVES for name in arrays):
            raise DataError(f"{path}: the weights of a network and no images, or a format of its own")
        chosen = choose_arrays(str(path), arrays, asked)
        return join_sets(str(path), [_opened(path, arrays, choice, asked) for choice in chosen])


def _opened(path: pathlib.Path, arrays: dict[str, StoredArray], choice: Chosen, asked: Asked) -> ImageSet:
    """Open one array of images and read its labels."""
    pixels, labels = arrays[choice.images], NO_LABELS
    check_unpacked(path, pixels.nbytes, f"{choice.images} of shape {pixels.shape}")
    if choice.labels and asked.labels is not False:
        label = arrays[choice.labels]
        check_unpacked(path, label.nbytes, f"{choice.labels} of shape {label.shape}")
        labels = read_labels(label[:], len(pixels), f"{path}: {choice.labels}", asked.labels)
    return set_of_array(str(path), choice.images, pixels, labels, choice.notes)


PLUGIN = Hdf5()
