"""Parts of the training loop: order of the data, moving averages, and the one place that steps optimisers."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.randomness import generator_at
from regraft.training.updates import Adaptation, Optimiser, Phase, Update


class Order:
    """Endless shuffled passes over ``n`` items, in which the k-th item is a function of (seed, k) alone."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._pass = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def take(self, start: int, count: int) -> Tensor:
        """Return items ``start`` to ``start + count - 1`` of the order, (count,)."""
        items = []
        for k in range(start, start + count):
            if k // self.n != self._pass:
                self._pass = k // self.n
                self._permutation = torch.randperm(self.n, generator=generator_at(self.seed, "order", self._pass))
            items.append(self._permutation[k % self.n])
        return torch.stack(items)


class Averages:
    """Moving averages of the modules that an adaptation averages; they share tensors that no phase trains.

    Attributes:
        modules: the averages, by name; empty if ``decay`` is 0.
    """

    def __init__(self, adaptation: Adaptation, decay: float) -> None:
        self.decay = decay
        trained = {id(p) for p in adaptation.trained().values()}
        self.modules: dict[str, nn.Module] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []
        for name in adaptation.averaged if decay > 0 else ():
            module = adaptation.modules[name]
            shared: dict[int, Any] = {id(p): p for p in module.parameters() if id(p) not in trained}
            average = copy.deepcopy(module, shared)
            self.modules[name] = average
            for averaged, live in zip(average.parameters(), module.parameters(), strict=True):
                if averaged is not live:
                    averaged.requires_grad_(False)
                    self._pairs.append((averaged, live))
            for averaged_buffer, live_buffer in zip(average.buffers(), module.buffers(), strict=True):
                if averaged_buffer.is_floating_point():
                    self._pairs.append((averaged_buffer, live_buffer))

    @torch.no_grad()
    def restart(self) -> None:
        """Set the averages to the present values of the modules."""
        for average, live in self._pairs:
            average.copy_(live)

    @torch.no_grad()
    def adopt(self) -> None:
        """Set the modules to their averages."""
        for average, live in self._pairs:
            live.copy_(average)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the modules after step ``step``, counted from 1.

        The decay is min(decay, 1 - 3 / (step + 3)): the first steps count more, so that the start is forgotten.
        """
        if self._pairs:
            decay = min(self.decay, 1 - 3 / (step + 3))
            averages, live = zip(*self._pairs, strict=True)
            torch._foreach_lerp_(list(averages), list(live), 1 - decay)


class Engine:
    """The one place that makes optimisers, computes gradients and steps.

    Attributes:
        optimisers: those of the present phase, by name.
        specs: what they were made from, by the same names.
    """

    def __init__(self) -> None:
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.specs: dict[str, Optimiser] = {}

    def enter(self, phase: Phase, keep: bool) -> None:
        """Make the optimisers of a phase; with ``keep`` they take over the moments of the phase before, by name."""
        before = self.optimisers if keep else {}
        self.optimisers, self.specs = {}, {}
        for spec in (spec for update in phase.updates for spec in update.optimisers):
            if spec.name in self.optimisers:
                continue
            correction = spec.lazy / (spec.lazy + 1) if spec.lazy else 1.0
            groups = [{"params": list(params), "lr": lr * correction, "base": lr * correction} for params, lr in spec.groups]
            betas = (spec.betas[0] ** correction, spec.betas[1] ** correction)
            adam = torch.optim.Adam(groups, betas=betas, eps=spec.eps)
            old = before.get(spec.name)
            if old is not None:
                for group in adam.param_groups:
                    adam.state.update({p: old.state[p] for p in group["params"] if p in old.state})
            self.optimisers[spec.name], self.specs[spec.name] = adam, spec

    def parameters(self, update: Update) -> list[nn.Parameter]:
        """Return the parameters that an update moves."""
        return [p for spec in update.optimisers for params, _ in spec.groups for p in params]

    def backward(self, loss: Tensor, share: float) -> None:
        """Accumulate the gradients of a micro-batch's mean loss; the micro-batch is ``share`` of the batch."""
        torch.autograd.backward(loss * share)

    def step(self, update: Update, step: int) -> None:
        """Apply the accumulated gradients at a step of the phase; parameters without one keep value and moments."""
        for name in (spec.name for spec in update.optimisers):
            adam, spec = self.optimisers[name], self.specs[name]
            if spec.schedule is not None:
                factor = spec.schedule(step)
                for group in adam.param_groups:
                    group["lr"] = group["base"] * factor
            adam.step()

    def state(self) -> dict[str, Any]:
        """Return the state of all optimisers, by name."""
        return {name: adam.state_dict() for name, adam in self.optimisers.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        for name, adam in self.optimisers.items():
            adam.load_state_dict(state[name])
