"""In which order the layers of a state dict are computed, where their names do not say it by numbers.

``torch.save`` keeps the order in which a module's layers were made, which mostly is that of computation; a safetensors file
keeps none.  A card's ``order`` says it; errors show one, with the order in which the shapes fit.
"""

import pathlib
import re
from collections.abc import Iterable, Sequence

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats._roles import is_embedding

MOST_TRIES = 5_000
MOST_NAMED = 64


def layer_names(tensors: Iterable[str]) -> list[str]:
    """Names of layers, in the order of the file."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))


def _stem(layer: str) -> str:
    """A layer's name without its numbers."""
    return re.sub(r"\d+", "#", layer)


def are_named(layers: Sequence[str]) -> bool:
    """Whether layers differ by more than numbers, so that nothing says which comes first."""
    return len({_stem(layer) for layer in layers}) > 1


def _is_plain(name: str, value: Tensor) -> bool:
    """Whether a tensor is one that linear layers, convolutions and batch norms have."""
    layer, _, leaf = name.rpartition(".")
    if leaf == "weight":
        return value.dim() in (1, 2, 4) and not is_embedding(layer)
    return leaf in ("bias", "running_mean", "running_var", "num_batches_tracked")


def check_alphabetical(tensors: dict[str, Tensor], where: str, which: str) -> None:
    """Refuse layers out of a file that keeps no order, where another order fits as well.

    Args:
        tensors: by name, in the order of the alphabet.
        where: names the file in the error.
        which: ``generator`` or ``critic``.

    Raises:
        SourceError: if two layers of the same shape have names that no number puts in order.
    """
    kinds: dict[tuple[int, ...], set[str]] = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and value.dim() > 1:
            kinds.setdefault(tuple(value.shape), set()).add(_stem(layer))
    for shape, stems in kinds.items():
        if len(stems) > 1:
            advice = order_advice(tensors, where, which)
            raise SourceError(
                f"{where}: {which}: several layers have the shape {shape}, and neither their names nor the file say which "
                f"comes first. {advice or ''}"
            )


def order_advice(tensors: dict[str, Tensor], where: str, which: str) -> str | None:
    """The source card that says the order of named layers, filled in as the shapes suggest.

    None if layers are numbered, or if one is no linear layer, convolution or norm, so that no order would help.

    Args:
        tensors: by name.
        where: the file, or its path.
        which: ``generator`` or ``critic``.
    """
    layers = layer_names(tensors)
    told = all(layer.rpartition(".")[2].isdecimal() for layer in layers) and not where.endswith(".safetensors")
    if (
        told
        or not are_named(layers)
        or len(layers) > MOST_NAMED
        or not all(_is_plain(name, value) for name, value in tensors.items())
    ):
        return None
    order = ", ".join(_suggested(tensors, layers, which))
    return (
        "Layers that have names and no numbers are read in the order of the file (safetensors files keep none but the "
        "alphabet's). If computation goes another way, say so in a source card, source.yaml beside the file; this one has the "
        f"order in which the shapes fit, so check it:\n"
        f"    regraft_card: 1\n    {which}:\n      file: {pathlib.Path(where).name}\n      order: [{order}]"
    )


def _suggested(tensors: dict[str, Tensor], layers: Sequence[str], which: str) -> list[str]:
    """Names of all layers in an order in which each takes what the one before gives, as far as there is one."""
    weights = {layer: tensors.get(f"{layer}.weight" if layer else "weight") for layer in layers}
    kernels = {layer: tuple(w.shape) for layer, w in weights.items() if w is not None and w.dim() in (2, 4)}
    norms = {layer: len(w) for layer, w in weights.items() if w is not None and w.dim() == 1}
    order: list[str] = []
    path = _path(kernels, linear_first=which == "generator") or list(kernels)
    for number, layer in enumerate(path):
        order.append(layer)
        following = kernels[path[number + 1]][:2] if number + 1 < len(path) else ()
        widths = {*kernels[layer][:2], *following}
        norm = next(
            (name for name, width in norms.items() if width in widths and _fits(width, kernels[layer], following)), None
        )
        if norm is not None:
            order.append(norm)
            del norms[norm]
    return [*order, *norms, *(layer for layer in layers if layer not in kernels and layer not in order and layer not in norms)]


def _fits(width: int, kernel: tuple[int, ...], following: tuple[int, ...]) -> bool:
    """Whether a norm of some width can stand between two layers."""
    given = {kernel[0]} if len(kernel) == 2 else set(kernel[:2])
    return bool(following) and width in following and (width in given or (len(kernel) == 2 and kernel[0] % width == 0))


def _path(kernels: dict[str, tuple[int, ...]], linear_first: bool) -> list[str] | None:
    """All layers in an order in which each takes what the one before gives; None if a bounded search finds none.

    Linear layers come before convolutions in a generator, after them in a critic.
    """
    tries = 0
    stack: list[tuple[list[str], int]] = []
    for layer, shape in reversed(kernels.items()):
        stack += [([layer], outputs) for outputs in ((shape[0],) if len(shape) == 2 else (shape[0], shape[1]))]
    while stack and tries < MOST_TRIES:
        tries += 1
        path, given = stack.pop()
        if len(path) == len(kernels):
            if given in (1, 3) or len(kernels[path[-1]]) == 2:
                return path
            continue
        flat = len(kernels[path[-1]]) == 2
        for layer, shape in reversed(kernels.items()):
            if (
                layer in path
                or (len(shape) == 2 and not flat and linear_first)
                or (len(shape) == 4 and flat and not linear_first)
            ):
                continue
            if len(shape) == 2:
                if shape[1] == given or (not flat and shape[1] % given == 0):
                    stack.append(([*path, layer], shape[0]))
                continue
            for inputs, outputs in ((shape[0], shape[1]), (shape[1], shape[0])):
                if inputs == given or (flat and given % inputs == 0 and outputs != given):
                    stack.append(([*path, layer], outputs))
    return None
