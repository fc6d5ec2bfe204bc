"""The adversarial game of generators with styles: mixed styles, lazy R1, path lengths, and the mean style afterwards."""

import dataclasses

import pytest
import torch

from regraft.core.config import Objective, Recipe, parse
from regraft.core.randomness import generator_at
from regraft.methods._adversarial import Game, PathLengthMean
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.training.objectives import penalty
from support.plugins import find_plugin
from support.running import assert_same, attached, run, state_of, stop_and_resume
from support.toys import toy_gan, toy_images

METHODS = ["transfergan", "freezed", "minegan", "scratch"]
LAZY = Objective(penalty_weight=0.5, penalty_every=2, path_length_weight=2.0, path_length_every=2)
STYLED = Recipe(batch=4, noise="random", style_mixing=0.9, ema_decay=0.5)


def source(**settings):
    return toy_gan("stylegan2", **settings).trained_with(LAZY, STYLED)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_styles(method, classes):
    gan = source(n_classes=classes)
    loop = run(attached(method, gan, toy_images()), toy_images(), accumulate=2)
    seen = loop.adaptation.modules["path_mean"]
    assert seen.count > 0
    assert seen.mean > 0
    assert torch.isfinite(
        loop.generator()(gan.generator.latent.at(0, range(2)), torch.tensor([0, 0]) if classes else None)
    ).all()


@pytest.mark.parametrize("stop_at", [1, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_runs_equal_unbroken_ones(method, stop_at, tmp_path):
    """The running mean of path lengths among them."""

    def make():
        return attached(method, source(), toy_images())

    whole = run(make(), toy_images(), tmp_path / "a", accumulate=2)
    resumed = stop_and_resume(make, toy_images(), tmp_path / "b", stop_at, accumulate=2)
    assert state_of(whole)["path_mean.count"] >= 2
    assert_same(state_of(whole), state_of(resumed))


def test_mining_alone_has_no_path_lengths_and_an_uncorrected_step():
    """Nothing of the synthesis moves, so there is nothing to regularise."""
    adaptation = attached("minegan", source(), toy_images(), mining_steps=2)
    mining, finetuning = adaptation.phases
    assert [u.name for u in mining.updates] == ["critic", "penalty", "miner"]
    assert [u.name for u in finetuning.updates] == ["critic", "penalty", "generator", "path_length"]
    lazy = {o.name: o.lazy for o in adaptation.optimisers}
    assert lazy == {"critic": 2, "miner": None, "generator": 2}


def test_families_without_styles_are_left_alone():
    gan = toy_gan("dcgan").trained_with(LAZY, STYLED)
    adaptation = attached("transfergan", gan, toy_images())
    assert set(adaptation.modules) == {"generator", "critic"}
    assert [u.name for u in adaptation.phases[0].updates] == ["critic", "penalty", "generator"]
    assert torch.isfinite(run(adaptation, toy_images(), accumulate=2).generator()(gan.generator.latent.at(0, range(2)))).all()


def test_running_state_moves_after_the_step_only():
    gan = source()
    adaptation = attached("transfergan", gan, toy_images())
    update = adaptation.phases[0].updates[-1]
    before = {k: v.clone() for m in adaptation.modules.values() for k, v in m.named_buffers()}
    batch = toy_images().batch(torch.arange(4), torch.Generator(), torch.device("cpu"))
    adaptation.generator.requires_grad_(True)
    _, values = update.loss(batch, torch.Generator().manual_seed(0))
    after = {k: v for m in adaptation.modules.values() for k, v in m.named_buffers()}
    assert all(torch.equal(before[k], after[k]) for k in before)
    update.after_step()
    mean = adaptation.modules["path_mean"]
    assert mean.mean == values["path_length"]
    assert mean.count == 1


def test_running_mean_is_plain_at_first_and_a_moving_average_later():
    mean = PathLengthMean(decay=0.25)
    values = [4.0, 8.0, 6.0, 2.0, 2.0, 2.0]
    expected = [4.0, 6.0, 6.0, 5.0, 4.25, 3.6875]
    for value, then in zip(values, expected, strict=True):
        target = mean.target(torch.full((3,), value))
        mean.after_step()
        assert mean.mean == pytest.approx(then)
        assert target == pytest.approx(then)
    # Micro-batches of one step count by their size.
    mean = PathLengthMean()
    mean.target(torch.tensor([1.0, 1.0, 1.0]))
    mean.target(torch.tensor([5.0]))
    mean.after_step()
    assert mean.mean == pytest.approx(2.0)


def test_lazy_r1_is_r1_in_expectation():
    """Computed every k-th step and k times as strong: the sum over steps is the same."""
    gan = source()
    critic = gan.critic.requires_grad_(True)
    images = toy_images().tensor()[:4]
    every = Objective(penalty_weight=0.7)
    lazy = Objective(penalty_weight=0.7, penalty_every=16)

    def gradient(objective):
        critic.zero_grad()
        penalty(objective, critic, images, images, torch.Generator()).backward()
        return torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])

    assert torch.allclose(gradient(lazy), 16 * gradient(every))
    game = Game(gan.generator, critic, lazy, STYLED)
    optimiser = game.optimiser("critic", [(list(critic.parameters()), 1e-3)])
    assert game.penalty_update(optimiser).every == 16
    assert optimiser.lazy == 16


