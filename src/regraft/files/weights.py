"""Read weights from files that anybody may have made: no code of theirs runs, and memory stays in proportion to their size."""

import pathlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files import containers, inert


def load_torch(path: pathlib.Path, stubs: Mapping[str, type]) -> Any:
    """Read a ``torch.save`` file onto the CPU; no code of it runs, and it takes no more memory than its size accounts for.

    Tensors are mapped from the file rather than copied, if the container allows it.  What else the file holds beside tensors
    and plain data becomes a :class:`~regraft.files.inert.Placeholder`.

    Args:
        path: the file.
        stubs: classes that it may hold beside tensors and plain data, by full name, and what takes their place.

    Raises:
        SourceError: if the file is damaged, names what runs code, or holds something else in place of weights.
    """
    mapped, checker = containers.check_torch_file(path, stubs)
    allowed: list[tuple[Callable[..., object], str]] = [(stub, name) for name, stub in stubs.items()]
    for name in checker.inert:
        allowed.append((inert.stand_in(name, name in checker.mappings, name in checker.lists), name))
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), str(error).split("\n")[0])
        raise SourceError(
            f"{path}: refused, because it holds more than tensors and plain data ({reason[:200]}). Save only the "
            "state_dict (torch.save(net.state_dict(), ...)) and try again."
        ) from None
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: cannot be read as a torch file, it is damaged or cut short: {reason}") from None


def read_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Read a safetensors file whose header agrees with its size.

    Raises:
        SourceError: if it is damaged.
    """
    return containers.read_safetensors(path)


def read_state_dict(path: pathlib.Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors or ``torch.save`` file.

    Raises:
        SourceError: if it cannot be read, or holds anything but named tensors.
    """
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    content = read_safetensors(path) if is_safetensors else load_torch(path, {})
    if not isinstance(content, dict):
        raise SourceError(f"{path}: must hold a state dict (names to tensors), and holds a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise SourceError(
                f"{path}: must hold a state dict (names to tensors), and {name!s:.60} is a {type(value).__name__}"
            )
    return {str(name): value for name, value in content.items()}
