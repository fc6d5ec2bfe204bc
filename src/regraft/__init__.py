"""regraft adapts pretrained GANs to new image domains with few images.

The public names are these; everything else may change.  They are imported when first used, so that the command line answers
without waiting for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regraft.api import Run, adapt, convert, evaluate, inspect, interpolate, methods, metrics, sample, sources
    from regraft.checking import check
    from regraft.config import Objective, Recipe
    from regraft.diagnosis import diagnose as diagnose
    from regraft.encoding import encode as encode
    from regraft.errors import RegraftError
    from regraft.gan import GAN, Autoencoder, Critic, Generator, Latent
    from regraft.images import open_images
    from regraft.lengthening import lengthen as lengthen
    from regraft.loading import load, load_adapter
    from regraft.metrics.base import Score
    from regraft.pretraining import pretrain as pretrain
    from regraft.ranking import rank
    from regraft.reporting import report

# Two verbs share their names with plug-in folders.  The import system binds a folder's name when the folder is first imported;
# doing that now, and dropping the names, leaves them to the verbs.
for _folder in ("methods", "metrics"):
    importlib.import_module(f"regraft.{_folder}")
    del globals()[_folder]

_HOMES = {
    "regraft.api": (
        "Run", "adapt", "convert", "evaluate", "inspect", "interpolate", "methods", "metrics", "sample", "sources",
    ),
    "regraft.config": ("Objective", "Recipe"),
    "regraft.diagnosis": ("diagnose",),
    "regraft.encoding": ("encode",),
    "regraft.lengthening": ("lengthen",),
    "regraft.pretraining": ("pretrain",),
    "regraft.errors": ("RegraftError",),
    "regraft.gan": ("GAN", "Autoencoder", "Critic", "Generator", "Latent"),
    "regraft.images": ("open_images",),
    "regraft.metrics.base": ("Score",),
    "regraft.loading": ("load", "load_adapter"),
    "regraft.checking": ("check",),
    "regraft.ranking": ("rank",),
    "regraft.reporting": ("report",),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - verbs first
    "adapt", "check", "convert", "evaluate", "inspect", "interpolate", "load", "load_adapter", "methods", "metrics",
    "open_images", "rank", "report", "sample", "sources", "Autoencoder", "Critic", "GAN", "Generator", "Latent",
    "Objective", "Recipe", "RegraftError", "Run", "Score",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'regraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
