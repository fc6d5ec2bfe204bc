"""What the shapes of a bare state dict say about its layers, and a search for the strides and paddings that they leave open.

A state dict names no stride, padding or upsampling.  Each layer has a few usual settings; the search takes the cheapest
combination in which every layer fits the one before, the generator ends in an image, and the critic, fed that image, ends
in one number.
"""

import dataclasses
import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.formats._refusals import USUAL_SIDES, Shape, as_text, no_growth, no_image
from regraft.formats._roles import conditional, is_embedding

MOST_LAYERS = 64
MOST_STEPS = 20_000
"""Of one search over the settings of layers."""
MOST_CHAINS = 200
"""Of a generator's layers, the least unusual ones."""


@dataclasses.dataclass
class StoredLayer:
    """A layer as a file holds it: a weight with its bias and the batch norm that follows it.

    Attributes:
        prefix, norm_prefix: what the names of the layer's tensors and of its norm's begin with.
        norm: tensors of the norm by their last names, none if there is no norm.
    """

    prefix: str
    weight: Tensor
    bias: Tensor | None = None
    norm_prefix: str | None = None
    norm: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def is_linear(self) -> bool:
        """Whether it is a matrix rather than a kernel."""
        return self.weight.dim() == 2


@dataclasses.dataclass(frozen=True)
class Chain:
    """Layers found for one network, with the shapes between them and how unusual they are."""

    layers: tuple[dict[str, Any], ...]
    shapes: tuple[Shape, ...]
    cost: float

    @property
    def path(self) -> str:
        """Shapes as text, for the notes on what was assumed."""
        return as_text(self.shapes)


def joined(prefix: str, leaf: str) -> str:
    """Name of a layer's tensor; a network that is one layer has no prefix."""
    return f"{prefix}.{leaf}" if prefix else leaf


def in_card_order(tensors: dict[str, Tensor], order: Sequence[str], where: str) -> dict[str, Tensor]:
    """Tensors in the order of computation that a card gives as names of layers.

    Raises:
        SourceError: if a name fits no tensor, or tensors are left over.
    """
    if not order:
        return tensors
    in_order: dict[str, Tensor] = {}
    for layer in order:
        of_layer = {name: value for name, value in tensors.items() if name.rpartition(".")[0] == layer}
        if not of_layer:
            layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
            raise SourceError(f"{where}: order names {layer}, and there is no such layer; there are: {layers}")
        in_order |= of_layer
    rest = [name for name in tensors if name not in in_order]
    if rest:
        raise SourceError(f"{where}: order leaves out {rest[0].rpartition('.')[0]}; name every layer")
    return in_order


