"""regraft adapts pretrained GANs to new image domains with few images.

The public names are these; everything else may change.  They are imported when first used, so that the command line answers
without waiting for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from regraft.core.version import __version__ as __version__

if TYPE_CHECKING:
    from regraft.core.config import Objective, Recipe
    from regraft.core.errors import RegraftError
    from regraft.core.gan import GAN
    from regraft.core.latent import Latent
    from regraft.core.networks import Autoencoder, Critic, Generator
    from regraft.data.opening import open_images
    from regraft.metrics.base import Score
    from regraft.verbs.adapt import adapt
    from regraft.verbs.adapting.finish import Run
    from regraft.verbs.check import check
    from regraft.verbs.convert import convert
    from regraft.verbs.diagnose import diagnose
    from regraft.verbs.encode import encode
    from regraft.verbs.evaluate import evaluate
    from regraft.verbs.inspect import inspect
    from regraft.verbs.lengthen import lengthen
    from regraft.verbs.lists import list_methods, list_metrics, list_sources
    from regraft.verbs.load import load, load_adapter
    from regraft.verbs.pretrain import pretrain
    from regraft.verbs.rank import rank
    from regraft.verbs.report.page import report
    from regraft.verbs.sample import interpolate, sample

_HOMES = {
    "regraft.core.config": ("Objective", "Recipe"),
    "regraft.core.errors": ("RegraftError",),
    "regraft.core.gan": ("GAN",),
    "regraft.core.latent": ("Latent",),
    "regraft.core.networks": ("Autoencoder", "Critic", "Generator"),
    "regraft.data.opening": ("open_images",),
    "regraft.metrics.base": ("Score",),
    "regraft.verbs.adapt": ("adapt",),
    "regraft.verbs.adapting.finish": ("Run",),
    "regraft.verbs.check": ("check",),
    "regraft.verbs.convert": ("convert",),
    "regraft.verbs.diagnose": ("diagnose",),
    "regraft.verbs.encode": ("encode",),
    "regraft.verbs.evaluate": ("evaluate",),
    "regraft.verbs.inspect": ("inspect",),
    "regraft.verbs.lengthen": ("lengthen",),
    "regraft.verbs.lists": ("list_methods", "list_metrics", "list_sources"),
    "regraft.verbs.load": ("load", "load_adapter"),
    "regraft.verbs.pretrain": ("pretrain",),
    "regraft.verbs.rank": ("rank",),
    "regraft.verbs.report.page": ("report",),
    "regraft.verbs.sample": ("interpolate", "sample"),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - verbs first
    "adapt",
    "check",
    "convert",
    "diagnose",
    "encode",
    "evaluate",
    "inspect",
    "interpolate",
    "lengthen",
    "list_methods",
    "list_metrics",
    "list_sources",
    "load",
    "load_adapter",
    "open_images",
    "pretrain",
    "rank",
    "report",
    "sample",
    "Autoencoder",
    "Critic",
    "GAN",
    "Generator",
    "Latent",
    "Objective",
    "Recipe",
    "RegraftError",
    "Run",
    "Score",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'regraft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
