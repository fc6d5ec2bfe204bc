"""Strict reading of a state dict: every tensor is taken once, and none is left over."""

import pathlib
import re
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files.containers import pickle_head
from regraft.formats import _state_dicts as state_dicts


class Taker:
    """A state dict from which tensors are taken by name.

    Attributes:
        left: tensors not taken yet.
        where: names the origin in errors.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        self.left, self.where = dict(tensors), where

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def shape(self, name: str, dims: int) -> torch.Size:
        """Shape of a tensor that must be there and have ``dims`` dimensions, none empty.

        Raises:
            SourceError: if it is not so.
        """
        if name not in self.left:
            raise SourceError(f"{self.where}: {name} is missing")
        shape = self.left[name].shape
        if len(shape) != dims or 0 in shape:
            raise SourceError(f"{self.where}: {name} is {tuple(shape)}, must have {dims} dimensions")
        return shape

    def take(self, name: str, dims: int) -> Tensor:
        """Take a tensor of ``dims`` dimensions.

        Raises:
            SourceError: as :meth:`shape`.
        """
        self.shape(name, dims)
        return self.left.pop(name)

    def number(self, name: str) -> Tensor:
        """Take a tensor of one number, as a scalar.

        Raises:
            SourceError: if it is missing or holds more.
        """
        if name not in self.left or self.left[name].numel() != 1:
            raise SourceError(f"{self.where}: {name} must hold one number")
        return self.left.pop(name).reshape(())

    def drop(self, pattern: str) -> None:
        """Take all tensors whose whole name matches, for nothing."""
        self.left = {name: value for name, value in self.left.items() if not re.fullmatch(pattern, name)}

    def count(self, pattern: str) -> int:
        """How many of ``pattern.format(0)``, ``pattern.format(1)``, ... there are, up to the first gap."""
        number = 0
        while pattern.format(number) in self.left:
            number += 1
        return number

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            SourceError: naming up to three tensors that are.
        """
        if self.left:
            more = f" and {len(self.left) - 3} more" if len(self.left) > 3 else ""
            raise SourceError(f"{self.where}: tensors that belong to no known layer: {', '.join(list(self.left)[:3])}{more}")


def state_dict(value: Any, where: str) -> dict[str, Tensor]:
    """A bare state dict in float32, a wrapper's ``module.`` taken off; nothing else is changed.

    Raises:
        SourceError: if it is something else.
    """
    if not state_dicts.is_state_dict(value):
        raise SourceError(f"{where}: holds no bare state dict (names to tensors)")
    if all(name.startswith("module.") for name in value):
        value = {name.removeprefix("module."): tensor for name, tensor in value.items()}
    state_dicts.refuse_complex(value, where)
    return {name: t.float() if t.is_floating_point() else t for name, t in value.items()}


def mentions(path: pathlib.Path, *names: str) -> bool:
    """Whether a ``torch.save`` file holds all of these texts among its names, found without unpickling it."""
    head = pickle_head(path)
    return all(name.encode() in head for name in names)
