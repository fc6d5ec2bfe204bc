"""Which activation and latent a generator was trained with: those that give the statistics that its batch norms stored."""

import dataclasses
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from regraft.core.build import build, build_with
from regraft.core.networks import Generator
from regraft.core.randomness import generator_at
from regraft.formats._hints import LatentHints, NetworkHints
from regraft.formats.base import Network

LARGEST_MAP = 1 << 22
"""Values of the largest map for which stored statistics are compared with fresh ones, and a share of what a batch may have."""
UNSAID = "nothing in the file says it"
AGREES = "because a fresh batch then has about the means and variances that the batch norms stored in training"
IN_WORDS = {
    "normal": "normal (each number of mean 0 and variance 1)",
    "uniform": "uniform (each number between -1 and 1)",
    "truncated_normal": "normal, cut off at its bound",
    "sphere": "uniform on a sphere",
}


def _in_words(activation: str, slope: float) -> str:
    return f"{activation} of slope {slope}" if activation == "leaky_relu" else activation


def assumed(hints: NetworkHints, latent: LatentHints, hidden: str, output: str, distribution: str) -> list[str]:
    """Say what is assumed of a generator, where a card does not say it: activations, output, latent; one sentence each."""
    notes = []
    if hints.activation is None:
        notes.append(f"The generator's hidden layers are assumed to be followed by {hidden}: {UNSAID}.")
    if hints.output is None:
        notes.append(_assumed_output(output))
    if latent.distribution is None:
        notes.append(f"The latent is assumed to be {IN_WORDS[distribution]}: {UNSAID}.")
    return notes


def _assumed_output(output: str) -> str:
    ends = {"tanh": "so that images lie between -1 and 1", "sigmoid": "so that images lie between 0 and 1"}
    means = ends.get(output, "so that any value is possible")
    return f"The generator's last layer is assumed to be followed by {output}, {means}."


UNTRUSTED_GAP = 0.8
"""Trained networks reproduce their own statistics to 0.03-0.55 (measured on four public pairs); random ones miss by over 1."""


def fit_to_statistics(network: Network, where: str, hints: NetworkHints, latent: LatentHints) -> tuple[Network, list[str]]:
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
        notes = [
            "The means and variances that the batch norms stored in training fit no usual activation and latent (distance "
            f"{least:.2f}, of trained networks below {UNTRUSTED_GAP}), so they say nothing."
        ]
        output = chosen.description.config["layers"][-1]["activation"]
        return chosen, notes + assumed(hints, latent, activation, output, distribution)
    gap, distribution, activation, slope, chosen = next(row for row in gaps if row[0] <= least * 1.15 + 0.01)
    gaps.sort(key=lambda row: row[0])
    notes = []
    if not hints.activation:
        other = next(row for row in gaps if (row[2], row[3]) != (activation, slope))
        notes.append(
            f"The generator's hidden layers are taken to be followed by {_in_words(activation, slope)}, "
            f"{AGREES} (distance {gap:.2f}; with "
            f"{_in_words(other[2], other[3])}, {other[0]:.2f})."
        )
    if latent.distribution is None:
        other = next(row for row in gaps if row[1] != distribution)
        notes.append(
            f"The latent is taken to be {IN_WORDS[distribution]}, {AGREES} (distance {gap:.2f}; if {other[1]}, {other[0]:.2f})."
        )
    if hints.output is None:
        notes.append(_assumed_output(chosen.description.config["layers"][-1]["activation"]))
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
    return dataclasses.replace(network, description=dataclasses.replace(network.description, config=config))


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
