"""Bare state dicts of home-made DCGANs and MLP GANs: from tensors and a card to networks that regraft can build."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.core.build import build, build_with
from regraft.core.config import Config
from regraft.core.errors import SourceError
from regraft.core.networks import Description, Generator
from regraft.core.randomness import generator_at
from regraft.formats._order import order_advice
from regraft.formats._roles import branches
from regraft.formats._shapes import Chain, StoredLayer, critic_chains, generator_chains, in_card_order, joined, stored_layers
from regraft.formats._tensor_reader import TensorReader
from regraft.formats.base import Network

Activation = Literal["none", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
Side = Annotated[int, Field(ge=1, le=4096)]


class LayerHints(Config):
    """What a card may say of one layer; anything left out is inferred."""

    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] | None = None
    output_padding: int | tuple[int, int] | None = None
    upsample: int | None = None
    view: tuple[int, int, int] | None = None
    activation: Activation | None = None


class NetworkHints(Config):
    """What a card may say of a generator's or critic's file."""

    file: Annotated[str | None, Field(description="Weights, relative to the card.")] = None
    key: Annotated[str | None, Field(description="Key of the state dict inside the file, where it holds several.")] = None
    prefix: Annotated[
        str | None, Field(description="What the network's names begin with, where one state dict holds several networks.")
    ] = None
    activation: Annotated[Activation | None, Field(description="After every hidden layer.")] = None
    slope: Annotated[float | None, Field(description="Of leaky_relu.")] = None
    output: Annotated[Literal["tanh", "sigmoid", "none"] | None, Field(description="After a generator's last layer.")] = None
    norm_eps: Annotated[float, Field(gt=0, description="Of every batch norm.")] = 1e-5
    order: Annotated[
        tuple[str, ...], Field(description="Names of the layers in the order of computation, where the file's is another.")
    ] = ()
    layers: Annotated[tuple[LayerHints, ...], Field(description="One entry per weight, in order.")] = ()


class LatentHints(Config):
    """What a card may say of the latent."""

    distribution: Literal["normal", "truncated_normal", "uniform", "sphere"] | None = None
    bound: Annotated[float, Field(gt=0)] = 1.0


@dataclasses.dataclass(frozen=True)
class InferredPair:
    """Networks inferred from tensors; ``assumptions`` says what was inferred or assumed, one sentence each."""

    generator: Network
    critic: Network | None
    assumptions: tuple[str, ...]


CRITIC_STEPS = 60_000
"""Steps of the search for a critic's layers over all images; real pairs take a few hundred."""
LARGEST_MAP = 1 << 22
"""Values of the largest map for which stored statistics are compared with fresh ones, and a share of what a batch may have."""


def infer_pair(
    generator: dict[str, Tensor],
    critic: dict[str, Tensor] | None,
    where: str,
    *,
    generator_hints: NetworkHints,
    critic_hints: NetworkHints,
    latent: LatentHints,
    size: tuple[int, int] | None = None,
    image_range: Literal["signed", "unit"] = "signed",
) -> InferredPair:
    """Infer the layers of a generator and, if there is one, its critic.

    Args:
        generator: tensors in the order of the file.
        critic: same, or None.
        where: names the origin in errors.
        generator_hints, critic_hints, latent: what a card says.
        size: height and width, where a card says them.
        image_range: whether the files work on [-1, 1] or [0, 1].

    Raises:
        SourceError: if no usual combination of strides and paddings makes the layers fit.
    """
    generator = in_card_order(generator, generator_hints.order, where)
    critic = in_card_order(critic, critic_hints.order, where) if critic is not None else None
    try:
        g_stored = stored_layers(generator, f"{where}: generator")
        d_stored = stored_layers(critic, f"{where}: critic") if critic is not None else None
        g_chain, d_chain = _cheapest_pair(g_stored, d_stored, where, generator_hints, critic_hints, size)
    except SourceError as error:
        advice = None if generator_hints.order else order_advice(generator, where, "generator")
        raise SourceError(f"{error}\n{advice}" if advice else str(error)) from None
    notes = [f"generator read from shapes as {g_chain.path}"]
    if d_chain is not None:
        notes.append(f"critic read from shapes as {d_chain.path}, its score taken before any sigmoid")
    g_config, g_notes = _generator_config(g_stored, g_chain, generator_hints, latent, image_range)
    kind = "mlp" if all(p.is_linear for p in g_stored) else "dcgan"
    g_tensors = _tensors(g_stored, generator, f"{where}: generator")
    g_network = Network(Description(kind, "generator", g_config), g_tensors)
    g_network, fitted = _fit_to_statistics(g_network, where, generator_hints, latent)
    notes += fitted or g_notes
    d_network = None
    if critic is not None and d_stored is not None and d_chain is not None:
        d_config = _critic_config(d_stored, d_chain, critic_hints, image_range)
        d_network = Network(Description(kind, "critic", d_config), _tensors(d_stored, critic, f"{where}: critic"))
        if critic_hints.activation is None:
            notes.append("critic activations assumed to be leaky_relu 0.2")
    return InferredPair(g_network, d_network, tuple(notes))


