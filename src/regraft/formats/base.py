"""What a format provides: it turns files into descriptions, tensors and provenance, and runs no code of theirs."""

import abc
import argparse
import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from regraft.core.config import Objective, Recipe
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.core.networks import Description
from regraft.files import containers, inert, weights

MOST_NAMES = 4096
Read = TypeVar("Read")


@dataclasses.dataclass(frozen=True)
class Network:
    """One network as a file holds it.

    Attributes:
        description: its kind and settings.
        tensors: by regraft's names.
        file_names: what the file calls them, by regraft's names, as far as a format keeps it; for errors.
    """

    description: Description
    tensors: dict[str, Tensor]
    file_names: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What a format read from a path; where objective or recipe is None, the backbone's own applies."""

    generator: Network
    critic: Network | None
    provenance: Provenance
    autoencoder: Network | None = None
    objective: Objective | None = None
    recipe: Recipe | None = None
    aspect: float | None = None
    class_shares: object = None


class Probe:
    """A path that formats look at; each thing is read once, when first asked for."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    @functools.cached_property
    def head(self) -> bytes:
        """The first bytes of a file, empty for a folder."""
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(64)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names in a folder, sorted; none if there are more than ``MOST_NAMES``, because such a folder is no source."""
        if not self.path.is_dir():
            return ()
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            names = [entry.name for entry in itertools.islice(entries, MOST_NAMES + 1)]
            return tuple(sorted(names)) if len(names) <= MOST_NAMES else ()
        return ()

    @functools.cached_property
    def is_torch_file(self) -> bool:
        """Whether it looks like ``torch.save`` wrote it, in the zip or the legacy container."""
        if self.head.startswith(containers.ZIP):
            return containers.is_torch_zip(self.path)
        return self.head.startswith(containers.LEGACY)

    @functools.cached_property
    def torch_object(self) -> Any:
        """What a torch file holds, as :func:`load_torch` reads it.

        Raises:
            SourceError: if the file is damaged, or holds more than tensors and plain data.
        """
        return load_torch(self.path)

    def passed_over(self) -> list[str]:
        """Say what lies unread in a torch file that was read, unless it is known to be bookkeeping; one sentence or none."""
        content = self.__dict__.get("torch_object")
        entries = itertools.islice(content.items(), MOST_NAMES) if isinstance(content, dict) else iter(())
        unread = [
            f"{str(key)[:60]} ({value.name[:80]})"
            for key, value in entries
            if isinstance(value, inert.Placeholder) and not inert.is_bookkeeping(value.name)
        ]
        more = f" and {len(unread) - 4} more" if len(unread) > 4 else ""
        return [f"passed over, as objects of types that regraft does not read: {', '.join(unread[:4])}{more}"] if unread else []


class BaseConfig:
    """Stands for the settings object of pytorch_GAN_zoo's files: its fields without its code."""


BaseConfig.__module__ = "models.utils.config"

STUBS: dict[str, type] = {
    "argparse.Namespace": argparse.Namespace,
    "models.utils.config.BaseConfig": BaseConfig,
}
"""Classes that ``torch.save`` files may hold, by full name, and what takes their place: holders of fields without code."""


def load_torch(path: pathlib.Path, stubs: Mapping[str, type] = STUBS) -> Any:
    """Read a ``torch.save`` file as :func:`regraft.files.weights.load_torch` does; the stubs are those of sources' files."""
    return weights.load_torch(path, stubs)


def optional(part: str, read: Callable[[], Read], notes: list[str]) -> Read | None:
    """What ``read`` gives, or None and a note where that part of a file cannot be read: the rest is of use without it.

    Args:
        part: how the note calls it.
        read: reads it.
        notes: where the note goes.
    """
    try:
        return read()
    except SourceError as error:
        reason = " ".join(str(error).split())
        notes.append(f"the {part} is left out, because it cannot be read: {reason[:400]}")
        return None


def optional_critic(read: Callable[[], Network | None], notes: list[str], name: str = "critic") -> Network | None:
    """A file's critic, or None and a note: why it cannot be read, or that there is none.

    Args:
        read: reads it; gives None if there is none.
        notes: where the note goes.
        name: how the note calls it.
    """
    said = len(notes)
    critic = optional(name, read, notes)
    if critic is None and len(notes) == said:
        notes.append("no critic found")
    return critic


def reproducible(measured: Tensor) -> Tensor:
    """Round statistics measured in float64 to 12 bits: far above what machines differ by, far below what sampling leaves open.

    They become tensors of the source, whose digest must not depend on where it was opened.
    """
    mantissa, exponent = torch.frexp(measured.double())
    return torch.ldexp((mantissa * 4096).round() / 4096, exponent).float()


class Format(abc.ABC):
    """A dialect of checkpoint files.

    Attributes:
        name: as ``inspect`` prints it.
        order: formats are asked in rising order; specific ones come before general ones.
    """

    name: str
    order: int = 50

    @abc.abstractmethod
    def matches(self, probe: Probe) -> bool:
        """Whether the content is of this dialect; never raises for damaged files."""

    def generator_in(self, folder: pathlib.Path) -> pathlib.Path | None:
        """The file of a folder that stands for all of them; None if that is not clear, or no matter of this format."""
        return None

    @abc.abstractmethod
    def read(self, probe: Probe) -> Parsed:
        """Read the file or folder.

        Raises:
            SourceError: naming what is wrong with the file.
        """
