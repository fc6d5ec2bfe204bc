"""Open a source, a run or an adapter for a verb."""

from collections.abc import Sequence

from regraft.core.device import pick_device
from regraft.core.gan import GAN
from regraft.verbs._arguments import Source
from regraft.verbs.load import load, load_adapter


def open_gan(source: Source, sources: Sequence[Source] | None, device: str, *, allow_nonfinite: bool = False) -> GAN:
    """Open a source, or an adapter with its sources, on a device.

    Args:
        source: what to open; a loaded GAN is returned as it is, on the device that it is on.
        sources: the sources of an adapter, if they are not where it expects them.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        allow_nonfinite: whether weights may be NaN or infinite.
    """
    target_device = pick_device(device)
    if isinstance(source, GAN):
        return source
    gan = load_adapter(source, list(sources)) if sources else load(source, allow_nonfinite=allow_nonfinite)
    gan.generator.to(target_device)
    if gan.critic is not None:
        gan.critic.to(target_device)
    return gan
