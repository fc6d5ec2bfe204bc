"""Batch normalisation whose statistics never change unasked.

Elsewhere a network in training mode normalises real and generated batches apart, and the running statistics of a "frozen"
network drift.  Here a norm uses either its stored statistics or the batch's, never writes statistics while a loss is
computed, and stored statistics are measured afterwards in one deterministic pass.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regraft.core.networks import Generator, evaluating
from regraft.core.randomness import generator_at

Statistics = Literal["running", "batch"]


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """Yield all batch norms with stored statistics, except those of :func:`freeze_statistics`."""
    for module in network.modules():
        if (
            isinstance(module, _BatchNorm)
            and module.running_mean is not None
            and not getattr(module, "frozen_statistics", False)
        ):
            yield module


def freeze_statistics(part: nn.Module) -> None:
    """Keep part of a network in evaluation mode on its stored statistics, whatever is set or measured for the network."""
    part.eval()
    for norm in batch_norms(part):
        norm.__dict__["frozen_statistics"] = True


def set_training(network: nn.Module, statistics: Statistics) -> None:
    """Put a copied network in training mode, with batch norms that use ``running`` or ``batch`` statistics and write none."""
    network.train()
    for norm in batch_norms(network):
        norm.track_running_stats = False
        norm.training = statistics == "batch"


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether a network in training has norms on batch statistics; stored ones must then be measured before sampling."""
    return network.training and any(norm.training for norm in batch_norms(network))


def can_rebase(generator: nn.Module) -> bool:
    """Whether :func:`rebase` works for a generator: it has batch norms, and all have a plain gain and shift."""
    layers = list(batch_norms(generator))
    return bool(layers) and all(norm.weight is not None and norm.bias is not None for norm in layers)


def rebased_parameters(generator: nn.Module) -> frozenset[str]:
    """Return the names of the gains and shifts that :func:`rebase` changes."""
    affine = {id(p) for norm in batch_norms(generator) for p in (norm.weight, norm.bias)}
    return frozenset(name for name, p in generator.named_parameters() if id(p) in affine)


def rebase(generator: Generator) -> None:
    """Measure a generator's stored statistics anew, and change gains and shifts so that its images stay the same.

    A generator behind a miner sees other latents than its statistics were measured on.  Afterwards stored and batch
    statistics agree again, so that it can train on those of the batch.
    """
    with torch.no_grad():
        # One pass over the unchanged network is enough: as no norm's output changes, later norms go on seeing the same input.
        for norm, (new_mean, new_variance) in _statistics(generator, "running"):
            assert norm.running_mean is not None  # batch_norms yields no others
            assert norm.running_var is not None
            old_spread, new_spread = (norm.running_var + norm.eps).sqrt(), (new_variance + norm.eps).sqrt()
            norm.bias.add_(norm.weight * (new_mean - norm.running_mean) / old_spread)
            norm.weight.mul_(new_spread / old_spread)
            norm.running_mean.copy_(new_mean)
            norm.running_var.copy_(new_variance)


def update_running_state(network: nn.Module, moved: Iterable[nn.Parameter]) -> None:
    """Call ``after_step`` of all modules that have it (spectral norms, say) and of whose parameters an optimiser moved some."""
    ids = {id(p) for p in moved}
    for module in network.modules():
        after_step = getattr(module, "after_step", None)
        if callable(after_step) and any(id(p) in ids for p in module.parameters()):
            after_step()


@torch.no_grad()
def calibrate(generator: Generator, n: int = 1024, batch: int = 64, like: Generator | None = None) -> None:
    """Measure a generator's stored statistics from ``n`` latents of a fixed seed.

    Args:
        generator: its running means and variances are changed in place.
        n: latents.
        batch: latents per batch; the batches' means and variances are averaged.
        like: the generator in training that this is a copy of.  Of a mixture of generators, only those members are
            measured that use batch statistics there.
    """
    if generator.members:
        for member, live in zip(generator.members, (generator if like is None else like).members, strict=True):
            if uses_batch_statistics(live):
                calibrate(member, n, batch)
        return
    _store(_statistics(generator, "batch", n, batch))


@torch.no_grad()
def calibrate_on(network: nn.Module, run: Callable[[Tensor], object], batches: Iterable[Tensor]) -> None:
    """Measure a network's stored statistics on given batches, each of which ``run`` sends through it."""
    _store(_measured(network, "batch", run, batches))


def _store(statistics: list[tuple[_BatchNorm, list[Tensor]]]) -> None:
    for norm, (mean, variance) in statistics:
        assert norm.running_mean is not None  # batch_norms yields no others
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _statistics(
    generator: Generator, statistics: Statistics, n: int = 1024, batch: int = 64
) -> list[tuple[_BatchNorm, list[Tensor]]]:
    """Return mean and variance of the input of each batch norm while all of them use ``running`` or ``batch`` statistics."""
    like = next(generator.parameters())

    def run(step: Tensor) -> None:
        first = int(step)
        z = generator.latent.at(0, range(first * batch, (first + 1) * batch)).to(like)
        y = None
        if generator.n_classes:
            y = torch.randint(generator.n_classes, (batch,), generator=generator_at(0, "calibrate", first)).to(like.device)
        generator(z, y)

    return _measured(generator, statistics, run, torch.arange(max(1, n // batch)))


class _Enough(Exception):
    """Stops a forward pass once every norm has seen the batch."""


def _measured(
    network: nn.Module, statistics: Statistics, run: Callable[[Tensor], object], batches: Iterable[Tensor]
) -> list[tuple[_BatchNorm, list[Tensor]]]:
    norms = list(batch_norms(network))
    sums: dict[int, list[Tensor]] = {}
    calls, calls_per_batch = 0, None

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal calls
        x = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32)).transpose(0, 1).flatten(1)
        moments = [x.mean(1), x.var(1)]
        sums[id(norm)] = [a + b for a, b in zip(sums[id(norm)], moments, strict=True)] if id(norm) in sums else moments
        calls += 1
        if calls == calls_per_batch:
            raise _Enough

    hooks = [norm.register_forward_pre_hook(collect) for norm in norms]
    flags = [(norm, norm.training, norm.track_running_stats) for norm in norms]
    steps = 0
    with evaluating(network):
        for norm in norms:
            norm.training, norm.track_running_stats = statistics == "batch", False
        for batch in batches:
            calls = 0
            with contextlib.suppress(_Enough):
                run(batch)
            # The layers behind the last norm, a whole decoder perhaps, run for the first batch only.
            calls_per_batch, steps = calls, steps + 1
    for hook in hooks:
        hook.remove()
    for norm, training, track in flags:
        norm.training, norm.track_running_stats = training, track
    return [(norm, [total / steps for total in sums[id(norm)]]) for norm in norms if id(norm) in sums]
