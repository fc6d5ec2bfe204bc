"""Bare state dicts of home-made DCGANs and MLP GANs: from tensors and a card to networks that regraft can build."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.networks import Description
from regraft.formats._hints import LatentHints, NetworkHints
from regraft.formats._order import order_advice
from regraft.formats._roles import branches
from regraft.formats._shapes import Chain, StoredLayer, critic_chains, generator_chains, in_card_order, joined, stored_layers
from regraft.formats._statistics import assumed, fit_to_statistics
from regraft.formats._tensor_reader import TensorReader
from regraft.formats.base import Network


@dataclasses.dataclass(frozen=True)
class InferredPair:
    """Networks inferred from tensors; ``assumptions`` says what was inferred or assumed, one sentence each."""

    generator: Network
    critic: Network | None
    assumptions: tuple[str, ...]


X_MEANS = "channels x height x width"
CRITIC_STEPS = 60_000
"""Steps of the search for a critic's layers over all images; real pairs take a few hundred."""


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
        advice = _advice(generator, critic, where, generator_hints, critic_hints)
        raise SourceError(f"{error}\n{advice}" if advice else str(error)) from None
    notes = [
        f"The layers of the generator are inferred from the shapes of its weights: {g_chain.path} (channels x height x width)."
    ]
    if d_chain is not None:
        notes.append(
            f"The layers of the critic are inferred in the same way: {d_chain.path}. Its score is taken before any sigmoid."
        )
    g_config, g_notes = _generator_config(g_stored, g_chain, generator_hints, latent, image_range)
    kind = "mlp" if all(p.is_linear for p in g_stored) else "dcgan"
    g_network = _network(g_stored, generator, f"{where}: generator", Description(kind, "generator", g_config))
    g_network, fitted = fit_to_statistics(g_network, where, generator_hints, latent)
    notes += fitted or g_notes
    d_network = None
    if critic is not None and d_stored is not None and d_chain is not None:
        d_config = _critic_config(d_stored, d_chain, critic_hints, image_range)
        d_network = _network(d_stored, critic, f"{where}: critic", Description(kind, "critic", d_config))
        if critic_hints.activation is None:
            notes.append("The critic's hidden layers are assumed to be followed by leaky_relu with slope 0.2.")
    if any("assumed" in note or "inferred" in note for note in notes):
        notes.append("If any of this is wrong, a source card can say what is right (docs/source-cards.md).")
    return InferredPair(g_network, d_network, tuple(notes))


def _advice(
    generator: dict[str, Tensor],
    critic: dict[str, Tensor] | None,
    where: str,
    generator_hints: NetworkHints,
    critic_hints: NetworkHints,
) -> str | None:
    """The order that a card could say of the network that cannot be read; None if no order would help."""
    try:
        _cheapest_pair(stored_layers(generator, where), None, where, generator_hints, critic_hints, None)
    except SourceError:
        return None if generator_hints.order else order_advice(generator, generator_hints.file or where, "generator")
    if critic is None or critic_hints.order:
        return None
    return order_advice(critic, critic_hints.file or where, "critic")


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
    for g_chain in generator_chains(g_stored, _fixed_settings(g_hints), size, refused):
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
    distribution = latent.distribution or "normal"
    notes = assumed(hints, latent, hidden, output, distribution)
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


def _network(stored: Sequence[StoredLayer], tensors: dict[str, Tensor], where: str, description: Description) -> Network:
    """Make a network of tensors, moved to the names of the layered backbones.

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
    return Network(description, reader.finish(), reader.file_names)
