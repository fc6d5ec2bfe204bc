"""Batch normalisation without the classic trap: which statistics a copied network uses is said, and training writes none.

A network in training mode that normalises real and generated batches apart, or a "frozen" one whose running statistics
drift, changes behind one's back.  Here a norm uses either its stored statistics or the batch's, never writes while a loss
is computed, and stored statistics are measured afterwards in one deterministic pass.
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
    """All batch norms that keep statistics, but for those that :func:`freeze_statistics` froze."""
    for module in network.modules():
        if (
            isinstance(module, _BatchNorm)
            and module.running_mean is not None
            and not getattr(module, "frozen_statistics", False)
        ):
            yield module


def freeze_statistics(part: nn.Module) -> None:
    """Leave a part in evaluation mode on its stored statistics, whatever is set or measured for the network around it."""
    part.eval()
    for norm in batch_norms(part):
        norm.__dict__["frozen_statistics"] = True


def set_training(network: nn.Module, statistics: Statistics) -> None:
    """Put a copied network in training mode with batch norms on stored or batch statistics; they write neither."""
    network.train()
    for norm in batch_norms(network):
        norm.track_running_stats = False
        norm.training = statistics == "batch"


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether any norm of a network in training is on batch statistics, so that stored ones need measuring before sampling."""
    return network.training and any(norm.training for norm in batch_norms(network))


def can_rebase(generator: nn.Module) -> bool:
    """Whether :func:`rebase` can be done: only norms with a plain gain and shift can take the change up."""
    own = list(batch_norms(generator))
    return bool(own) and all(norm.weight is not None and norm.bias is not None for norm in own)


def rebased_parameters(generator: nn.Module) -> frozenset[str]:
    """Names of the gains and shifts that :func:`rebase` changes."""
    own = {id(p) for norm in batch_norms(generator) for p in (norm.weight, norm.bias)}
    return frozenset(name for name, p in generator.named_parameters() if id(p) in own)


def rebase(generator: Generator) -> None:
    """Measure a generator's stored statistics anew and change gains and shifts so that its images stay what they are.

    A generator behind a miner sees latents that its statistics were not measured on; after this it can train on batch
    statistics, which agree with the stored ones again.
    """
    with torch.no_grad():
        # Measured on the unchanged network: no norm's output changes, so later ones go on seeing what they see now.
        for norm, (new_mean, new_variance) in _statistics(generator, "running"):
            assert norm.running_mean is not None  # batch_norms yields no others
            assert norm.running_var is not None
            old, new = (norm.running_var + norm.eps).sqrt(), (new_variance + norm.eps).sqrt()
            norm.bias.add_(norm.weight * (new_mean - norm.running_mean) / old)
            norm.weight.mul_(new / old)
            norm.running_mean.copy_(new_mean)
            norm.running_var.copy_(new_variance)


def update_running_state(network: nn.Module, moved: Iterable[nn.Parameter]) -> None:
    """After an optimiser step, let modules with running state (spectral norms, say) take it on if their parameters moved."""
    ids = {id(p) for p in moved}
    for module in network.modules():
        after_step = getattr(module, "after_step", None)
        if callable(after_step) and any(id(p) in ids for p in module.parameters()):
            after_step()


@torch.no_grad()
def calibrate(generator: Generator, n: int = 1024, batch: int = 64, like: Generator | None = None) -> None:
    """Measure a generator's stored statistics from ``n`` latents of a fixed seed.

    Args:
        generator: changed in place: running means and variances only.
        n: latents.
        batch: latents whose statistics are taken together; means and variances are then averaged.
        like: the generator in training; of one made of several, only those on batch statistics there are measured.
    """
    if parts := _parts(generator):
        for part, live in zip(parts, _parts(like) if like is not None else parts, strict=True):
            if uses_batch_statistics(live):
                calibrate(part, n, batch)
        return
    _store(_statistics(generator, "batch", n, batch))


@torch.no_grad()
def calibrate_on(network: nn.Module, run: Callable[[Tensor], object], batches: Iterable[Tensor]) -> None:
    """Measure a network's stored statistics on given inputs; ``run`` sends a batch through it."""
    _store(_measured(network, "batch", run, batches))


def _store(found: list[tuple[_BatchNorm, list[Tensor]]]) -> None:
    for norm, (mean, variance) in found:
        assert norm.running_mean is not None  # batch_norms yields no others
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _parts(generator: Generator) -> list[Generator]:
    """The generators inside one that is made of several, each of which sees its own latents only."""
    return list(getattr(generator, "parts", []))


def _statistics(
    generator: Generator, statistics: Statistics, n: int = 1024, batch: int = 64
) -> list[tuple[_BatchNorm, list[Tensor]]]:
    """Mean and variance of what each batch norm sees while all of them use stored or batch statistics."""
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
    """Every norm has seen the batch."""


def _measured(
    network: nn.Module, statistics: Statistics, run: Callable[[Tensor], object], batches: Iterable[Tensor]
) -> list[tuple[_BatchNorm, list[Tensor]]]:
    norms = list(batch_norms(network))
    sums: dict[int, list[Tensor]] = {}
    calls, enough = 0, None

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal calls
        x = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32)).transpose(0, 1).flatten(1)
        found = [x.mean(1), x.var(1)]
        sums[id(norm)] = [a + b for a, b in zip(sums[id(norm)], found, strict=True)] if id(norm) in sums else found
        calls += 1
        if calls == enough:
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
            # The layers behind the last norm, a whole decoder perhaps, need to run but once.
            enough, steps = calls, steps + 1
    for hook in hooks:
        hook.remove()
    for norm, training, track in flags:
        norm.training, norm.track_running_stats = training, track
    return [(norm, [total / steps for total in sums[id(norm)]]) for norm in norms if id(norm) in sums]
