"""The loop: order of data, accumulation, averages, schedules, failures."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from regraft.core.errors import OutOfMemory, TrainingError
from regraft.core.gan import GAN
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.engine import Averages, Engine, Order
from regraft.training.loop import Loop, Plan, _split
from regraft.training.observation import Observation
from regraft.training.updates import Adaptation, Optimiser, Phase, Update
from support.plugins import find_plugin
from support.running import Watching
from support.toys import toy_gan, toy_images


def adaptation(loss=None, steps=5, batch=4, decay=0.0, **how):
    """One weight pulled to the data's mean."""
    generator = toy_gan().generator
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(3.0)

    def pull(batch, rng):
        value = (module.weight - batch.data.mean((1, 2, 3))).square().mean()
        return value, {"pull": value.detach()}

    optimiser = Optimiser("one", [(list(module.parameters()), 0.1)], **how)
    phase = Phase("only", [Update("pull", [optimiser], loss or pull)], steps)
    return Adaptation(
        generator, None, [phase], {"generator": generator, "weight": module}, averaged=("weight",), ema_decay=decay, batch=batch
    )


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


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 4, 9])
    def test_parts_give_the_gradient_of_the_whole(self, parts):
        weights = []
        for accumulate in (1, parts):
            made = adaptation(steps=1)
            Loop(made, toy_images(), Plan(accumulate=accumulate), RunStore(None)).run()
            weights.append(made.modules["weight"].weight.grad.clone())
        assert torch.allclose(*weights, atol=1e-6)

    def test_sizes(self):
        assert _split(10, 3) == [4, 3, 3]
        assert _split(2, 5) == [1, 1]


class TestOptimisers:
    def test_a_parameter_without_gradient_keeps_value_and_moments(self):
        """Adam moves a parameter by its momentum even for a zero gradient; without a gradient it must not."""
        made = adaptation(steps=6)
        module = made.modules["weight"]

        def sometimes(batch, rng):
            value = module.weight.square().sum() if len(seen) < 3 else torch.zeros((), requires_grad=True) * 1.0
            seen.append(module.weight.item())
            return value, {}

        seen = []
        Loop(adaptation_of(made, sometimes), toy_images(), Plan(), RunStore(None)).run()
        assert seen[0] != seen[1] != seen[2] != seen[3]
        assert seen[3] == seen[4] == seen[5]

    def test_lazy_correction(self):
        engine = Engine()
        parameter = nn.Parameter(torch.zeros(1))
        spec = Optimiser("a", [([parameter], 2e-3)], betas=(0.0, 0.99), lazy=16)
        engine.enter(Phase("p", [Update("u", [spec], lambda b, r: (parameter.sum(), {}))], 1), keep=False)
        group = engine.optimisers["a"].param_groups[0]
        # Karras et al. 2020: c = k / (k + 1), lr * c and beta ** c.
        assert group["lr"] == pytest.approx(2e-3 * 16 / 17)
        assert group["betas"][1] == pytest.approx(0.99 ** (16 / 17))

    def test_schedule_scales_the_step_size(self):
        made = adaptation(steps=3, schedule=lambda step: 0.0 if step else 1.0)
        Loop(made, toy_images(), Plan(), RunStore(None)).run()
        # Adam's first step has the length of the step size; the others have none.
        assert made.modules["weight"].weight.item() == pytest.approx(2.9, abs=1e-4)

    def test_phases_may_keep_their_optimisers(self):
        made = adaptation(steps=3)
        first = made.phases[0]
        for keep in (True, False):
            engine = Engine()
            engine.enter(first, keep=False)
            parameter = made.modules["weight"].weight
            parameter.grad = torch.ones_like(parameter)
            engine.step(first.updates[0], 0)
            engine.enter(first, keep=keep)
            assert bool(engine.optimisers["one"].state) is keep


def adaptation_of(made, loss):
    update = made.phases[0].updates[0]
    phase = Phase("only", [Update("other", update.optimisers, loss)], made.phases[0].steps)
    return Adaptation(made.generator, None, [phase], made.modules, averaged=made.averaged, ema_decay=0.0, batch=made.batch)


class TestAverages:
    def test_follows_and_forgets_the_start(self):
        made = adaptation(decay=0.9)
        averages = Averages(made, made.ema_decay)
        average, live = averages.modules["weight"].weight, made.modules["weight"].weight
        with torch.no_grad():
            live.fill_(1.0)
        for step in range(1, 200):
            averages.update(step)
        assert average.item() == pytest.approx(1.0, abs=1e-4)
        assert not average.requires_grad

    def test_decay_once_settled(self):
        made = adaptation(decay=0.9)
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


