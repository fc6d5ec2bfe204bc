"""Moving the tensors of a state dict to regraft's names, so that each is used exactly once."""

import fnmatch
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.build import build, check_tensors
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import Description
from regraft.formats._state_dicts import is_state_dict
from regraft.formats.base import Network

Dialect = Literal["stored", "fresh"]


def state_of(content: Any, *wrappers: str) -> dict[str, Tensor] | None:
    """The state dict in what a torch file holds, under one of several keys or bare, ``module.`` prefixes dropped."""
    if isinstance(content, dict):
        content = next((content[key] for key in wrappers if key in content), content)
    if not is_state_dict(content):
        return None
    tensors: dict[str, Tensor] = content
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


class Moving:
    """A state dict that is being used up.

    Attributes:
        made: what has been moved, under the new names.
        dialects: dialect of spectral normalisation of each moved layer's group.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        self.left, self.where = dict(tensors), where
        self.made: dict[str, Tensor] = {}
        self.dialects: dict[str, set[Dialect | None]] = {}

    def has(self, name: str) -> bool:
        """Whether a tensor is still there."""
        return name in self.left

    def has_layer(self, name: str) -> bool:
        """Whether a layer is still there, in any dialect of spectral normalisation."""
        return f"{name}.weight" in self.left or f"{name}.weight_orig" in self.left

    def shape(self, layer: str) -> tuple[int, ...]:
        """Shape of a layer's weight, at least two numbers.

        Raises:
            SourceError: if there is no such layer.
        """
        for leaf in ("weight", "weight_orig"):
            value = self.left.get(f"{layer}.{leaf}")
            if value is not None and value.dim() >= 2 and value.numel():
                return tuple(value.shape)
        raise SourceError(f"{self.where}: has no weight called {layer}.weight, which this family's networks have")

    def take(self, name: str) -> Tensor:
        """Use a tensor up, as float32 where it is floating.

        Raises:
            SourceError: if it is missing, or pretends to hold more than the file does.
        """
        if name not in self.left:
            raise SourceError(f"{self.where}: has no tensor called {name}, which this family's networks have")
        value = self.left.pop(name).detach()
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise SourceError(f"{self.where}: {name} is no plain array of numbers")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise SourceError(f"{self.where}: {name} claims {tuple(value.shape)} numbers and stores fewer")
        return (value.float() if value.is_floating_point() else value).contiguous()

    def move(self, name: str, target: str, shape: tuple[int, ...] | None = None) -> None:
        """Use a tensor up under a new name."""
        value = self.take(name)
        if shape is not None:
            if value.numel() != torch.Size(shape).numel():
                raise SourceError(f"{self.where}: {name} is {tuple(value.shape)}, must be {shape}")
            value = value.reshape(shape)
        self.made[target] = value

    def layer(self, name: str, target: str, group: str = "blocks") -> None:
        """Move a weighted layer, with whatever spectral normalisation it has."""
        self.shape(name)
        dialect: Dialect | None = None
        if self.has(f"{name}.weight_orig"):
            dialect = "stored"
            weight, u = self.take(f"{name}.weight_orig"), self.take(f"{name}.weight_u").flatten()
            v = self.take(f"{name}.weight_v").flatten() if self.has(f"{name}.weight_v") else None
        elif self.has(f"{name}.sn_u"):
            dialect = "fresh"
            weight, u, v = self.take(f"{name}.weight"), self.take(f"{name}.sn_u").flatten(), None
            self.left.pop(f"{name}.sn_sigma", None)  # a log value
        else:
            weight = self.take(f"{name}.weight")
        self.made[f"{target}.weight"] = weight
        if dialect is not None:
            if u.numel() != len(weight):
                raise SourceError(f"{self.where}: the u of {name} has {u.numel()} numbers, its weight {len(weight)} rows")
            # Where v is not stored it follows from u (exactly so for the fresh dialect, which does not use it).
            self.made[f"{target}.v"] = functional.normalize(u.float() @ weight.float().flatten(1), dim=0) if v is None else v
            self.made[f"{target}.u"] = u
        if self.has(f"{name}.bias"):
            self.move(f"{name}.bias", f"{target}.bias")
        self.dialects.setdefault(group, set()).add(dialect)

    def batch_norm(self, name: str, target: str, affine: bool = True) -> None:
        """Move a batch norm; a missing counter is zero."""
        for leaf in ("weight", "bias") if affine else ():
            self.move(f"{name}.{leaf}", f"{target}.{leaf}")
        for leaf in ("running_mean", "running_var"):
            self.move(f"{name}.{leaf}", f"{target}.{leaf}")
        counter = f"{name}.num_batches_tracked"
        self.made[f"{target}.num_batches_tracked"] = self.take(counter) if self.has(counter) else torch.tensor(0)

    def ignore(self, *patterns: str) -> list[str]:
        """Leave out tensors by name, with shell wildcards; returns which."""
        dropped = [name for name in self.left if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
        for name in dropped:
            del self.left[name]
        return dropped

    def dialect(self, group: str = "blocks") -> Dialect | None:
        """The one dialect of a group.

        Raises:
            SourceError: if its layers differ.
        """
        found = self.dialects.get(group, {None})
        if len(found) > 1:
            named = ", ".join(sorted(str(d) for d in found))
            raise SourceError(f"{self.where}: layers of {group} differ in spectral normalisation ({named}); regraft's do not")
        return next(iter(found))

    def network(self, kind: str, role: Literal["generator", "critic"], config: dict[str, Any]) -> Network:
        """A network of all that was moved.

        Raises:
            SourceError: if anything is left, or the settings that were read make no network that the tensors fill.
        """
        self._check_empty()
        description = Description(kind, role, config)
        try:
            with torch.device("meta"):
                wanted = build(description).state_dict()
        except ConfigError as error:
            raise SourceError(f"{self.where}: its tensors make no network: {error}") from None
        check_tensors({k: tuple(v.shape) for k, v in wanted.items()}, self.made, self.where)
        return Network(description, self.made)

    def _check_empty(self) -> None:
        if self.left:
            names = ", ".join(list(self.left)[:3])
            more = f" and {len(self.left) - 3} more" if len(self.left) > 3 else ""
            raise SourceError(f"{self.where}: tensors not used: {names}{more}; the network is another one than regraft knows")