def stored_layers(tensors: dict[str, Tensor], where: str) -> list[StoredLayer]:
    """Group tensors into weights, each with its bias and norm, in the order of the file.

    Raises:
        SourceError: naming a tensor that belongs to no linear layer, convolution or batch norm.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        prefix, _, leaf = name.rpartition(".")
        groups.setdefault(prefix, {})[leaf] = value
    layers: list[StoredLayer] = []
    for prefix, group in groups.items():
        weight = group.get("weight")
        _check_vectors(prefix, group, where)
        if weight is not None and weight.dim() == 2 and "bias" not in group and is_embedding(prefix):
            raise SourceError(conditional(where, joined(prefix, "weight"), tuple(weight.shape)))
        if weight is not None and weight.dim() in (2, 4):
            unknown = set(group) - {"weight", "bias"}
            if unknown:
                raise SourceError(f"{where}: {joined(prefix, sorted(unknown)[0])} belongs to no layer that regraft reads")
            layers.append(StoredLayer(prefix, weight, group.get("bias")))
        elif "running_mean" in group and "running_var" in group and layers and not layers[-1].norm:
            layers[-1].norm_prefix, layers[-1].norm = prefix, group
        else:
            some = joined(prefix, next(iter(group)))
            raise SourceError(
                f"{where}: {some} {tuple(next(iter(group.values())).shape)} is part of no linear layer, convolution or batch "
                "norm (with running statistics); build the network in Python and hand it over as regraft.GAN(generator=...)"
            )
    if not layers:
        raise SourceError(f"{where}: holds no weights")
    if len(layers) > MOST_LAYERS:
        raise SourceError(f"{where}: {len(layers)} layers; a home-made GAN of at most {MOST_LAYERS} is read")
    return layers


def _check_vectors(prefix: str, group: dict[str, Tensor], where: str) -> None:
    """Refuse empty tensors, and biases and statistics that are no vectors of one length."""
    vectors = {
        k: v for k, v in group.items() if k in ("bias", "running_mean", "running_var") or (k == "weight" and v.dim() < 2)
    }
    lengths = {tuple(v.shape) for v in vectors.values()}
    odd = [k for k, v in group.items() if v.numel() == 0] or [k for k, v in vectors.items() if v.dim() != 1]
    if odd or len(lengths) > 1:
        name = odd[0] if odd else next(iter(vectors))
        raise SourceError(f"{where}: {joined(prefix, name)} has shape {tuple(group[name].shape)}, which fits no layer")


def generator_chains(
    stored: Sequence[StoredLayer], settings: Sequence[dict[str, Any]], size: tuple[int, int] | None, refused: dict[str, str]
) -> Iterator[Chain]:
    """Ways to read parts as a generator, cheapest first.

    Args:
        stored: the layers.
        settings: keys of single layers that a card fixes.
        size: height and width of the image, where a card says them.
        refused: gets the shapes of those that no generator has, and what is wrong with each.
    """
    first = stored[0].weight
    latent = first.shape[1] if stored[0].is_linear else first.shape[0]

    stated = bool(settings) or size is not None

    def allowed(shapes: tuple[Shape, ...], wrong: Callable[[Sequence[Shape], bool], str | None] = no_growth) -> bool:
        problem = wrong(shapes, stated)
        if problem is not None and len(refused) < MOST_LAYERS:
            refused[as_text(shapes)] = problem
        return problem is None

    chains = _search(stored, settings, (latent,), _generator_options, itertools.count(), allowed)
    for chain in itertools.islice(chains, MOST_CHAINS):
        shape = chain.shapes[-1]
        if len(shape) == 3 and shape[0] in (1, 3) and allowed(chain.shapes, no_image):
            unusual = 0.0 if shape[1] == shape[2] else 1.0
            yield dataclasses.replace(chain, cost=chain.cost + unusual + USUAL_SIDES.get(shape[1], 2.0))


def critic_chains(
    stored: Sequence[StoredLayer], settings: Sequence[dict[str, Any]], image: Shape, steps: Iterator[int]
) -> Iterator[Chain]:
    """Ways to read parts as a critic of images of shape ``image``, cheapest first; takes as many ``steps`` as it needs."""
    for chain in _search(stored, settings, image, _critic_options, steps, lambda shapes: True):
        if math.prod(chain.shapes[-1]) == 1:
            yield chain


Options = Callable[[Sequence[StoredLayer], int, Shape, dict[str, Any]], Iterator[tuple[float, dict[str, Any]]]]
"""Ways to set a layer, with how unusual each is; from all layers, its number, its input's shape and what a card fixes."""


def _search(
    stored: Sequence[StoredLayer],
    settings: Sequence[dict[str, Any]],
    start: Shape,
    options: Options,
    steps: Iterator[int],
    allowed: Callable[[tuple[Shape, ...]], bool],
) -> Iterator[Chain]:
    """Ways to set the layers one after another, cheapest first, until there are no more or ``steps`` or ``MOST_STEPS`` end."""
    count = itertools.count()
    heap: list[tuple[float, int, tuple[dict[str, Any], ...], tuple[Shape, ...]]] = [(0.0, next(count), (), (start,))]
    for _ in itertools.islice(steps, MOST_STEPS):
        if not heap:
            return
        cost, _, layers, shapes = heapq.heappop(heap)
        if len(layers) == len(stored):
            yield Chain(layers, shapes, cost)
            continue
        index = len(layers)
        fixed = settings[index] if index < len(settings) else {}
        for extra, layer in options(stored, index, shapes[-1], fixed):
            shape = _output_shape(layer, shapes[-1])
            if shape is not None and allowed((*shapes, shape)):
                heapq.heappush(heap, (cost + extra, next(count), (*layers, layer), (*shapes, shape)))