def _cheapest_pair(
    g_stored: list[StoredLayer],
    d_stored: list[StoredLayer] | None,
    where: str,
    g_hints: NetworkHints,
    d_hints: NetworkHints,
    size: tuple[int, int] | None,
) -> tuple[Chain, Chain | None]:
    """The least unusual layers of generator and critic that agree on the image.

    Raises:
        SourceError: if there are none.
    """
    best: tuple[float, Chain, Chain | None] | None = None
    tried: set[tuple[int, ...]] = set()
    steps = iter(range(CRITIC_STEPS))
    refused: dict[str, str] = {}
    for g_chain in itertools.islice(generator_chains(g_stored, _fixed_settings(g_hints), size, refused), 200):
        image = g_chain.shapes[-1]
        if size is not None and image[1:] != size:
            tried.add(image)
            continue
        if image in tried:  # a cheaper chain ends in the same image, with the same critic or none
            continue
        tried.add(image)
        d_chain = None
        if d_stored is not None:
            d_chain = next(critic_chains(d_stored, _fixed_settings(d_hints), image, steps), None)
            if d_chain is None:
                continue
        cost = g_chain.cost + (d_chain.cost if d_chain else 0.0)
        if best is None or cost < best[0]:
            best = (cost, g_chain, d_chain)
    if best is None:
        raise SourceError(_no_pair(g_stored, d_stored is not None, where, tried, refused))
    return best[1], best[2]


def _no_pair(
    stored: Sequence[StoredLayer], with_critic: bool, where: str, tried: set[tuple[int, ...]], refused: dict[str, str]
) -> str:
    """Say why layers are no generator, or no generator and critic of the same images, and what to do."""
    sizes = ", ".join("x".join(map(str, image)) for image in sorted(tried)[:12]) or "none"
    sizes += f" and {len(tried) - 12} more" if len(tried) > 12 else ""
    networks = f"a generator{' and a critic of its images' if with_critic else ''}"
    problem = f"no usual strides and paddings make these layers {networks} (images tried: {sizes})"
    if refused and not tried:
        path, wrong = next(iter(refused.items()))
        problem = f"these layers are no generator: in a row they would make {path}, which {wrong}"
    first, name = stored[0].weight, joined(stored[0].prefix, "weight")
    if first.dim() == 4 and first.shape[1] in (1, 3) and first.shape[0] > first.shape[1]:
        problem += (
            f". The first layer, {name}, takes {first.shape[1]} channels, as an image has, and no latent: this may be a "
            "critic, or translate images into images (CycleGAN, pix2pix)"
        )
    several, prefixes = "", branches(joined(part.prefix, "weight") for part in stored)
    if 1 < len(prefixes) < len(stored):
        several = (
            " If the file holds several networks, name one in a source card by what its names begin with: generator: "
            f"{{file: {pathlib.Path(where).name}, prefix: {prefixes[0]}}}; there are: {', '.join(prefixes[:8])}."
        )
    return (
        f"{where}: {problem}. If this is a critic, a classifier or an encoder, name the generator's file instead; else state "
        "them in a source card (generator: {layers: [{stride: 2, padding: 1}, ...]}), or build the networks in Python and hand "
        f"them over as regraft.GAN(generator=..., critic=..., latent=...).{several}"
    )


