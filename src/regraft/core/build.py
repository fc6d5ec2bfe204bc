"""Networks from their descriptions: without drawing random numbers where the weights are known, from a seed where not."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from regraft.core import discover
from regraft.core.config import parse
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import Description
from regraft.core.randomness import global_seed

# Generators made of other generators live outside the backbones; each maps its settings to a module.
COMPOSITES = {
    "mined": "regraft.composites.mined",
    "mixed": "regraft.composites.mixed",
    "scaled": "regraft.composites.scaled",
    "decoded": "regraft.composites.decoded",
}


@runtime_checkable
class Builder(Protocol):
    """What is asked of a backbone here; the backbones themselves lie above this module."""

    def initialise(self, network: nn.Module) -> None:
        """Draw fresh weights from torch's global generator."""


def build(description: Description) -> nn.Module:
    """Build the network that a description names; its weights are not to be relied on.

    Raises:
        ConfigError: if the description names no known builder, or settings it does not know.
    """
    if description.kind in COMPOSITES:
        module = __import__(COMPOSITES[description.kind], fromlist=["from_description"])
        network: nn.Module = module.from_description(description)
        return network
    backbone = discover.plugin("backbones", description.kind, Builder)
    models = {"generator": "GeneratorConfig", "critic": "CriticConfig", "autoencoder": "AutoencoderConfig"}
    model = getattr(backbone, models[description.role], None)
    if model is None:
        raise ConfigError(f"the backbone {description.kind} has no {description.role}")
    config = parse(model, description.config, f"{description.kind} {description.role}")
    make: Callable[[Any], nn.Module] = getattr(backbone, description.role)
    return make(config)


def build_with(
    description: Description, tensors: dict[str, Tensor], where: str, moved: dict[Any, Tensor] | None = None
) -> nn.Module:
    """Build a network and fill it; frozen and in evaluation mode, as every source is.

    Args:
        description: the network.
        tensors: one for each parameter and buffer; taken over, not copied unless they lie across cache lines.
        where: names the origin in errors.
        moved: what was copied for networks built before, so that shared memory stays shared; added to.

    Raises:
        SourceError: if names or shapes do not agree exactly.
    """
    with torch.device("meta"):
        network = build(description)
    check_tensors({k: tuple(v.shape) for k, v in network.state_dict().items()}, tensors, where)
    wanted = network.state_dict()
    refuse = next((k for k, v in tensors.items() if v.is_complex()), None)
    if refuse is not None:
        raise SourceError(f"{where}: {refuse} holds complex numbers, which no network here has")
    moved = {} if moved is None else moved
    tensors = {k: _aligned(v.to(wanted[k].dtype), moved) for k, v in tensors.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _aligned(value: Tensor, moved: dict[Any, Tensor]) -> Tensor:
    # A BLAS may add up in another order where data starts off a cache line, as it does in a memory-mapped safetensors file;
    # the same source from two containers would then differ in the last bit.
    if value.data_ptr() % 64 == 0:
        return value
    place = (value.data_ptr(), value.dtype, value.shape, value.stride())
    if place not in moved:
        moved[place] = value.clone()
    return moved[place]


def build_fresh(description: Description, seed: int) -> nn.Module:
    """Build a network with new weights drawn from a seed, trainable, global random state untouched."""
    with global_seed(seed):
        network = build(description)
        if description.kind not in COMPOSITES:
            discover.plugin("backbones", description.kind, Builder).initialise(network)
    return network


def check_tensors(wanted: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], where: str) -> None:
    """Compare tensor names and shapes with what a network holds.

    Raises:
        SourceError: naming up to three missing, unknown and misshapen tensors each.
    """
    problems = []
    missing = [k for k in wanted if k not in tensors]
    surplus = [k for k in tensors if k not in wanted]
    shapes = [
        f"{k} is {tuple(tensors[k].shape)}, must be {wanted[k]}"
        for k in wanted
        if k in tensors and tuple(tensors[k].shape) != wanted[k]
    ]
    for title, items in (("missing", missing), ("not used", surplus), ("wrong shape", shapes)):
        if items:
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            problems.append(f"{title}: {', '.join(items[:3])}{more}")
    if problems:
        raise SourceError(f"{where}: the tensors do not fit the network: {'; '.join(problems)}")
