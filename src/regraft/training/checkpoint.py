"""The tensors of a checkpoint: which ones are saved, and how they are put back."""

from torch import Tensor, nn

from regraft.core.errors import TrainingError

Saved = dict[str, dict[str, Tensor]]
"""Tensors by module and by key of its state_dict."""


def changing_tensors(modules: dict[str, nn.Module], trained: set[str]) -> Saved:
    """Return the tensors that training may change: trained parameters and all saved buffers.

    Args:
        modules: by name.
        trained: names of the trained parameters, as ``module.name``.
    """
    return {
        name: {k: v for k, v in module.state_dict().items() if f"{name}.{k}" in trained or _is_buffer(module, k)}
        for name, module in modules.items()
    }


def load_tensors(modules: dict[str, nn.Module], saved: Saved) -> None:
    """Put saved tensors back into modules.

    Raises:
        TrainingError: if a module has no tensor of a saved name and shape.
    """
    for name, tensors in saved.items():
        present = modules[name].state_dict()
        misfits = [k for k, v in tensors.items() if k not in present or v.shape != present[k].shape]
        if misfits:
            raise TrainingError(
                f"the saved state has {name}.{misfits[0]} of shape {tuple(tensors[misfits[0]].shape)}, which this run does "
                "not; was a setting or regraft changed?"
            )
        modules[name].load_state_dict(tensors, strict=False)


def _is_buffer(module: nn.Module, key: str) -> bool:
    """Whether a key of a module's state_dict names a buffer."""
    owner, _, leaf = key.rpartition(".")
    return leaf in module.get_submodule(owner)._buffers
