"""The loop: accumulation, schedules, phases, failures, and the log."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from regraft.core.errors import OutOfMemory, TrainingError
from regraft.core.gan import GAN
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan, _split
from regraft.training.observation import Observation
from regraft.training.updates import Adaptation, Optimiser, Phase, Update
from support.one_weight import one_weight, with_loss
from support.plugins import find_plugin
from support.running import Watching
from support.toys import toy_gan, toy_images


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 4, 9])
    def test_parts_give_the_gradient_of_the_whole(self, parts):
        weights = []
        for accumulate in (1, parts):
            made = one_weight(steps=1)
            Loop(made, toy_images(), Plan(accumulate=accumulate), RunStore(None)).run()
            weights.append(made.modules["weight"].weight.grad.clone())
        assert torch.allclose(*weights, atol=1e-6)

    def test_sizes(self):
        assert _split(10, 3) == [4, 3, 3]
        assert _split(2, 5) == [1, 1]


class TestOptimisers:
    def test_a_parameter_without_gradient_keeps_value_and_moments(self):
        """Adam moves a parameter by its momentum even for a zero gradient; without a gradient it must not."""
        made = one_weight(steps=6)
        module = made.modules["weight"]

        def sometimes(batch, rng):
            value = module.weight.square().sum() if len(seen) < 3 else torch.zeros((), requires_grad=True) * 1.0
            seen.append(module.weight.item())
            return value, {}

        seen = []
        Loop(with_loss(made, sometimes), toy_images(), Plan(), RunStore(None)).run()
        assert seen[0] != seen[1] != seen[2] != seen[3]
        assert seen[3] == seen[4] == seen[5]

    def test_schedule_scales_the_step_size(self):
        made = one_weight(steps=3, schedule=lambda step: 0.0 if step else 1.0)
        Loop(made, toy_images(), Plan(), RunStore(None)).run()
        # Adam's first step has the length of the step size; the others have none.
        assert made.modules["weight"].weight.item() == pytest.approx(2.9, abs=1e-4)


class TestFailures:
    def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(self, tmp_path):
        made = one_weight(steps=9)
        module, calls = made.modules["weight"], []

        def loss(batch, rng):
            calls.append(1)
            value = module.weight.square().sum()
            return (value * float("nan") if len(calls) == 6 else value), {}

        store = RunStore(tmp_path)
        with pytest.raises(TrainingError, match=r"update other is nan at step 5 \(phase only\)"):
            Loop(with_loss(made, loss), toy_images(), Plan(checkpoint_every=2), store).run()
        assert store.load_state()["position"]["total"] == 4

    def test_out_of_memory_says_what_to_lower(self):
        def loss(batch, rng):
            raise torch.OutOfMemoryError("CUDA out of memory")

        made = one_weight()
        with pytest.raises(OutOfMemory, match="--batch 2, or keep the batch .* --accumulate 2"):
            Loop(with_loss(made, loss), toy_images(), Plan(), RunStore(None)).run()

    def test_other_runtime_errors_pass(self):
        def loss(batch, rng):
            raise RuntimeError("shapes do not fit")

        made = one_weight()
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            Loop(with_loss(made, loss), toy_images(), Plan(), RunStore(None)).run()

    def test_a_damaged_state_is_a_clear_error(self, tmp_path):
        store = RunStore(tmp_path)
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "last.pt").write_bytes(b"half a file")
        with pytest.raises(TrainingError, match="the saved state is damaged"):
            Loop(one_weight(), toy_images(), Plan(), store).run(resume=True)


def test_the_log_holds_every_loss_and_is_cut_back_on_resume(tmp_path):
    store = RunStore(tmp_path)
    Loop(one_weight(steps=8), toy_images(), Plan(log_every=2, checkpoint_every=4), store).run()
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
        made = one_weight(steps=4, decay=decay)
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
        Loop(one_weight(), toy_images(), Plan(), RunStore(tmp_path)).run()
        other = one_weight()
        other.modules["weight"].weight = nn.Parameter(torch.zeros(1, 2))
        with pytest.raises(TrainingError, match=r"weight\.weight of shape \(1, 1\), which this run does not"):
            Loop(other, toy_images(), Plan(), RunStore(tmp_path)).run(resume=True)


class TestResult:
    def trained(self, best):
        observer = Watching(lambda step, generator: Observation({}, best=step == best))
        loop = Loop(TestPhases().two(), toy_images(), Plan(observe_every=2), RunStore(None), observer)
        loop.run()
        return loop

    def test_the_best_generator_is_kept_where_one_was_seen(self):
        loop = self.trained(best=2)
        last = {k: v.clone() for k, v in loop.generator().state_dict().items()}
        result = loop.result("best")
        assert (result.step, result.is_last) == (2, False)
        assert any(not torch.equal(v, last[k]) for k, v in result.generator.state_dict().items())
        assert all(torch.equal(v, loop.store.load_best(2)[k]) for k, v in result.generator.state_dict().items())
        assert not result.generator.training
        assert not any(p.requires_grad for p in result.generator.parameters())

    @pytest.mark.parametrize(("best", "keep"), [(2, "last"), (None, "best")])
    def test_else_the_last_one_is_kept(self, best, keep):
        loop = self.trained(best)
        last = {k: v.clone() for k, v in loop.generator().state_dict().items()}
        result = loop.result(keep)
        assert (result.step, result.is_last) == (loop.position.total, True)
        assert all(torch.equal(v, last[k]) for k, v in result.generator.state_dict().items())