def _fixed_settings(hints: NetworkHints) -> list[dict[str, Any]]:
    """What a card says of each layer but its activation."""
    return [layer.model_dump(exclude_none=True, exclude={"activation"}) for layer in hints.layers]


def _generator_config(
    stored: Sequence[StoredLayer], chain: Chain, hints: NetworkHints, latent: LatentHints, image_range: str
) -> tuple[dict[str, Any], list[str]]:
    """Settings of a generator, and what had to be assumed."""
    hidden = hints.activation or "relu"
    output = hints.output or ("tanh" if image_range == "signed" else "sigmoid")
    notes = [f"hidden activations assumed to be {hidden}"] if hints.activation is None else []
    if hints.output is None:
        notes.append(f"output assumed to be {output}")
    distribution = latent.distribution or "normal"
    if latent.distribution is None:
        notes.append(f"latent assumed to be {distribution}")
    layers = _with_activations(stored, chain, hints, hidden, output)
    return {
        "latent": {"dim": math.prod(chain.shapes[0]), "distribution": distribution, "bound": latent.bound},
        "layers": layers,
        "image_range": image_range,
    }, notes


def _critic_config(stored: Sequence[StoredLayer], chain: Chain, hints: NetworkHints, image_range: str) -> dict[str, Any]:
    """Settings of a critic."""
    channels, *size = chain.shapes[0]
    layers = _with_activations(stored, chain, hints, hints.activation or "leaky_relu", "none")
    return {"channels": channels, "size": size, "layers": layers, "image_range": image_range}


def _with_activations(
    stored: Sequence[StoredLayer], chain: Chain, hints: NetworkHints, hidden: str, output: str
) -> list[dict[str, Any]]:
    """Settings of all layers, with their norms and activations."""
    layers = []
    for index, (part, layer) in enumerate(zip(stored, chain.layers, strict=True)):
        last = index == len(stored) - 1
        stated = hints.layers[index].activation if index < len(hints.layers) else None
        extra: dict[str, Any] = {"activation": stated or (output if last else hidden), "norm_eps": hints.norm_eps}
        if hints.slope is not None:
            extra["slope"] = hints.slope
        if part.norm:
            extra["norm"] = "batch"
            channels = part.norm["running_mean"].shape[0]
            maps = layer["view"][0] if layer.get("view") else layer["outputs"]
            if channels != maps and channels == layer["outputs"]:
                raise SourceError(
                    f"{part.norm_prefix} normalises {channels} numbers before they are viewed as maps, which regraft's layers "
                    "do not do; build the network in Python and hand it over as regraft.GAN(generator=...)"
                )
        layers.append(layer | extra)
    return layers


