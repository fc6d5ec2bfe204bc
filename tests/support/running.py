"""Run a method on toy sources and images, a few steps long."""

import torch

from regraft.core.config import parse
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
        smallest = dict(find_plugin("backbones", method.backbone).smallest)
        given |= {"size": smallest.pop("size"), "channels": 1, "backbone_settings": smallest}
    return given


def attach(name, source, images, seed=0, **settings):
    method = find_plugin("methods", name)
    config = parse(method.Config, settings_of(name) | settings, name)
    return method.attach(taken(name, source), images, config, generator_at(seed, "init")), config


def taken(name, source):
    """The sources that a method takes: none if it makes them."""
    return [source] if find_plugin("methods", name).sources[1] else []


def run(adaptation, images, folder=None, resume=False, seed=0, observer=None, accumulate=1, **plan):
    plan = {"observe_every": 3 if observer else 0, "checkpoint_every": 1000, **plan}
    loop = Loop(adaptation, images, Plan(seed=seed, accumulate=accumulate, **plan), RunStore(folder), observer)
    loop.run(resume)
    return loop


class Watching:
    """An observer made of a function of step and generator; ``loaded`` is the state that it was given on resume."""

    def __init__(self, function):
        self.function, self.loaded = function, None

    def __call__(self, step, generator):
        return self.function(step, generator)

    def load(self, state):
        self.loaded = state


def state_of(loop):
    tensors = {f"{m}.{k}": v.clone() for m, module in loop.adaptation.modules.items() for k, v in module.state_dict().items()}
    return tensors | {f"average.{k}": v.clone() for k, v in loop.generator().state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def stop_inside(loop, step):
    """Ask for a stop while a step is being computed, as a signal would."""
    enter = loop._step

    def wrapped(phase):
        if loop.position.total == step - 1:
            loop._stop_requested = True
        enter(phase)

    loop._step = wrapped
