"""Layers of ResNets and progressive GANs as PyTorch's and mimicry's code store them, spectral normalisation included."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.errors import SourceError
from regraft.formats._tensor_reader import TensorReader

Dialect = Literal["stored", "fresh"]
"""Spectral normalisation: both vectors are stored (PyTorch), or the second follows from the first each time (mimicry)."""


class LayerReader(TensorReader):
    """Moves whole layers.

    Attributes:
        dialects: how the moved layers of each group are spectrally normalised; None for not at all.
    """

    def __init__(self, tensors: dict[str, Tensor], where: str) -> None:
        super().__init__(tensors, where)
        self.dialects: dict[str, set[Dialect | None]] = {}

    def has_layer(self, name: str) -> bool:
        """Whether a layer has a weight, in any dialect."""
        return f"{name}.weight" in self or f"{name}.weight_orig" in self

    def weight_shape(self, layer: str) -> torch.Size:
        """Shape of a layer's weight, at least two numbers.

        Raises:
            SourceError: if there is no such weight.
        """
        name = f"{layer}.weight" if f"{layer}.weight" in self else f"{layer}.weight_orig"
        if name not in self:
            raise SourceError(f"{self.where}: {layer}.weight is missing; every network of this kind has it")
        return self.shape(name, 2, 3, 4, 5)

    def layer(self, name: str, target: str, group: str = "blocks") -> None:
        """Move a layer's weight, its bias and the vectors of its spectral normalisation, where it has them."""
        self.weight_shape(name)
        dialect: Dialect | None = None
        u: Tensor | None = None
        v: Tensor | None = None
        if f"{name}.weight_orig" in self:
            dialect, weight, u = "stored", self.take(f"{name}.weight_orig"), self.take(f"{name}.weight_u").flatten()
            v = self.take(f"{name}.weight_v").flatten() if f"{name}.weight_v" in self else None
        elif f"{name}.sn_u" in self:
            dialect, weight, u = "fresh", self.take(f"{name}.weight"), self.take(f"{name}.sn_u").flatten()
            self.unused.pop(f"{name}.sn_sigma", None)  # a logged value
        else:
            weight = self.take(f"{name}.weight")
        self.put(f"{target}.weight", weight, f"{name}.weight_orig" if dialect == "stored" else f"{name}.weight")
        if u is not None:
            if u.numel() != len(weight):
                raise SourceError(f"{self.where}: the u of {name} has {u.numel()} numbers, its weight {len(weight)} rows")
            # Where v is not stored it follows from u (exactly so for the fresh dialect, which does not use it).
            self.put(f"{target}.v", functional.normalize(u.float() @ weight.float().flatten(1), dim=0) if v is None else v)
            self.put(f"{target}.u", u)
        if f"{name}.bias" in self:
            self.move(f"{name}.bias", f"{target}.bias")
        self.dialects.setdefault(group, set()).add(dialect)

    def batch_norm(self, name: str, target: str, affine: bool = True) -> None:
        """Move a batch norm; a missing counter of batches becomes zero."""
        for leaf in (*(("weight", "bias") if affine else ()), "running_mean", "running_var"):
            self.move(f"{name}.{leaf}", f"{target}.{leaf}")
        counter = f"{name}.num_batches_tracked"
        self.put(f"{target}.num_batches_tracked", self.take(counter) if counter in self else torch.tensor(0))

    def attention(self, source: str, target: str, names: dict[str, str], strength: str) -> None:
        """Move self-attention.

        Args:
            source: what its names begin with in the file, up to the layers' own names.
            target: its name in the network.
            names: the file's name of each layer to regraft's.
            strength: the file's whole name of the factor of what it adds.
        """
        for theirs, ours in names.items():
            self.layer(f"{source}{theirs}", f"{target}.{ours}")
        self.put(f"{target}.strength", self.number(strength))

    def dialect(self, group: str = "blocks") -> Dialect | None:
        """How the layers of a group are spectrally normalised.

        Raises:
            SourceError: if they differ.
        """
        dialects = self.dialects.get(group, {None})
        if len(dialects) > 1:
            names = ", ".join(sorted(str(d) for d in dialects))
            raise SourceError(f"{self.where}: layers of {group} differ in spectral normalisation ({names}); regraft's do not")
        return next(iter(dialects))