def _tensors(stored: Sequence[StoredLayer], tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Move tensors to the names of the layered backbones.

    A batch norm may lack gain, shift and counter; it then has those of a fresh one.

    Raises:
        SourceError: if one is left over.
    """
    reader = TensorReader(tensors, where)
    for index, part in enumerate(stored):
        reader.move(joined(part.prefix, "weight"), f"layers.{index}.weights.weight")
        if part.bias is not None:
            reader.move(joined(part.prefix, "bias"), f"layers.{index}.weights.bias")
        if part.norm_prefix is None:
            continue
        for leaf in part.norm:
            reader.move(joined(part.norm_prefix, leaf), f"layers.{index}.norm.{leaf}")
        mean = part.norm["running_mean"]
        fresh = {"weight": torch.ones_like(mean), "bias": torch.zeros_like(mean), "num_batches_tracked": torch.tensor(0)}
        for leaf, value in fresh.items():
            if leaf not in part.norm:
                reader.put(f"layers.{index}.norm.{leaf}", value)
    return reader.finish()


UNTRUSTED_GAP = 0.8
"""Trained networks reproduce their own statistics to 0.03-0.55 (measured on four public pairs); random ones miss by over 1."""


def _fit_to_statistics(network: Network, where: str, hints: NetworkHints, latent: LatentHints) -> tuple[Network, list[str]]:
    """Choose latent distribution and activation by what the stored batch statistics say.

    A batch norm's running mean and variance were measured in training, downstream of the true latent and activations; the
    candidate under which a fresh batch reproduces them is the one the network was trained with.
    """
    layers = network.description.config["layers"]
    if not any(layer.get("norm") == "batch" for layer in layers):
        return network, []
    distributions = [latent.distribution] if latent.distribution else ["normal", "uniform"]
    activations: list[tuple[str, float]] = [("relu", 0.2), ("leaky_relu", 0.2), ("leaky_relu", 0.01), ("elu", 0.2)]
    if hints.activation:
        activations = [(hints.activation, hints.slope if hints.slope is not None else 0.2)]
    if len(distributions) * len(activations) == 1:
        return network, []
    largest = _largest_map(network)
    if largest > LARGEST_MAP:
        return network, []
    batch = max(4, min(256, 4 * LARGEST_MAP // largest))
    gaps = []
    for distribution in distributions:
        for activation, slope in activations:
            candidate = _variant(network, distribution, activation, slope, hints)
            gaps.append((_statistics_gap(candidate, where, batch), distribution, activation, slope, candidate))
    # Among candidates that fit about equally well (relu and leaky_relu 0.01, say) the first, more usual one is taken.
    least = min(row[0] for row in gaps)
    if not least <= UNTRUSTED_GAP:  # never updated, or from other layers than these: they say nothing
        _, distribution, activation, _, chosen = gaps[0]
        unfit = f"the stored batch statistics fit no usual network (gap {least:.2f}), so they say nothing"
        return chosen, [f"{unfit}; hidden activations assumed to be {activation}, latent {distribution}"]
    gap, distribution, activation, slope, chosen = next(row for row in gaps if row[0] <= least * 1.15 + 0.01)
    gaps.sort(key=lambda row: row[0])
    notes = []
    if not hints.activation:
        other = next(row for row in gaps if (row[2], row[3]) != (activation, slope))
        shown = f"{activation} {slope}" if activation == "leaky_relu" else activation
        notes.append(f"hidden activations {shown}: fits the stored batch statistics best (gap {gap:.2f}, next {other[0]:.2f})")
    if latent.distribution is None:
        other = next(row for row in gaps if row[1] != distribution)
        notes.append(f"latent {distribution}: fits the stored batch statistics best (gap {gap:.2f}, next {other[0]:.2f})")
    if hints.output is None:
        notes.append(f"output assumed to be {chosen.description.config['layers'][-1]['activation']}")
    return chosen, notes


def _variant(network: Network, distribution: str, activation: str, slope: float, hints: NetworkHints) -> Network:
    """The network with another latent and, where no card says it, another activation after hidden layers."""
    config = dict(network.description.config)
    config["latent"] = config["latent"] | {"distribution": distribution}
    layers = []
    for index, layer in enumerate(config["layers"]):
        stated = hints.layers[index].activation if index < len(hints.layers) else None
        last = index == len(config["layers"]) - 1
        layers.append(layer if last or stated else layer | {"activation": activation, "slope": slope})
    config["layers"] = layers
    return Network(dataclasses.replace(network.description, config=config), network.tensors)


def _largest_map(network: Network) -> int:
    """Values of the largest map that one image needs."""
    with torch.device("meta"):
        generator: Any = build(network.description)
    shape: tuple[int, ...] = (generator.config.latent.dim,)
    largest = 1
    for layer in generator.config.layers:
        shape = layer.output_shape(shape)
        # Nearest upsampling makes the input of a layer larger before the layer makes it smaller.
        largest = max(largest, math.prod(shape))
    return largest


@torch.no_grad()
def _statistics_gap(network: Network, where: str, batch: int) -> float:
    """Mean distance of a fresh batch's statistics from the stored ones, in stored standard deviations and log variances."""
    generator = cast(Generator, build_with(network.description, network.tensors, where))
    gaps: list[float] = []

    def compare(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)
        variance = norm.get_buffer("running_var").clamp_min(1e-6)
        shift = (x.mean(1) - norm.get_buffer("running_mean")).abs() / variance.sqrt()
        spread = (x.var(1).clamp_min(1e-6) / variance).log().abs()
        gaps.append(float(shift.mean() + spread.mean()))

    hooks = [norm.register_forward_pre_hook(compare) for norm in generator.norms]
    generator(generator.latent.sample(batch, generator_at(0, "batch statistics")))
    for hook in hooks:
        hook.remove()
    return sum(gaps) / len(gaps)
