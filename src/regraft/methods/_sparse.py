"""Sparse fine-tuning: only the filters that matter for the target move.  The rule is our own.

The idea is MineGAN++'s (Wang et al. 2021, "MineGAN++: mining generative models for efficient knowledge transfer to limited data
domains"), whose rule we do not know.  Ours: after mining, the squared gradient of the generator's loss is averaged over some
batches of mined latents (the diagonal of an empirical Fisher matrix); a filter's importance is its mean over the filter's
values; in each tensor the filters of the greatest importance are kept trainable, at least one, and all where none has any.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from regraft.core.networks import Generator
from regraft.core.randomness import generator_at

Loss = Callable[[torch.Generator], Tensor]
"""Computes the generator's loss, a scalar, on a batch drawn from a random generator."""


class FilterMasks(nn.Module):
    """Masks of the filters that may move; gradients of all other filters are set to zero.

    A filter is one output channel of a weight, one class of a table, or one channel of a norm.
    """

    def __init__(self, generator: Generator, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.axes = {name: _output_axis(generator, name) for name in parameters}
        self.masked_parameters = dict(parameters)  # a plain dict: they belong to the generator
        for name, parameter in parameters.items():
            size = parameter.shape[self.axes[name]] if parameter.dim() else 1
            self.register_buffer(_key(name), torch.ones(size, dtype=torch.bool))
            # After accumulation: an earlier hook would change how gradients lie in memory, and with it Adam's rounding.
            parameter.register_post_accumulate_grad_hook(self._masking(name))  # type: ignore[no-untyped-call]

    def mask(self, name: str) -> Tensor:
        """Return one truth value per filter of a parameter, (filters,)."""
        return self.get_buffer(_key(name))

    def _masking(self, name: str) -> Callable[[Tensor], None]:
        def masked(parameter: Tensor) -> None:
            mask = self.mask(name)
            if parameter.grad is not None and not bool(mask.all()):
                parameter.grad.mul_(self._shaped(mask, parameter.grad, name).to(parameter.grad))

        return masked

    def _shaped(self, values: Tensor, like: Tensor, name: str) -> Tensor:
        if not like.dim():
            return values[0]
        return values.view([-1 if axis == self.axes[name] else 1 for axis in range(like.dim())])

    def choose(self, share: float, loss: Loss, batches: int, seed: int) -> None:
        """Keep the most important ``share`` of each parameter's filters.

        Args:
            share: share of filters in (0, 1], rounded up.
            loss: its squared gradients are the importance.
            batches: number of batches to average over.
            seed: seed of the batches.
        """
        parameters = self.masked_parameters
        for name in parameters:
            self.mask(name).fill_(True)
        if share == 1.0:
            return
        flags = {name: p.requires_grad for name, p in parameters.items()}
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        device = next(iter(parameters.values())).device
        for p in parameters.values():
            p.requires_grad_(True)
        for batch in range(batches):
            value = loss(generator_at(seed, "importance", batch, device=device))
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.square()
        for name, p in parameters.items():
            p.requires_grad_(flags[name])
            others = [axis for axis in range(p.dim()) if axis != self.axes[name]]
            importance = (total[name].mean(others) if others else total[name]).flatten()
            count = max(1, math.ceil(share * len(importance)))
            if not importance.any():  # nothing is known of it, such as of a source that won nothing
                continue
            best = importance.argsort(descending=True, stable=True)[:count]
            self.mask(name).fill_(False)[best] = True


def _key(name: str) -> str:
    return name.replace(".", "/")


def _output_axis(generator: nn.Module, name: str) -> int:
    owner = generator.get_submodule(name.rpartition(".")[0])
    transposed = isinstance(owner, nn.modules.conv._ConvTransposeNd) and name.endswith("weight")
    return 1 if transposed else 0
