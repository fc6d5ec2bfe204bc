"""Strict reading of a network's tensors: each is used once, under the name that the file gives it, and none is left over."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.build import build, check_tensors
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import Description
from regraft.formats.base import Network

Role = Literal["generator", "critic", "autoencoder"]


class TensorReader:
    """The tensors of one network, moved one by one from the file's names to regraft's.

    Attributes:
        unused: tensors that nothing has used yet, by the file's names.
        tensors: those that were moved, by regraft's names.
        file_names: what the file calls those that were moved as they are, by regraft's names.
        where: names the file in errors.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        self.unused, self.where = dict(tensors), where
        self.tensors: dict[str, Tensor] = {}
        self.file_names: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.unused

    def shape(self, name: str, *dims: int) -> torch.Size:
        """Shape of an unused tensor.

        Args:
            name: in the file.
            dims: numbers of dimensions that it may have; any if left out.

        Raises:
            SourceError: if it is missing or empty, or has another number of dimensions.
        """
        if name not in self.unused:
            raise SourceError(f"{self.where}: {name} is missing; every network of this kind has it")
        shape = self.unused[name].shape
        if 0 in shape:
            raise SourceError(f"{self.where}: {name} has shape {tuple(shape)}, and holds no numbers")
        if dims and len(shape) not in dims:
            allowed = " or ".join(map(str, dims))
            raise SourceError(f"{self.where}: {name} has shape {tuple(shape)}, and must have {allowed} dimensions")
        return shape

    def take(self, name: str, *dims: int) -> Tensor:
        """Use a tensor up; floating ones are returned in float32.

        Args:
            name: in the file.
            dims: numbers of dimensions that it may have; any if left out.

        Raises:
            SourceError: as :meth:`shape`, or if it is no plain array of real numbers that are all in the file.
        """
        self.shape(name, *dims)
        value = self.unused.pop(name).detach()
        if value.is_complex():
            raise SourceError(f"{self.where}: {name} holds complex numbers, which no network here has")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise SourceError(f"{self.where}: {name} is no plain array of numbers")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise SourceError(f"{self.where}: {name} claims {tuple(value.shape)} numbers, and the file stores fewer")
        return (value.float() if value.is_floating_point() else value).contiguous()

    def number(self, name: str) -> Tensor:
        """Use a tensor of one number up; returned as a scalar tensor.

        Raises:
            SourceError: as :meth:`take`, or if it holds several numbers.
        """
        value = self.take(name)
        if value.numel() != 1:
            raise SourceError(f"{self.where}: {name} has shape {tuple(value.shape)}, and must hold one number")
        return value.reshape(())

    def put(self, target: str, value: Tensor, name: str | None = None) -> None:
        """Keep a tensor under one of regraft's names; ``name`` is what the file calls it, where it has it.

        Raises:
            SourceError: if there is one already.
        """
        if target in self.tensors:
            raise SourceError(f"{self.where}: two of its tensors are the network's {target}")
        self.tensors[target] = value
        if name is not None:
            self.file_names[target] = name

    def move(self, name: str, target: str, *dims: int, layout: Callable[[Tensor], Tensor] | None = None) -> None:
        """Use a tensor up and keep it under one of regraft's names.

        Args:
            name: in the file.
            target: regraft's name.
            dims: numbers of dimensions that it may have in the file; any if left out.
            layout: brings it into regraft's layout.
        """
        value = self.take(name, *dims)
        self.put(target, value if layout is None else layout(value).contiguous(), name)

    def ignore(self, *patterns: str) -> list[str]:
        """Leave out tensors whose whole names match one of these regular expressions; returns their names."""
        ignored = [name for name in self.unused if any(re.fullmatch(pattern, name) for pattern in patterns)]
        for name in ignored:
            del self.unused[name]
        return ignored

    def numbered(self, pattern: str, first: int = 0, *, least: int = 1, most: int = 64) -> list[int]:
        """Numbers of layers of one kind, in order.

        Args:
            pattern: how their tensors' names begin, with ``{}`` for the number.
            first: the lowest number.
            least, most: how many there must be.

        Raises:
            SourceError: if there are too few or too many, or a number is left out.
        """
        before, _, after = pattern.partition("{}")
        beginning = re.compile(f"{re.escape(before)}([0-9]{{1,4}}){re.escape(after)}")
        numbers = sorted({int(match[1]) for name in self.unused if (match := beginning.match(name))})
        shown = pattern.format("*")
        if numbers != list(range(first, first + len(numbers))):
            raise SourceError(f"{self.where}: layers {shown} are numbered {numbers[:12]}, not from {first} on without a gap")
        if not least <= len(numbers) <= most:
            raise SourceError(f"{self.where}: has {len(numbers)} layers {shown}, and must have {least} to {most}")
        return numbers

    def square_side(self, numbers: int, channels: int, layer: str) -> int:
        """Side of the square map of ``channels`` channels that ``numbers`` numbers are; ``layer`` gives or takes them.

        Raises:
            SourceError: if they are no such map.
        """
        side = math.isqrt(numbers // channels)
        if side * side * channels != numbers:
            raise SourceError(f"{self.where}: {layer} is of {numbers} numbers, no square map of {channels} channels")
        return side

    def finish(self) -> dict[str, Tensor]:
        """All tensors that were moved, by regraft's names.

        Raises:
            SourceError: naming up to three tensors that were neither used nor ignored.
        """
        if self.unused:
            names = ", ".join(list(self.unused)[:3])
            more = f" and {len(self.unused) - 3} more" if len(self.unused) > 3 else ""
            raise SourceError(f"{self.where}: tensors not used: {names}{more}; no known layer of this kind of network has them")
        return self.tensors

    def network(self, kind: str, role: Role, config: dict[str, Any]) -> Network:
        """A network of all tensors that were moved.

        Raises:
            SourceError: as :meth:`finish` and :func:`checked_network`.
        """
        network = checked_network(kind, role, config, self.finish(), self.where)
        return dataclasses.replace(network, file_names=self.file_names)


def checked_network(kind: str, role: Role, config: dict[str, Any], tensors: dict[str, Tensor], where: str) -> Network:
    """Settings and tensors of a network, once they fit each other; no memory is taken for it.

    Args:
        kind: name of the backbone.
        role: which of its networks.
        config: the network's settings.
        tensors: by regraft's names.
        where: names the file in errors.

    Raises:
        SourceError: if the backbone refuses the settings, or they make a network with other tensors or shapes.
    """
    description = Description(kind, role, config)
    try:
        with torch.device("meta"):
            expected = build(description).state_dict()
    except ConfigError as error:
        raise SourceError(f"{where}: its shapes and settings make no network that regraft can build: {error}") from None
    check_tensors({name: tuple(value.shape) for name, value in expected.items()}, tensors, where)
    return Network(description, tensors)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a part under the names that the whole gives them."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
