"""Tensors of images that ``torch.save`` or safetensors wrote: alone, with labels, or among named ones."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from regraft.core.errors import DataError, SourceError
from regraft.data.containers._arrays import set_of_array
from regraft.data.containers._choice import choose_arrays, split_and_kind
from regraft.data.containers._labels import NO_LABELS, read_labels
from regraft.data.containers.base import Asked, Container
from regraft.data.images import ImageSet
from regraft.data.joining import join_sets
from regraft.files.containers import LEGACY, ZIP, is_torch_zip
from regraft.files.weights import load_torch, read_safetensors

_WAY_OUT = "Save the images alone, as torch.save(images, 'images.pt') or torch.save({'images': images, 'labels': labels}, ...)"
_LEAVES = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight_orig", "noise", "kernel"}
"""Last parts of the names of a network's tensors."""


class Tensors(Container):
    """A .pt or .safetensors of images."""

    summary: ClassVar[str] = "a .pt or .safetensors with a tensor of images"
    order: ClassVar[int] = 30

    def matches(self, path: pathlib.Path, head: bytes) -> bool:
        """See :meth:`Container.matches`."""
        if head.startswith(ZIP):
            return is_torch_zip(path)
        return head.startswith(LEGACY) or _is_safetensors(head)

    def open(self, path: pathlib.Path, asked: Asked) -> ImageSet:
        """See :meth:`Container.open`; the part is one of several tensors, or a split."""
        content = _read(path)
        if isinstance(content, Mapping):
            named = _named(path, content)
        elif isinstance(content, Tensor):
            named = {"images": content}
        elif isinstance(content, tuple | list) and content and all(isinstance(t, Tensor) for t in content):
            pair = len(content) == 1 or (len(content) == 2 and content[0].ndim > content[1].ndim)
            named = dict(zip(("images", "labels"), content, strict=False)) if pair else {"images": _stacked(path, content)}
        else:
            named = {}
        if not named:
            raise DataError(f"{path}: holds {_described(content)} and no tensor of images. {_WAY_OUT}")
        if not isinstance(content, Mapping):
            asked.refuse_part(path)
        arrays = {name: _array(path, name, tensor) for name, tensor in named.items()}
        classes = _names_of_classes(content) if isinstance(content, Mapping) else ()
        sets = []
        for choice in choose_arrays(str(path), arrays, asked):
            pixels, labels = arrays[choice.images], NO_LABELS
            if choice.labels:
                labels = read_labels(arrays[choice.labels], len(pixels), f"{path}: {choice.labels}", asked.labels, classes)
            sets.append(set_of_array(str(path), choice.images, pixels, labels, choice.notes))
        return join_sets(str(path), sets)


def _named(path: pathlib.Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict, and its lists of numbers, by name.

    Raises:
        DataError: if they are the weights of networks.
    """
    inner = [content, *(value for value in content.values() if isinstance(value, Mapping))]
    names = [str(name) for table in inner for name, value in table.items() if isinstance(value, Tensor)]
    if any(name.rpartition(".")[2] in _LEAVES for name in names):
        raise DataError(f"{path}: a checkpoint, the weights of networks, and no images; give it as the source instead")
    named = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for name, value in content.items():
        if isinstance(value, list) and value and all(type(v) is int and abs(v) < 1 << 62 for v in value):
            named[str(name)] = torch.tensor(value)
        elif isinstance(value, list) and value and all(isinstance(v, Tensor) and v.ndim in (2, 3) for v in value):
            named[str(name)] = _stacked(path, value)
    return named


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 27


def _read(path: pathlib.Path) -> object:
    """Read a file without running anything out of it.

    Raises:
        DataError: if it is damaged, or holds more than tensors and plain data.
    """
    try:
        with path.open("rb") as file:
            if _is_safetensors(file.read(16)):
                return read_safetensors(path)
        content: object = load_torch(path, {})
        return content
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except SourceError as error:
        if "more than tensors" in str(error):
            reason = str(error).partition("plain data (")[2].partition(")")[0]
            raise DataError(
                f"{path}: refused, because it holds more than tensors and plain data ({reason}), and no code of a file is run. "
                "If these are images, save them as tensors, as torch.save({'images': images, 'labels': labels}, 'images.pt')"
            ) from None
        raise DataError(str(error)) from None


def _stacked(path: pathlib.Path, images: Sequence[Tensor]) -> Tensor:
    """Return a list of images as one tensor.

    Raises:
        DataError: if they differ in shape or type.
    """
    shapes = {(tuple(image.shape), image.dtype) for image in images}
    if len(shapes) > 1:
        shown = ", ".join(f"{dtype} {shape}" for shape, dtype in list(shapes)[:3])
        raise DataError(f"{path}: tensors of several shapes ({shown}); save the images as files, or bring them to one shape")
    return torch.stack(list(images))


def _array(path: pathlib.Path, name: str, tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array that shares its memory.

    Raises:
        DataError: if it holds no plain numbers.
    """
    if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
        raise DataError(f"{path}: {name} is {tensor.dtype} in the layout {tensor.layout}; images are plain numbers")
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    return array


def _names_of_classes(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the names of classes, where a file keeps them beside its tensors."""
    for name, value in content.items():
        kind = split_and_kind(str(name))[1]
        if kind in ("classes", "classnames", "labelnames", "names") and isinstance(value, list | tuple):
            return tuple(value) if all(isinstance(v, str) for v in value) else ()
    return ()


def _described(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {', '.join(str(name)[:30] for name in list(content)[:6]) or 'nothing in it'}"
    if isinstance(content, tuple | list):
        return f"a {type(content).__name__} of {len(content)} ({', '.join(type(v).__name__ for v in content[:3])})"
    return f"a {type(content).__name__}"


PLUGIN = Tensors()