class TestFailures:
    def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(self, tmp_path):
        made = adaptation(steps=9)
        module, calls = made.modules["weight"], []

        def loss(batch, rng):
            calls.append(1)
            value = module.weight.square().sum()
            return (value * float("nan") if len(calls) == 6 else value), {}

        store = RunStore(tmp_path)
        with pytest.raises(TrainingError, match=r"update other is nan at step 5 \(phase only\)"):
            Loop(adaptation_of(made, loss), toy_images(), Plan(checkpoint_every=2), store).run()
        assert store.load_state()["position"]["total"] == 4

    def test_out_of_memory_says_what_to_lower(self):
        def loss(batch, rng):
            raise torch.OutOfMemoryError("CUDA out of memory")

        made = adaptation()
        with pytest.raises(OutOfMemory, match="--batch 2, or keep the batch .* --accumulate 2"):
            Loop(adaptation_of(made, loss), toy_images(), Plan(), RunStore(None)).run()

    def test_other_runtime_errors_pass(self):
        def loss(batch, rng):
            raise RuntimeError("shapes do not fit")

        made = adaptation()
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            Loop(adaptation_of(made, loss), toy_images(), Plan(), RunStore(None)).run()

    def test_a_damaged_state_is_a_clear_error(self, tmp_path):
        store = RunStore(tmp_path)
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "last.pt").write_bytes(b"half a file")
        with pytest.raises(TrainingError, match="the saved state is damaged"):
            Loop(adaptation(), toy_images(), Plan(), store).run(resume=True)


def test_the_log_holds_every_loss_and_is_cut_back_on_resume(tmp_path):
    store = RunStore(tmp_path)
    Loop(adaptation(steps=8), toy_images(), Plan(log_every=2, checkpoint_every=4), store).run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(line["phase"] == "only" and line["pull"] > 0 for line in lines)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("lines of a run that was killed\n")
    store.load_state()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_no_phases_train_nothing():
    generator = toy_gan().generator
    loop = Loop(Adaptation(generator, None, [], {"generator": generator}), toy_images(), Plan(), RunStore(None))
    loop.run()
    assert torch.equal(GAN(loop.generator()).sample(2), GAN(generator).sample(2))


def test_bfloat16_trains():
    method = find_plugin("methods", "transfergan")
    made = method.attach([toy_gan()], toy_images(), method.Config(steps=3), generator_at(0, "init"))
    Loop(made, toy_images(), Plan(precision="bfloat16"), RunStore(None)).run()
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in made.generator.parameters())


class TestPhases:
    def two(self, decay=0.0, **second):
        """Four steps in which the generator moves, then four in which a weight does."""
        made = adaptation(steps=4, decay=decay)
        generator, weight = made.generator.requires_grad_(True), made.phases[0]

        def shrink(batch, rng):
            value = sum(p.square().sum() for p in generator.parameters())
            return value, {}

        first = Phase("first", [Update("shrink", [Optimiser("g", [(list(generator.parameters()), 0.1)])], shrink)], 4)
        return dataclasses.replace(
            made, phases=[first, dataclasses.replace(weight, **second)], averaged=("generator", "weight") if decay else ()
        )

    def test_a_generator_that_does_not_move_is_not_observed(self):
        """However bad it is, the phase that trains something else runs to its end."""
        seen = []

        def observe(step, generator):
            seen.append(step)
            return Observation({}, stop="worse" if step > 4 else None)

        made = self.two()
        loop = Loop(made, toy_images(), Plan(observe_every=2), RunStore(None), Watching(observe))
        loop.run()
        assert seen == [0, 2, 4]
        assert (loop.position.total, loop.position.stopped) == (8, None)

    def test_a_phase_from_averages(self):
        """It begins at the averages as the phase before left them, and they stay where nothing moves."""
        alone, then = self.two(decay=0.9), self.two(decay=0.9, from_averages=True)
        alone = dataclasses.replace(alone, phases=alone.phases[:1])
        loops = [Loop(made, toy_images(), Plan(), RunStore(None)) for made in (alone, then)]
        for loop in loops:
            loop.run()
        kept, live, raw = (
            torch.cat([p.detach().flatten() for p in module.parameters()])
            for module in (loops[0].averages.modules["generator"], then.generator, alone.generator)
        )
        assert torch.equal(live, kept)
        assert not torch.equal(live, raw)
        after = torch.cat([p.flatten() for p in loops[1].averages.modules["generator"].parameters()])
        assert torch.equal(after, kept)

    def test_a_state_of_other_shapes_is_refused(self, tmp_path):
        Loop(adaptation(), toy_images(), Plan(), RunStore(tmp_path)).run()
        other = adaptation()
        other.modules["weight"].weight = nn.Parameter(torch.zeros(1, 2))
        with pytest.raises(TrainingError, match=r"weight\.weight of shape \(1, 1\), which this run does not"):
            Loop(other, toy_images(), Plan(), RunStore(tmp_path)).run(resume=True)
