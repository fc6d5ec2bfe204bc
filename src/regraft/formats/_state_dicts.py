"""Finding the state dicts of a generator and a critic inside what ``torch.load`` or safetensors gave."""

import math
import pathlib
import re
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files.weights import read_safetensors

GENERATOR_KEYS = (
    "g_ema",
    "G_ema",
    "generator_ema",
    "generator",
    "netG",
    "G",
    "g",
    "gen",
    "generator_state_dict",
    "model_g",
)
CRITIC_KEYS = ("critic", "discriminator", "netD", "D", "d", "disc", "dis", "discriminator_state_dict", "model_d")
PLAIN_KEYS = ("state_dict", "model_state_dict", "model", "net", "params", "weights")


def is_state_dict(value: Any) -> bool:
    """Whether a value maps names to tensors and to nothing else."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def find(value: Any, keys: tuple[str, ...]) -> dict[str, Tensor] | None:
    """A state dict under one of several usual keys."""
    if not isinstance(value, dict):
        return None
    for key in keys:
        inner: Any = value.get(key)
        if is_state_dict(inner):
            return clean(inner)
    return None


def only(value: Any, where: str, key: str | None = None) -> dict[str, Tensor]:
    """The one state dict of a file, or the one under ``key``.

    Raises:
        SourceError: if there is none, or it is not clear which.
    """
    if key is not None:
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                have = ", ".join(map(str, list(value)[:8])) if isinstance(value, dict) else type(value).__name__
                raise SourceError(f"{where}: has no key {key}; there are: {have}")
            value = value[part]
    if is_state_dict(value):
        return clean(value)
    inner = find(value, PLAIN_KEYS)
    if inner is not None:
        return inner
    if isinstance(value, dict):
        candidates = [str(k) for k, v in value.items() if is_state_dict(v)]
        if len(candidates) == 1:
            return clean(value[candidates[0]])
        if candidates:
            raise SourceError(f"{where}: holds several state dicts ({', '.join(candidates)}); name one as key in a source card")
    raise SourceError(f"{where}: holds no state dict (names to tensors), but {_describe(value)}")


def clean(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop prefixes that wrappers add to every name, bake spectral norm, make floating tensors float32."""
    for prefix in ("module.", "_orig_mod.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    baked: dict[str, Tensor] = {}
    single: dict[int, Tensor] = {}  # a file may hold one tensor under many names
    for name, value in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if leaf in ("weight_u", "weight_v") and _normalised(tensors, stem):
            continue
        if leaf == "weight_orig" and _normalised(tensors, stem):
            u, v = tensors[f"{stem}.weight_u"].float(), tensors[f"{stem}.weight_v"].float()
            sigma = u @ (value.float().flatten(1) @ v)
            name, value = f"{stem}.weight", value.float() / sigma
        if value.is_floating_point() and value.dtype != torch.float32:
            if id(value) not in single:
                single[id(value)] = value.float()
            value = single[id(value)]
        baked[name] = value
    return baked


def _normalised(tensors: dict[str, Tensor], stem: str) -> bool:
    """Whether a layer has spectral normalisation whose vectors fit its weight."""
    weight, u, v = (tensors.get(f"{stem}.weight_{leaf}") for leaf in ("orig", "u", "v"))
    if weight is None or u is None or v is None or weight.dim() < 2 or weight.is_complex():
        return False
    return u.shape == weight.shape[:1] and v.shape == (math.prod(weight.shape[1:]),) and not (u.is_complex() or v.is_complex())


def refuse_complex(tensors: dict[str, Tensor], where: str) -> None:
    """Refuse numbers whose imaginary part would get lost.

    Raises:
        SourceError: naming the first such tensor.
    """
    for name, value in tensors.items():
        if value.is_complex():
            raise SourceError(f"{where}: {name} holds complex numbers, which no network here has")


def read_tensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        SourceError: if it is damaged.
    """
    tensors = read_safetensors(path)
    # The file keeps no order; numbers in names usually do.
    return {name: tensors[name] for name in sorted(tensors, key=_natural)}


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which layer 10 comes after layer 9."""
    return [(0, int(part)) if part.isdecimal() and len(part) < 10 else (1, part) for part in re.split(r"(\d+)", name) if part]


def pair_name(name: str) -> list[str]:
    """Names that the critic's file may have beside a generator's file ``name``."""
    swaps = [("netG", "netD"), ("Generator", "Discriminator"), ("generator", "discriminator"), ("_G", "_D")]
    swaps += [("G_", "D_"), ("gen", "disc"), ("gen", "critic"), ("generator", "critic"), ("-G", "-D")]
    found = [name.replace(a, b) for a, b in swaps if a in name]
    stem, dot, suffix = name.partition(".")
    if stem == "G":
        found.append(f"D{dot}{suffix}")
    return [n for n in dict.fromkeys(found) if n != name]


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        shown = ", ".join(f"{k}: {type(v).__name__}" for k, v in list(value.items())[:6])
        return f"a mapping with {shown}" if shown else "an empty mapping"
    return f"a {type(value).__name__}" + (f" {tuple(value.shape)}" if isinstance(value, torch.Tensor) else "")
