"""The device that a module is on, and the one that a setting names."""

import torch
from torch import nn

from regraft.core.errors import ConfigError


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def pick_device(name: str) -> torch.device:
    """Return the device that the setting ``device`` names; ``auto`` takes the first of cuda, mps and cpu that is there.

    Raises:
        ConfigError: if this machine's torch has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        raise ConfigError(
            f"--device {name}: this machine's torch has no {name}; there are: "
            f"{', '.join(kind for kind in available if available[kind])}"
        )
    return torch.device(name)
