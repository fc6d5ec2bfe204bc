"""Parts of the training loop: the order of the data, moving averages, and the one place that steps optimisers."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.randomness import generator_at
from regraft.training.updates import Adaptation, Optimiser, Phase, Update


class Order:
    """Endless shuffled passes over ``n`` items: item k is a function of (seed, k) alone."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._pass = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def take(self, start: int, count: int) -> Tensor:
        """Items ``start`` to ``start + count - 1``, (count,)."""
        found = []
        for k in range(start, start + count):
            if k // self.n != self._pass:
                self._pass = k // self.n
                self._permutation = torch.randperm(self.n, generator=generator_at(self.seed, "order", self._pass))
            found.append(self._permutation[k % self.n])
        return torch.stack(found)


class Averages:
    """Moving averages of modules; tensors that no phase trains are shared with the original."""

    def __init__(self, adaptation: Adaptation, decay: float) -> None:
        self.decay = decay
        trained = {id(p) for p in adaptation.trained().values()}
        self.modules: dict[str, nn.Module] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []
        for name in adaptation.averaged if decay > 0 else ():
            module = adaptation.modules[name]
            shared: dict[int, Any] = {id(p): p for p in module.parameters() if id(p) not in trained}
            made = copy.deepcopy(module, shared)
            self.modules[name] = made
            for ours, theirs in zip(made.parameters(), module.parameters(), strict=True):
                if ours is not theirs:
                    ours.requires_grad_(False)
                    self._pairs.append((ours, theirs))
            for ours_buffer, theirs_buffer in zip(made.buffers(), module.buffers(), strict=True):
                if ours_buffer.is_floating_point():
                    self._pairs.append((ours_buffer, theirs_buffer))

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again at the modules as they are."""
        for ours, theirs in self._pairs:
            ours.copy_(theirs)

    @torch.no_grad()
    def adopt(self) -> None:
        """Give the modules the values of their averages."""
        for ours, theirs in self._pairs:
            theirs.copy_(ours)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the modules after step ``step``; the first steps count more, so that the start is forgotten."""
        if self._pairs:
            decay = min(self.decay, 1 - 3 / (step + 3))
            ours, theirs = zip(*self._pairs, strict=True)
            torch._foreach_lerp_(list(ours), list(theirs), 1 - decay)


class Engine:
    """The one place that makes optimisers, runs backward and steps."""

    def __init__(self) -> None:
        self.made: dict[str, torch.optim.Adam] = {}
        self.specs: dict[str, Optimiser] = {}

    def enter(self, phase: Phase, keep: bool) -> None:
        """Make the phase's optimisers; those of the phase before are carried over if ``keep``."""
        before = self.made if keep else {}
        self.made, self.specs = {}, {}
        for spec in (o for update in phase.updates for o in update.optimisers):
            if spec.name in self.made:
                continue
            correction = spec.lazy / (spec.lazy + 1) if spec.lazy else 1.0
            groups = [{"params": list(params), "lr": lr * correction, "base": lr * correction} for params, lr in spec.groups]
            betas = (spec.betas[0] ** correction, spec.betas[1] ** correction)
            made = torch.optim.Adam(groups, betas=betas, eps=spec.eps)
            old = before.get(spec.name)
            if old is not None:
                for group in made.param_groups:
                    made.state.update({p: old.state[p] for p in group["params"] if p in old.state})
            self.made[spec.name], self.specs[spec.name] = made, spec

    def parameters(self, update: Update) -> list[nn.Parameter]:
        """What an update moves."""
        return [p for o in update.optimisers for params, _ in o.groups for p in params]

    def backward(self, loss: Tensor, share: float) -> None:
        """Accumulate gradients of a micro-batch that is ``share`` of the batch."""
        torch.autograd.backward(loss * share)

    def step(self, update: Update, step: int) -> None:
        """Apply the accumulated gradients; parameters without one keep value and moments."""
        for optimiser in update.optimisers:
            made, spec = self.made[optimiser.name], self.specs[optimiser.name]
            if spec.schedule is not None:
                factor = spec.schedule(step)
                for group in made.param_groups:
                    group["lr"] = group["base"] * factor
            made.step()

    def state(self) -> dict[str, Any]:
        """Moments of all optimisers."""
        return {name: made.state_dict() for name, made in self.made.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Put moments back."""
        for name, made in self.made.items():
            made.load_state_dict(state[name])
