"""A source, run or adapter, opened for a verb."""

import pathlib
from collections.abc import Sequence

from regraft.core.device import pick_device
from regraft.core.gan import GAN
from regraft.verbs.load import load, load_adapter

Source = GAN | str | pathlib.Path


def opened(source: Source, sources: Sequence[Source] | None, device: str) -> GAN:
    """A source, or an adapter on named sources, on a device."""
    if isinstance(source, GAN):
        gan = source
    elif sources:
        gan = load_adapter(source, list(sources))
    else:
        gan = load(source)
    wanted = pick_device(device)
    if not isinstance(source, GAN):
        gan.generator.to(wanted)
        if gan.critic is not None:
            gan.critic.to(wanted)
    return gan