def test_styles_are_mixed_as_often_as_said():
    gan = source()
    game = Game(gan.generator, gan.critic, LAZY, STYLED)
    z = gan.generator.latent.at(0, range(2))
    plain = gan.generator.mapping(z)
    mixed = 0
    for seed in range(200):
        w = game._mixed(gan.generator.styles, z, None, torch.Generator().manual_seed(seed))
        rows = (w == plain).all(2).all(0)
        assert rows[0]
        first = int(rows.sum())
        assert rows[:first].all()
        mixed += first < len(rows)
    assert 165 <= mixed <= 193


def test_the_mean_style_follows_what_was_trained():
    gan = source()
    moved = run(attached("transfergan", gan, toy_images()), toy_images(), accumulate=2).generator()
    w = moved.styles.mapping(moved.latent.sample(20000, torch.Generator().manual_seed(3)), None)[:, 0]
    assert torch.allclose(moved.styles.mean, w.mean(0), atol=0.03)
    mined = run(attached("minegan", gan, toy_images(), mining_steps=6), toy_images(), accumulate=2).generator()
    w = mined.styles.mapping(mined.latent.sample(20000, torch.Generator().manual_seed(3)), None)[:, 0]
    assert torch.allclose(mined.styles.mean, w.mean(0), atol=0.03)
    untouched = find_plugin("methods", "untouched")
    kept = run(
        untouched.attach([gan], toy_images(), untouched.Config(), generator_at(0, "init")), toy_images(), accumulate=2
    ).generator()
    assert torch.equal(kept.mapping.w_avg, gan.generator.mapping.w_avg)


@pytest.mark.parametrize("method", ["transfergan", "minegan"])
def test_half_precision_trains(method):
    adaptation = attached(method, source(), toy_images())
    loop = Loop(adaptation, toy_images(), Plan(precision="bfloat16"), RunStore(None))
    loop.run()
    assert all(torch.isfinite(p).all() for p in loop.generator().parameters())
    assert loop.adaptation.modules["path_mean"].mean > 0


@pytest.mark.parametrize(("critic_steps", "every"), [(1, 16), (5, 16), (3, 2), (4, 4), (2, 3)])
def test_a_lazy_penalty_counts_the_steps_of_the_critic(critic_steps, every):
    """Of 160 critic steps every k-th has a penalty, however many of them a step has; the optimiser is corrected for that."""
    objective = Objective(penalty="r1", penalty_every=every, critic_steps=critic_steps)
    source = toy_gan().trained_with(objective, Recipe(batch=2))
    steps = 160 // critic_steps
    config = parse(find_plugin("methods", "transfergan").Config, {"steps": steps, "augment": []}, "test")
    adaptation = find_plugin("methods", "transfergan").attach([source], toy_images(), config, generator_at(0, "init"))
    counts = dict.fromkeys(("critic", "penalty", "generator"), 0)

    def counted(update):
        def after_step():
            counts[update.name] += 1
            if update.after_step is not None:
                update.after_step()

        return dataclasses.replace(update, after_step=after_step)

    phase = adaptation.phases[0]
    phase = dataclasses.replace(phase, updates=[counted(update) for update in phase.updates])
    run(dataclasses.replace(adaptation, phases=[phase]), toy_images())
    critic_count = steps * critic_steps
    assert counts == {"critic": critic_count, "penalty": -(-critic_count // every), "generator": steps}
    assert {update.name: update.optimisers[0].lazy for update in phase.updates}["penalty"] == every
