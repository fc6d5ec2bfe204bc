"""The verb ``inspect``: what a source is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from regraft.core.errors import MissingCapability
from regraft.core.gan import tensor_digest
from regraft.core.networks import Generator
from regraft.core.wrap import ModuleGenerator
from regraft.verbs._arguments import Source
from regraft.verbs._open import open_gan


def inspect(source: Source, *, sources: Sequence[Source] | None = None, allow_nonfinite: bool = False) -> dict[str, Any]:
    """Say what a source is.

    Args:
        source: what to inspect.
        sources: the sources of an adapter, if they are not where it expects them.
        allow_nonfinite: whether weights may be NaN or infinite; which are is said among the assumptions.

    Returns:
        Format, backbone, latent, image size, numbers of parameters, objective, recipe, licence, digest, names of classes, and
        what was assumed to read the file, as plain data.

    Raises:
        SourceError, AdapterError: if the source cannot be opened.
    """
    gan = open_gan(source, sources, "cpu", allow_nonfinite=allow_nonfinite)
    generator, critic, origin = gan.generator, gan.critic, gan.provenance
    facts: dict[str, Any] = {
        "name": origin.name,
        "format": origin.format,
        "backbone": _kind(generator),
        "latent": dataclasses.asdict(generator.latent),
        "classes": generator.n_classes,
        "image": {"height": generator.size[0], "width": generator.size[1], "channels": generator.channels},
        "generator_values": sum(p.numel() for p in generator.parameters()),
        "critic_values": sum(p.numel() for p in critic.parameters()) if critic is not None else None,
        "critic_stages": len(critic.stages) if critic is not None else None,
        "codes": None if gan.autoencoder is None else f"{gan.autoencoder.code_shape}, range {gan.autoencoder.code_range}",
        "objective": gan.objective.model_dump(mode="json"),
        "recipe": gan.recipe.model_dump(mode="json"),
        "licence": origin.licence,
        "noncommercial": origin.noncommercial,
        "dataset": origin.dataset,
        "url": origin.url,
        "files": origin.files,
        "generator_digest": tensor_digest(generator),
        "assumptions": list(origin.assumptions),
        "lineage": list(origin.lineage),
        "class_names": list(origin.classes),
    }
    return facts


def _kind(generator: Generator) -> str:
    """Return the name of a generator's backbone, or of its class if it is a plain torch module."""
    try:
        return generator.describe().kind
    except MissingCapability:
        network = generator.module if isinstance(generator, ModuleGenerator) else generator
        return type(network).__name__
