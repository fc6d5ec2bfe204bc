"""Labelled targets: how a source's networks learn the target's classes.

TransferGAN's paper adapts conditional and unconditional sources; its code restores a network only where the number of classes
is the same.  The rest is regraft's reading: an unconditional generator is given classes so that it makes at first what it made
before; classes that a conditional source does not have begin as mixtures of its own; a new classifier is drawn anew.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from regraft.core.gan import GAN
from regraft.core.networks import ClassHead, Critic, Generator
from regraft.methods._adversarial import AdversarialConfig
from regraft.methods._fresh_networks import seed_from
from regraft.training.updates import Data, Parameters

Group = tuple[Parameters, float]


class LabelledConfig(AdversarialConfig):
    """Settings of methods that learn classes."""

    condition: Annotated[
        Literal["auto", "norm", "concat"],
        Field(
            description="How an unconditional generator is given classes. norm: gains and shifts of its norms, one per class; "
            "concat: further inputs for a one-hot class; auto: norm if it has any norms."
        ),
    ] = "auto"
    class_start: Annotated[
        Literal["auto", "mean", "cycle"],
        Field(
            description="Where new classes begin in a conditional source. auto: as its class of the same name; without names, "
            "as its class of the same number if there are as many; else as the mean of its classes. mean: all as the mean. "
            "cycle: class k as the source's class k, over and over."
        ),
    ] = "auto"
    class_head: Annotated[
        ClassHead,
        Field(
            description="How the critic learns classes. auxiliary: a classifier (AC-GAN, as in TransferGAN); projection: a "
            "projection; auto: the kind that the source's critic has, a classifier if it has none."
        ),
    ] = "auto"
    class_lr: Annotated[
        float,
        Field(
            gt=0,
            description="Factor of the step size of new classes: gains and shifts of classes that begin alike, class vectors, "
            "and a new class head.",
        ),
    ] = 3.0


def class_ready(source: GAN, images: Data, config: LabelledConfig, rng: torch.Generator) -> GAN:
    """Give the networks of a source the classes of labelled images; return the source itself if there are no labels.

    Args:
        source: stays untouched.
        images: the target.
        config: how classes enter.
        rng: for a new class head.

    Raises:
        MissingCapability: if a network cannot be given classes.
    """
    n = images.n_classes
    if not n:
        return source
    generator, critic, same_classes = source.generator, source.critic, False
    if not generator.n_classes:
        generator = conditioned(generator, n, config.condition)
    else:
        weights = start(generator.n_classes, source.provenance.classes, n, images.classes, config.class_start)
        same_classes = n == generator.n_classes and torch.equal(weights, torch.eye(n))
        generator = generator if same_classes else generator.with_class_mix(weights)
    if critic is not None and not (same_classes and critic.n_classes == n and config.class_head in ("auto", _head(critic))):
        critic = critic.with_classes(n, seed_from(rng), config.class_head)
    return GAN(
        generator, critic, objective=source.objective, recipe=source.recipe, provenance=source.provenance, aspect=source.aspect
    )


def _head(critic: Critic) -> ClassHead:
    return "auxiliary" if critic.classifies else "projection"


def conditioned(generator: Generator, n: int, how: Literal["auto", "norm", "concat"]) -> Generator:
    """Give an unconditional generator ``n`` classes, which all look alike until it is trained.

    Raises:
        MissingCapability: if it cannot be given classes in that way.
    """
    return generator.with_classes(n, next(iter(generator.conditionings), "norm") if how == "auto" else how)


def start(n_old: int, old: Sequence[str], n: int, new: Sequence[str], how: Literal["auto", "mean", "cycle"]) -> torch.Tensor:
    """Say which mixture of a source's classes each new class begins as.

    Args:
        n_old: number of the source's classes.
        old: their names, where they are known.
        n: number of the target's classes.
        new: their names.
        how: see :attr:`LabelledConfig.class_start`.

    Returns:
        Weights (n, n_old); each row adds up to one.
    """
    if how == "cycle":
        return torch.eye(n_old)[torch.arange(n) % n_old]
    weights = torch.full([n, n_old], 1 / n_old)
    if how == "mean":
        return weights
    if not old or not new:
        return torch.eye(n) if n == n_old else weights
    for row, name in enumerate(new):
        if name in old:
            weights[row] = torch.eye(n_old)[list(old).index(name)]
    return weights


def groups(network: nn.Module, source: nn.Module | None, lr: float, config: LabelledConfig, n: int) -> list[Group]:
    """Group a network's parameters for an optimiser: those of new classes, if there are any, learn faster than the rest.

    Args:
        network: in training; all its parameters.
        source: what it was made from, None if all of it is new.
        lr: step size of the rest.
        config: how much faster new classes are learned.
        n: the target's classes, 0 without labels.

    Returns:
        The groups, each with its step size.
    """
    old = {} if source is None or not n else dict(source.named_parameters())
    fast: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (fast if old and _is_by_class(parameter, old.get(name), n) else rest).append(parameter)
    return [(rest, lr), *([(fast, config.class_lr * lr)] if fast else [])]


def _is_by_class(new: nn.Parameter, old: nn.Parameter | None, n: int) -> bool:
    """Whether the first or last axis of a parameter is one of classes, which its source's did not have or had otherwise."""
    ends = new.shape[:1] + new.shape[-1:]
    if old is None or (old.shape == new.shape and not torch.equal(old, new)):
        return n in ends
    if old.dim() != new.dim():
        return new.shape[:1] == (n,)
    # The inputs that a one-hot class adds to a layer are no axis of classes: they learn as fast as the layer.
    changed = [axis for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if a != b]
    return changed in ([0], [new.dim() - 1]) and new.shape[changed[0]] == n