def _output_shape(layer: dict[str, Any], shape: Shape) -> Shape | None:
    """Shape of a layer's output; None if it would be empty or larger than 4096 on a side."""
    if layer["kind"] == "linear":
        return layer.get("view") or (layer["outputs"],)
    sides = []
    for axis, side in enumerate(shape[1:] or (1, 1)):
        n = side * layer["upsample"]
        kernel, stride, padding = layer["kernel"][axis], layer["stride"][axis], layer["padding"][axis]
        if layer["kind"] == "deconv":
            sides.append((n - 1) * stride - 2 * padding + kernel + layer["output_padding"][axis])
        else:
            sides.append((n + 2 * padding - kernel) // stride + 1)
    return (layer["outputs"], *sides) if min(sides) > 0 and max(sides) <= 4096 else None


def _linear(part: StoredLayer, view: Shape | None = None) -> dict[str, Any]:
    outputs, inputs = part.weight.shape
    layer = {"kind": "linear", "inputs": inputs, "outputs": outputs, "bias": part.bias is not None}
    return layer | {"view": view} if view else layer


def _generator_options(
    stored: Sequence[StoredLayer], index: int, shape: Shape, fixed: dict[str, Any]
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Ways to set a generator's layer; see ``Options``."""
    part = stored[index]
    following = stored[index + 1] if index + 1 < len(stored) else None
    if part.is_linear:
        if part.weight.shape[1] != math.prod(shape):
            return
        if fixed.get("view"):
            yield 0.0, _linear(part, tuple(fixed["view"]))
        elif following is not None and following.is_linear:
            yield 0.0, _linear(part)
        else:
            for cost, view in _views(part.weight.shape[0], following):
                yield cost, _linear(part, view)
        return
    last = following is None
    for kind, extra in _kinds(part, shape[0], last):
        kernel = (part.weight.shape[2], part.weight.shape[3])
        spatial = len(shape) == 3 and max(shape[1:]) > 1
        for cost, setting in _usual(kind, kernel, spatial, last, _outputs(part, kind)):
            if all(_pair(fixed[k]) == setting[k] for k in ("stride", "padding", "output_padding") if k in fixed) and (
                fixed.get("upsample", setting["upsample"]) == setting["upsample"]
            ):
                yield cost + extra, _convolution(part, kind, setting)
        if "stride" in fixed or "padding" in fixed:
            yield 3.0 + extra, _convolution(part, kind, _explicit(fixed))


def _critic_options(
    stored: Sequence[StoredLayer], index: int, shape: Shape, fixed: dict[str, Any]
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Ways to set a critic's layer; see ``Options``."""
    part = stored[index]
    if part.is_linear:
        if part.weight.shape[1] == math.prod(shape):
            yield 0.0, _linear(part)
        return
    if len(shape) != 3 or part.weight.shape[1] != shape[0]:
        return
    if "stride" in fixed or "padding" in fixed:
        yield 0.0, _convolution(part, "conv", _explicit(fixed))
        return
    kernel = (part.weight.shape[2], part.weight.shape[3])
    covers = (kernel[0], kernel[1]) == shape[1:]
    if covers:
        yield 0.0, _convolution(part, "conv", _setting(1, 0))
    table: dict[int, list[tuple[float, int, int]]] = {
        4: [(0, 2, 1), (2, 2, 0), (2, 1, 1), (2, 1, 0)],
        3: [(0, 2, 1), (0.5, 1, 1), (2, 1, 0)],
        1: [(0, 1, 0)],
    }
    table |= {5: [(0, 2, 2), (1, 1, 2), (2, 2, 1), (2, 1, 0)], 2: [(0, 2, 0)], 7: [(0, 1, 3), (1, 2, 3)]}
    for cost, stride, padding in table.get(kernel[0], [(1, 1, 0)]):
        yield cost + (1.0 if covers else 0.0), _convolution(part, "conv", _setting(stride, padding))


def _views(outputs: int, following: StoredLayer | None) -> Iterator[tuple[float, Shape]]:
    """Maps that a vector of ``outputs`` numbers can be viewed as, for the layer that follows or as an image."""
    widths = (1, 3) if following is None else dict.fromkeys(following.weight.shape[:2])
    for cost, channels in enumerate(widths):
        side = math.isqrt(outputs // channels)
        if channels * side * side == outputs and side > 0:
            yield 0.5 * cost, (channels, side, side)


def _kinds(part: StoredLayer, channels: int, last: bool) -> Iterator[tuple[str, float]]:
    """Whether a kernel is a transposed convolution [in, out, ...] or a plain one [out, in, ...]."""
    even = part.weight.shape[2] % 2 == 0
    for kind, inputs in (("deconv", part.weight.shape[0]), ("conv", part.weight.shape[1])):
        outputs = _outputs(part, kind)
        follow = [t.shape[0] for t in (part.bias, part.norm.get("running_mean")) if t is not None]
        if inputs == channels and all(n == outputs for n in follow) and (not last or outputs in (1, 3)):
            yield kind, 0.0 if (kind == "deconv") == even else 0.25


def _outputs(part: StoredLayer, kind: str) -> int:
    """Output channels of a kernel."""
    return part.weight.shape[1] if kind == "deconv" else part.weight.shape[0]


def _usual(kind: str, kernel: Shape, spatial: bool, last: bool, outputs: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """Usual settings of a generator's convolution, with how unusual they are."""
    k = kernel[0]
    if not spatial and k > 1:
        yield 0.0, _setting(1, 0)
        return
    if kind == "conv":
        yield 0.0, _setting(1, k // 2)
        if k > 1:
            yield 0.5, _setting(1, k // 2, upsample=2)
        return
    if k == 1:
        # csinva's MNIST generator crops 32 to 28 by a last 1x1 layer of padding 2; its colour twin does not.
        crop = 0.0 if last and outputs == 1 else 1.0
        yield crop, _setting(1, 2)
        yield 0.5, _setting(1, 0)
        return
    table: dict[int, list[tuple[float, int, int, int]]] = {
        4: [(0, 2, 1, 0), (2, 1, 0, 0), (2, 2, 2, 0)],
        3: [(0, 2, 1, 0), (0.5, 2, 1, 1), (0.5, 1, 1, 0), (2, 1, 0, 0)],
    }
    table |= {5: [(0, 2, 2, 1), (1, 2, 2, 0), (1, 1, 2, 0)], 2: [(0, 2, 0, 0)], 6: [(0, 2, 2, 0)], 8: [(0, 4, 2, 0)]}
    for cost, stride, padding, extra in table.get(k, [(1, 1, 0, 0)]):
        yield cost, _setting(stride, padding, extra)


def _setting(stride: int, padding: int, output_padding: int = 0, upsample: int = 1) -> dict[str, Any]:
    """Settings of a convolution that are the same along both axes."""
    return {
        "stride": (stride, stride),
        "padding": (padding, padding),
        "output_padding": (output_padding, output_padding),
        "upsample": upsample,
    }


def _explicit(fixed: dict[str, Any]) -> dict[str, Any]:
    """Settings of a convolution for which a card states stride or padding."""
    return {
        "stride": _pair(fixed.get("stride", 1)),
        "padding": _pair(fixed.get("padding", 0)),
        "output_padding": _pair(fixed.get("output_padding", 0)),
        "upsample": fixed.get("upsample", 1),
    }


def _pair(value: int | Sequence[int]) -> Shape:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _convolution(part: StoredLayer, kind: str, setting: dict[str, Any]) -> dict[str, Any]:
    a, b = part.weight.shape[:2]
    inputs, outputs = (a, b) if kind == "deconv" else (b, a)
    kernel = (part.weight.shape[2], part.weight.shape[3])
    return {
        "kind": kind,
        "inputs": inputs,
        "outputs": outputs,
        "kernel": kernel,
        "bias": part.bias is not None,
        **setting,
    }
