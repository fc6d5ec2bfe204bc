"""The order of data, averages of weights, and optimisers."""

import pytest
import torch
from torch import nn

from regraft.core.randomness import generator_at
from regraft.training.engine import Averages, Engine, Order
from regraft.training.updates import Optimiser, Phase, Update
from support.one_weight import one_weight
from support.plugins import find_plugin
from support.toys import toy_gan, toy_images


class TestOrder:
    def test_each_pass_is_a_permutation(self):
        order = Order(7, 3)
        taken = order.take(0, 21)
        for k in range(3):
            assert sorted(taken[7 * k : 7 * k + 7].tolist()) == list(range(7))
        assert taken[:7].tolist() != taken[7:14].tolist()

    def test_place_alone_decides(self):
        assert torch.equal(Order(7, 3).take(0, 40)[17:30], Order(7, 3).take(17, 13))
        assert not torch.equal(Order(7, 3).take(0, 40), Order(7, 4).take(0, 40))


class TestAverages:
    def test_follows_and_forgets_the_start(self):
        made = one_weight(decay=0.9)
        averages = Averages(made, made.ema_decay)
        average, live = averages.modules["weight"].weight, made.modules["weight"].weight
        with torch.no_grad():
            live.fill_(1.0)
        for step in range(1, 200):
            averages.update(step)
        assert average.item() == pytest.approx(1.0, abs=1e-4)
        assert not average.requires_grad

    def test_decay_once_settled(self):
        made = one_weight(decay=0.9)
        averages = Averages(made, made.ema_decay)
        with torch.no_grad():
            averages.modules["weight"].weight.fill_(0.0)
            made.modules["weight"].weight.fill_(1.0)
        averages.update(10_000)
        assert averages.modules["weight"].weight.item() == pytest.approx(0.1)

    def test_untrained_tensors_are_shared(self):
        method = find_plugin("methods", "minegan")
        config = method.Config(mining_steps=2, finetuning_steps=0)
        made = method.attach([toy_gan()], toy_images(), config, generator_at(0, "init"))
        averages = Averages(made, 0.9)
        ours, theirs = averages.modules["generator"], made.generator
        assert ours.source.layers[0].weights.weight is theirs.source.layers[0].weights.weight
        assert ours.miner.layers[0].weight is not theirs.miner.layers[0].weight


class TestOptimisers:
    def test_lazy_correction(self):
        engine = Engine()
        parameter = nn.Parameter(torch.zeros(1))
        spec = Optimiser("a", [([parameter], 2e-3)], betas=(0.0, 0.99), lazy=16)
        engine.enter(Phase("p", [Update("u", [spec], lambda b, r: (parameter.sum(), {}))], 1), keep=False)
        group = engine.optimisers["a"].param_groups[0]
        # Karras et al. 2020: c = k / (k + 1), lr * c and beta ** c.
        assert group["lr"] == pytest.approx(2e-3 * 16 / 17)
        assert group["betas"][1] == pytest.approx(0.99 ** (16 / 17))

    def test_phases_may_keep_their_optimisers(self):
        made = one_weight(steps=3)
        first = made.phases[0]
        for keep in (True, False):
            engine = Engine()
            engine.enter(first, keep=False)
            parameter = made.modules["weight"].weight
            parameter.grad = torch.ones_like(parameter)
            engine.step(first.updates[0], 0)
            engine.enter(first, keep=keep)
            assert bool(engine.optimisers["one"].state) is keep
