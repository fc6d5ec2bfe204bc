"""Choose whether a method learns the classes of labelled images, and number them as its source does."""

from collections.abc import Sequence

from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.core.names import printable
from regraft.data.images import ImageSet
from regraft.methods.base import Method, MethodConfig
from regraft.verbs.adapting import choices


def choose(
    job: AdaptJob, listed: ImageSet, method: Method[MethodConfig], config: MethodConfig, sources: Sequence[GAN]
) -> tuple[AdaptJob, ImageSet, list[str]]:
    """Choose whether to learn the classes of the target images.

    Args:
        job: the settings; its method is named.
        listed: the target images.
        method, config: the method of that name, with its settings.
        sources: its sources.

    Returns:
        The settings with ``labels`` chosen; the images, without labels if none are learned; and notes, one sentence each.

    Raises:
        ConfigError: if the job asks for labels that the method cannot learn.
    """
    why_not = obstacle(job, listed, method, config, sources)
    learned, reason = choices.labels(job.labels, listed.classes, listed.counts, why_not)
    notes = [reason] if reason else []
    listed = listed if learned else listed.without_labels()
    return job.model_copy(update={"labels": learned}), listed, notes


def number_as_source(listed: ImageSet, source: GAN) -> tuple[ImageSet, list[str]]:
    """Renumber the labels of a target as the classes of its source, for a method that keeps those; return notes as well."""
    names = source.provenance.classes
    if names:
        return listed.with_classes(names), []
    note = f"classes go by number ({', '.join(listed.classes)}), because {source.provenance.name} has no names of its own"
    return listed, [note]


def obstacle(
    job: AdaptJob, listed: ImageSet, method: Method[MethodConfig], config: MethodConfig, sources: Sequence[GAN]
) -> str | None:
    """Return why a method cannot learn the classes of the target, or None; arguments are those of :func:`choose`."""
    n = len(listed.classes)
    if n < 2 or job.labels is False:
        return None
    if not method.labels:
        if config.classes_lost or not job.labels:
            return f"{job.method} {config.classes_lost or 'does not learn classes'}"
        return _difference_to_sources(job.method, sources, listed)
    if "autoencoder" in method.needs:  # classes of codes ask nothing of a source
        return None
    return next(filter(None, (_class_obstacle(source, n) for source in sources)), None)


def _class_obstacle(source: GAN, n: int) -> str | None:
    """Return why a source's networks cannot learn ``n`` classes, or None; builds no network."""
    generator, critic = source.generator, source.critic
    if not generator.n_classes and not generator.conditionings:
        return f"a {type(generator).__name__} cannot be given classes; adapt it without labels"
    if critic is not None and critic.n_classes != n and not critic.takes_classes:
        return f"a {type(critic).__name__} cannot be given classes; adapt it without labels"
    return None


def _difference_to_sources(name: str, sources: Sequence[GAN], listed: ImageSet) -> str | None:
    """Return why a target's classes are not those of the sources, which the method ``name`` keeps; None if they are."""
    if not sources:
        return f"{name} does not learn classes"
    for source in sources:
        n, names = source.generator.n_classes, source.provenance.classes
        keeps = f"{name} keeps the classes of {source.provenance.name}"
        if not n:
            return f"{keeps}, which has none"
        known = {printable(name) for name in names}
        unknown = [c for c in listed.classes if printable(c) not in known]
        if names and unknown:
            return f"{keeps}, among which there is no {unknown[0]}; rename the folders after them: {', '.join(names[:10])}"
        if not names and n != len(listed.classes):
            return f"{keeps}, which are {n} without names, and the images have {len(listed.classes)}"
    return None
