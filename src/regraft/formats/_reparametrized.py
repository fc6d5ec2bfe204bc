"""Weights that torch keeps in another form than layers use them: spectral and weight normalisation, of either generation.

``torch.nn.utils.spectral_norm`` stores ``weight_orig``, ``weight_u`` and ``weight_v``; its successor in
``torch.nn.utils.parametrizations`` stores the same as ``parametrizations.weight.original``, ``.0._u`` and ``.0._v``.  Weight
normalisation has ``weight_g`` and ``weight_v``, or ``original0`` and ``original1``.
"""

import math
import re

import torch
from torch import Tensor
from torch.nn import functional

NEW = re.compile(r"(.*?)parametrizations\.(\w+)\.(original0|original1|original|0\._u|0\._v)")
OLD = {"original": "orig", "0._u": "u", "0._v": "v", "original0": "g", "original1": "v"}


def with_old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of torch's parametrized layers under the names that its older functions gave them; others as they are."""
    renamed: dict[str, str] = {}
    for name in tensors:
        match = NEW.fullmatch(name)
        if match is None:
            continue
        layer, weight, leaf = match.groups()
        beside = f"{layer}parametrizations.{weight}."
        spectral = f"{beside}original" in tensors and f"{beside}0._u" in tensors
        if spectral if leaf in ("original", "0._u", "0._v") else {f"{beside}original0", f"{beside}original1"} <= tensors.keys():
            renamed[name] = f"{layer}{weight}_{OLD[leaf]}"
    if not renamed or not tensors.keys().isdisjoint(renamed.values()) or len(set(renamed.values())) < len(renamed):
        return tensors
    return {renamed.get(name, name): value for name, value in tensors.items()}


def baked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with every normalised weight as the layer uses it, in evaluation mode."""
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition(".")
        before = f"{layer}." if layer else ""
        if leaf in ("weight_orig", "weight_g", "weight_u", "weight_v"):
            weight = _spectral(tensors, before) if f"{before}weight_orig" in tensors else _scaled(tensors, before)
            if weight is not None:
                plain[f"{before}weight"] = weight
                continue
        plain[name] = value
    return plain


def _spectral(tensors: dict[str, Tensor], before: str) -> Tensor | None:
    """A weight divided by its largest singular value; None if its vectors do not fit it."""
    weight, u, v = (tensors.get(f"{before}weight_{leaf}") for leaf in ("orig", "u", "v"))
    if weight is None or u is None or weight.dim() < 2 or any(t is not None and t.is_complex() for t in (weight, u, v)):
        return None
    rest = math.prod(weight.shape) // max(1, u.numel())
    if v is not None and tuple(v.shape) != (rest,):
        return None
    # Along the inputs for torch's transposed convolutions, else along the outputs; where both fit, the vectors tell.
    best: tuple[float, Tensor] | None = None
    for axis in (0, 1):
        if u.shape != weight.shape[axis : axis + 1]:
            continue
        matrix = weight.float().transpose(0, axis).flatten(1)
        right = functional.normalize(u.float() @ matrix, dim=0) if v is None else v.float()
        left = matrix @ right
        fit = float(functional.normalize(left, dim=0) @ u.float())
        if best is None or fit > best[0]:
            best = fit, u.float() @ left
    return None if best is None else weight.float() / best[1]


def _scaled(tensors: dict[str, Tensor], before: str) -> Tensor | None:
    """A direction with its length; None if the two do not fit."""
    length, direction = tensors.get(f"{before}weight_g"), tensors.get(f"{before}weight_v")
    if length is None or direction is None or length.is_complex() or direction.is_complex() or direction.dim() < 2:
        return None
    if length.dim() not in (0, direction.dim()):
        return None
    dims = [axis for axis in range(direction.dim()) if length.dim() == 0 or length.shape[axis] == 1]
    if any(length.shape[axis] not in (1, direction.shape[axis]) for axis in range(length.dim())):
        return None
    norm: Tensor = torch.linalg.vector_norm(direction.float(), dim=dims, keepdim=True)
    return direction.float() * (length.float() / norm)
