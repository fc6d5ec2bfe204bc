"""Finding the state dicts of a generator and a critic inside what ``torch.load`` or safetensors gave."""

import pathlib
import re
from typing import TypeGuard

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files import weights
from regraft.files.containers import pickle_head
from regraft.files.inert import shown
from regraft.formats._reparametrized import baked
from regraft.formats._roles import unwrapped
from regraft.formats.base import load_torch

StateDict = dict[str, Tensor]


def is_state_dict(value: object) -> TypeGuard[StateDict]:
    """Whether a value maps names to tensors and to nothing else."""
    return isinstance(value, dict) and len(value) > 0 and all(_is_tensor(name, entry) for name, entry in value.items())


def state_dict_under(content: object, *keys: str) -> StateDict | None:
    """The state dict under the first of some keys that a file has, or the file itself; None if that is no state dict."""
    if isinstance(content, dict):
        content = next((content[key] for key in keys if key in content), content)
    return unwrapped(content) if is_state_dict(content) else None


def the_state_dict(content: object, where: str) -> StateDict:
    """What a file holds, which must be a state dict, without the prefixes of wrappers.

    Raises:
        SourceError: if it is something else.
    """
    tensors = state_dict_under(content)
    if tensors is None:
        raise SourceError(f"{where}: must map names to tensors (a state dict), and is {described(content)}")
    return tensors


def under_key(content: object, key: str, where: str) -> object:
    """What a file holds under ``key``, or under ``outer.inner``.

    Raises:
        SourceError: if there is no such key.
    """
    rest = key
    while rest:
        if not isinstance(content, dict):
            raise SourceError(f"{where}: has no key {key}; there is {described(content)}")
        names = [str(name) for name in content if rest == str(name) or rest.startswith(f"{name}.")]
        if not names:
            present = ", ".join(str(name)[:60] for name in list(content)[:8])
            raise SourceError(f"{where}: has no key {key}; there are: {present}")
        name = max(names, key=len)
        content = next(value for inner, value in content.items() if str(inner) == name)
        rest = rest[len(name) + 1 :]
    return content


def clean(tensors: StateDict) -> StateDict:
    """Drop prefixes that wrappers add to every name, bake spectral and weight norm, make floating tensors float32."""
    tensors = unwrapped(tensors)
    cleaned: StateDict = {}
    converted: dict[int, Tensor] = {}  # a file may hold one tensor under many names
    for name, value in baked(tensors).items():
        if value.is_floating_point() and value.dtype != torch.float32:
            if id(value) not in converted:
                converted[id(value)] = value.float()
            value = converted[id(value)]
        cleaned[name] = value
    return cleaned


def mentions(path: pathlib.Path, *names: str) -> bool:
    """Whether a ``torch.save`` file holds all of these texts among its names, found without unpickling it."""
    head = pickle_head(path)
    return all(name.encode() in head for name in names)


def read_safetensors(path: pathlib.Path) -> StateDict:
    """Read a safetensors file, names sorted so that layer 10 comes after layer 9: the file keeps no order.

    Raises:
        SourceError: if it is damaged.
    """
    tensors = weights.read_safetensors(path)
    return {name: tensors[name] for name in sorted(tensors, key=_numbers_by_value)}


def read_weights(path: pathlib.Path) -> object:
    """What a safetensors or ``torch.save`` file holds.

    Raises:
        SourceError: if it is damaged, or holds more than tensors and plain data.
    """
    return read_safetensors(path) if is_safetensors(path) else load_torch(path)


def is_safetensors(path: pathlib.Path) -> bool:
    """Whether a file begins as safetensors files do: the length of a header, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _numbers_by_value(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which layer 10 comes after layer 9."""
    return [(0, int(part)) if part.isdecimal() and len(part) < 10 else (1, part) for part in re.split(r"(\d+)", name) if part]


def described(content: object) -> str:
    """What a file holds, in a few words for an error."""
    if not isinstance(content, dict):
        return f"a {shown(content)}" + (f" of shape {tuple(content.shape)}" if isinstance(content, Tensor) else "")
    others = {name: value for name, value in content.items() if not _is_tensor(name, value)}
    listed = ", ".join(f"{str(name)[:60]}: {shown(value)}" for name, value in list((others or content).items())[:6])
    tensors = len(content) - len(others)
    return f"a mapping with {f'{tensors} tensors and ' if tensors and others else ''}{listed or 'nothing in it'}"


def _is_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)
