"""The verb ``convert``: a source, or a run merged with its sources, as safetensors and JSON."""

import pathlib
from collections.abc import Sequence

from regraft.core.errors import ConfigError
from regraft.formats.native import save_source
from regraft.verbs._arguments import Source
from regraft.verbs._open import open_gan


def convert(source: Source, out: str | pathlib.Path, *, sources: Sequence[Source] | None = None) -> pathlib.Path:
    """Write a source, or a run merged with its sources, as regraft's own safetensors and JSON.

    Args:
        source: what to convert.
        out: folder to make; must not exist.
        sources: the sources of an adapter, if they are not where it expects them.

    Returns:
        The folder.  Loading it gives bit-identical networks.

    Raises:
        ConfigError: if the folder exists.
        SourceError, AdapterError: if the source cannot be opened.
    """
    folder = pathlib.Path(out)
    if folder.exists():
        raise ConfigError(f"{folder}: exists, and nothing is overwritten; choose another name")
    save_source(folder, open_gan(source, sources, "cpu"))
    return folder
