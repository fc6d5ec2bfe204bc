"""Build networks from their descriptions: with given weights and no random draws, or with new weights drawn from a seed."""

import importlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pydantic
import torch
from torch import Tensor, nn

from regraft.core import discover
from regraft.core.config import parse
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import Description
from regraft.core.randomness import global_seed

# Generators made of other generators: kind to the module whose ``from_description`` builds it.
COMPOSITES = {
    "mined": "regraft.composites.mined",
    "mixed": "regraft.composites.mixed",
    "scaled": "regraft.composites.scaled",
    "decoded": "regraft.composites.decoded",
}

Place = tuple[int, torch.dtype, torch.Size, tuple[int, ...]]
"""Address, type, shape and stride of a tensor: two tensors of the same place share their memory."""


@runtime_checkable
class Builder(Protocol):
    """What this module asks of a backbone; the backbones lie above it and cannot be imported."""

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights from torch's global generator."""


def build(description: Description) -> nn.Module:
    """Build the network of a description; its weights are arbitrary and must be set.

    Raises:
        ConfigError: if no builder has the description's kind, or the builder does not know its settings.
    """
    if description.kind in COMPOSITES:
        network: nn.Module = importlib.import_module(COMPOSITES[description.kind]).from_description(description)
        return network
    backbone = discover.plugin("backbones", description.kind, Builder)
    models = {"generator": "GeneratorConfig", "critic": "CriticConfig", "autoencoder": "AutoencoderConfig"}
    model = getattr(backbone, models[description.role], None)
    if model is None:
        raise ConfigError(f"the backbone {description.kind} has no {description.role}")
    config = parse(model, description.config, f"{description.kind} {description.role}")
    make: Callable[[pydantic.BaseModel], nn.Module] = getattr(backbone, description.role)
    return make(config)


def build_with(
    description: Description, tensors: dict[str, Tensor], where: str, moved: dict[Place, Tensor] | None = None
) -> nn.Module:
    """Build a network with given weights, frozen and in evaluation mode, as every source is.

    Args:
        description: the network.
        tensors: one for each parameter and buffer; used without a copy if their memory starts at a cache line.
        where: where the tensors come from, for errors.
        moved: copies that were made for networks built before, by where they came from; this call adds its own, so that
            networks that share memory go on sharing it.

    Raises:
        SourceError: if names or shapes differ from the network's.
    """
    with torch.device("meta"):
        network = build(description)
    expected = network.state_dict()
    check_tensors({k: tuple(v.shape) for k, v in expected.items()}, tensors, where)
    complex_name = next((k for k, v in tensors.items() if v.is_complex()), None)
    if complex_name is not None:
        raise SourceError(f"{where}: {complex_name} holds complex numbers, which no network here has")
    moved = {} if moved is None else moved
    tensors = {k: _aligned(v.to(expected[k].dtype), moved) for k, v in tensors.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _aligned(value: Tensor, moved: dict[Place, Tensor]) -> Tensor:
    # Data in a memory-mapped safetensors file may start inside a cache line, and a BLAS then adds up in another order: images
    # of the same source from two containers would differ in the last bit.
    if value.data_ptr() % 64 == 0:
        return value
    place = (value.data_ptr(), value.dtype, value.shape, value.stride())
    if place not in moved:
        moved[place] = value.clone()
    return moved[place]


def build_fresh(description: Description, seed: int) -> nn.Module:
    """Build a trainable network with new weights drawn from a seed; the global random state stays as it is."""
    with global_seed(seed):
        network = build(description)
        if description.kind not in COMPOSITES:
            discover.plugin("backbones", description.kind, Builder).initialise(network)
    return network


def check_tensors(shapes: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], where: str) -> None:
    """Check that tensors have the names and shapes of a network's.

    Args:
        shapes: name to shape of what the network holds.
        tensors: what was read.
        where: where the tensors come from, for the error.

    Raises:
        SourceError: if they differ; names up to three missing, three surplus and three misshapen tensors.
    """
    problems = []
    missing = [k for k in shapes if k not in tensors]
    surplus = [k for k in tensors if k not in shapes]
    misshapen = [
        f"{k} is {tuple(tensors[k].shape)}, must be {shape}"
        for k, shape in shapes.items()
        if k in tensors and tuple(tensors[k].shape) != shape
    ]
    for title, items in (("missing", missing), ("not used", surplus), ("wrong shape", misshapen)):
        if items:
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            problems.append(f"{title}: {', '.join(items[:3])}{more}")
    if problems:
        raise SourceError(f"{where}: the tensors do not fit the network: {'; '.join(problems)}")
