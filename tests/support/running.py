"""Run a method on toy sources and images, a few steps long."""

import collections
import contextlib
import dataclasses
from unittest import mock

import pytest
import torch

from regraft.core import discover
from regraft.core.config import parse
from regraft.core.errors import Interrupted
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin

STEPS = 6

FAST = {"steps": 4, "batch": 4, "evaluate_every": 2}
"""Settings of a run of the verb ``adapt`` that measures twice and is over at once."""


def settings_of(name):
    """Few steps; the rest as a user gets it."""
    method = find_plugin("methods", name)
    fields = method.Config.model_fields
    given = {"steps": STEPS} if "steps" in fields else {}
    given |= {"mining_steps": 2} if "mining_steps" in fields else {}
    if method.sources[1] == 0:
        families = [find_plugin("backbones", family) for family in discover.names("backbones")]
        smallest = dict(next(family for family in families if family.pretrained_by == name).smallest)
        given |= {"size": smallest.pop("size"), "channels": 1, "backbone_settings": smallest}
    return given


def attach(name, source, images, seed=0, **settings):
    """Attach a method by name to a source; return the adaptation and the settings that it took."""
    method = find_plugin("methods", name)
    config = parse(method.Config, settings_of(name) | settings, name)
    return method.attach(taken(name, source), images, config, generator_at(seed, "init")), config


def attached(name, source, images, **settings):
    """A method by name on a source."""
    return attach(name, source, images, **settings)[0]


def trained(name, source, images, **settings):
    """Run a method by name on a source; return every tensor in the end."""
    return state_of(run(attached(name, source, images, **settings), images))


def taken(name, source):
    """The sources that a method takes: none if it makes them."""
    return [source] if find_plugin("methods", name).sources[1] else []


def run(adaptation, images, folder=None, resume=False, seed=0, observer=None, accumulate=1, **plan):
    """Run an adaptation to its end, or on from the state in a folder; return the loop."""
    plan = {"observe_every": 3 if observer else 0, "checkpoint_every": 1000, **plan}
    loop = Loop(adaptation, images, Plan(seed=seed, accumulate=accumulate, **plan), RunStore(folder), observer)
    loop.run(resume)
    return loop


def noting_gradients(adaptation):
    """Note which parameters get a gradient.

    Returns:
        The same adaptation, and the names ``module.name`` of parameters that some step had a gradient for, other than zero; the
        set fills while the adaptation runs.
    """
    names = collections.defaultdict(set)
    for name, parameter in adaptation.trained().items():
        names[id(parameter)].add(name)
    reached = set()

    def noting(update):
        def after_step():
            for parameter in (p for optimiser in update.optimisers for group, _ in optimiser.groups for p in group):
                if parameter.grad is not None and parameter.grad.any():
                    reached.update(names[id(parameter)])
            if update.after_step is not None:
                update.after_step()

        return dataclasses.replace(update, after_step=after_step)

    phases = [dataclasses.replace(phase, updates=[noting(u) for u in phase.updates]) for phase in adaptation.phases]
    return dataclasses.replace(adaptation, phases=phases), reached


def parameters_of(adaptation):
    """Copies of all parameters of an adaptation, by ``module.name``."""
    return {f"{m}.{k}": p.detach().clone() for m, module in adaptation.modules.items() for k, p in module.named_parameters()}


def moved_since(before, adaptation):
    """Names of the parameters that are not what they were."""
    return {name for name, value in parameters_of(adaptation).items() if not torch.equal(before[name], value)}


class Watching:
    """An observer made of a function of step and generator; ``loaded`` is the state that it was given on resume."""

    def __init__(self, function):
        self.function, self.loaded = function, None

    def __call__(self, step, generator):
        return self.function(step, generator)

    def load(self, state):
        self.loaded = state


def state_of(loop):
    """Every tensor of a loop by name: networks, averages, and moments of the optimisers."""
    tensors = {f"{m}.{k}": v.clone() for m, module in loop.adaptation.modules.items() for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v.clone() for k, v in loop.generator().state_dict().items()}
    for name, optimiser in loop.engine.state().items():
        for number, moments in optimiser["state"].items():
            tensors |= {f"optimiser.{name}.{number}.{k}": torch.as_tensor(v).clone() for k, v in moments.items()}
    return tensors


def same(a, b):
    """Whether two states hold the same names and the same bytes."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same(a, b):
    """Two states hold the same names and the same bytes."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def at_step(loop, number, action):
    """Call ``action`` when a step of the loop begins; the first step is 1."""
    step = loop._step

    def watched(phase):
        if loop.position.total == number - 1:
            action()
        step(phase)

    loop._step = watched


def stop_inside(loop, number):
    """Ask for a stop while a step is being computed, as a signal would."""

    def request():
        loop._stop_requested = True

    at_step(loop, number, request)


@contextlib.contextmanager
def stopping_inside(number):
    """Ask every loop that runs meanwhile for a stop while that step is being computed."""
    run = Loop.run

    def stopped(loop, *given, **more):
        stop_inside(loop, number)
        return run(loop, *given, **more)

    with mock.patch.object(Loop, "run", stopped):
        yield


def stop_and_resume(make, images, folder, number, observer=None, **plan):
    """Run what ``make`` makes until it is stopped inside a step, then a fresh one on from there.

    Args:
        make: makes the adaptation.
        images: what it learns from.
        folder: of the run.
        number: the step; the first is 1.
        observer: makes the observer, if there is one.
        plan: as for :func:`run`.

    Returns:
        The second loop.
    """

    def go(resume):
        return run(make(), images, folder, resume, observer=observer() if observer else None, **plan)

    with stopping_inside(number), pytest.raises(Interrupted):
        go(False)
    return go(True)
