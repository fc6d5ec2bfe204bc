"""Whether a method can learn the classes of labelled images, and what those classes are called in its source."""

from collections.abc import Sequence

from regraft.core.errors import MissingCapability
from regraft.core.gan import GAN
from regraft.data.images import ImageSet
from regraft.methods._classes import conditioned
from regraft.methods.base import Method, MethodConfig


def obstacle(
    method: Method[MethodConfig],
    name: str,
    config: MethodConfig,
    sources: Sequence[GAN],
    listed: ImageSet,
    setting: bool | None,
) -> str | None:
    """Why a method cannot learn the classes of the target, or None.

    Args:
        method, name, config: the method.
        sources: its sources.
        listed: the target.
        setting: whether the user wants labels, None to choose.
    """
    n = len(listed.classes)
    if n < 2 or setting is False:
        return None
    if not method.labels:
        if config.classes_lost or not setting:
            return f"{name} {config.classes_lost or 'does not learn classes'}"
        return _foreign(name, sources, listed)
    if "autoencoder" in method.needs:  # classes of codes ask nothing of a source
        return None
    try:
        for source in sources:
            _ = source.generator.n_classes or conditioned(source.generator, n, "auto")
            _ = source.critic and source.critic.n_classes != n and source.critic.with_classes(n)
    except MissingCapability as error:
        return str(error).rstrip(".")
    return None


def _foreign(name: str, sources: Sequence[GAN], listed: ImageSet) -> str | None:
    """Why a target's classes are not those of the sources, which the method keeps; or None."""
    if not sources:
        return f"{name} does not learn classes"
    for source in sources:
        n, names = source.generator.n_classes, source.provenance.classes
        whose = f"{name} keeps the classes of {source.provenance.name}"
        if not n:
            return f"{whose}, which has none"
        unknown = [c for c in listed.classes if c not in names]
        if names and unknown:
            return f"{whose}, among which there is no {unknown[0]}; rename the folders after them: {', '.join(names[:10])}"
        if not names and n != len(listed.classes):
            return f"{whose}, which are {n} without names, and the images have {len(listed.classes)}"
    return None


def as_in_source(listed: ImageSet, source: GAN) -> tuple[ImageSet, str | None]:
    """Labels of a target as numbers of its source's classes, for a method that keeps them; and what was assumed."""
    names = source.provenance.classes
    if names:
        return listed.with_classes(names), None
    return (
        listed,
        f"classes go by number ({', '.join(listed.classes)}), because {source.provenance.name} has no names of its own",
    )
