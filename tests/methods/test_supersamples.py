"""Games of several sources: who wins a row, what the winners' images are, and how probabilities follow the wins."""

import dataclasses
import math

import pytest
import torch

import regraft
from regraft.core import norms
from regraft.core.config import Recipe
from regraft.core.randomness import generator_at
from regraft.methods._supersamples import Selector, SelectorConfig, Supersamples, win_shares
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import assemble
from support.mining import attach_to_several, batch_sources
from support.running import run
from support.toys import rng, toy_gan, toy_images


def game_of(adaptation, sources):
    return Supersamples(
        adaptation.generator,
        adaptation.critic,
        adaptation.modules["selector"],
        sources[0].objective,
        [s.recipe for s in sources],
        (),
        0.0,
    )


class TestWinners:
    def test_each_row_is_won_by_its_best_score(self, two):
        selector = Selector(attach_to_several(two).generator, SelectorConfig())
        scores = torch.tensor([[1.0, 5.0, 0.0], [2.0, 4.0, -1.0]])
        assert selector.winners(scores, rng()).tolist() == [1, 0, 0]
        selector.handicap.copy_(torch.tensor([-2.0, 2.0]))
        assert selector.winners(scores, rng()).tolist() == [1, 1, 1]

    def test_ties_are_broken_by_lot(self, two):
        selector = Selector(attach_to_several(two).generator, SelectorConfig())
        won = selector.winners(torch.zeros(2, 4000), rng()).float().mean()
        assert won.item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))

    def test_winners_with_and_without_a_graph_are_the_same_images(self, two):
        adaptation = attach_to_several(two)
        game = game_of(adaptation, two)
        made, _ = game.fake(6, rng(3), torch.device("cpu"))
        with torch.no_grad():
            again, _ = game.fake(6, rng(3), torch.device("cpu"))
        assert made.requires_grad
        assert not again.requires_grad
        assert (made - again).abs().max() < 1e-5

    def test_winners_with_random_noise_are_made_again_with_their_noise(self):
        sources = [toy_gan("stylegan2"), toy_gan("stylegan2", seed=1)]
        sources = [s.trained_with(s.objective, Recipe(batch=4, noise="random")) for s in sources]
        adaptation = attach_to_several(sources)
        with torch.no_grad():
            for part in adaptation.generator.mined:
                for name, p in part.source.named_parameters():
                    if "noise_strength" in name:
                        p.fill_(0.5)
        game = game_of(adaptation, sources)
        made, _ = game.fake(6, rng(3), torch.device("cpu"))
        with torch.no_grad():
            again, _ = game.fake(6, rng(3), torch.device("cpu"))
            other, _ = game.fake(6, rng(4), torch.device("cpu"))
        assert (made - again).abs().max() < 1e-4
        assert (made - other).abs().max() > 1e-2

    def test_a_batch_dependent_critic_scores_each_source_alone_and_the_winners_together(self):
        sources = [toy_gan(), toy_gan("mlp", seed=1)]
        adaptation = attach_to_several(sources, critic=0, mining_steps=2, finetuning_steps=0)
        norms.set_training(adaptation.critic, "batch")
        batches = []
        forward = adaptation.critic.forward

        def seen(x, y=None):
            batches.append(len(x))
            return forward(x, y)

        adaptation.critic.forward = seen
        update = adaptation.phases[0].updates[-1]
        update.loss(toy_images().batch(torch.arange(4), rng(), torch.device("cpu")), rng())
        assert batches == [4, 4, 4]  # first source, second source, winners


class TestProbabilities:
    def test_they_move_after_steps_only_and_stay_a_distribution(self, two):
        adaptation = attach_to_several(two, mining_steps=2)
        p = adaptation.generator.p
        adaptation.modules["selector"].handicap.copy_(torch.tensor([1e6, -1e6]))  # the first source wins every row
        update = adaptation.phases[0].updates[-1]
        update.loss(toy_images().batch(torch.arange(4), rng(), torch.device("cpu")), rng())
        assert torch.equal(p, torch.tensor([0.5, 0.5]))
        update.after_step()
        assert p.tolist() == pytest.approx([0.5 + 0.02 * 0.5, 0.5 - 0.02 * 0.5])
        update.after_step()
        assert p.tolist() == pytest.approx([0.51, 0.49]), "nothing was noted since"
        longer = attach_to_several(two, mining_steps=20)
        run(longer, toy_images())
        p = longer.generator.p
        assert not torch.equal(p, torch.tensor([0.5, 0.5]))
        assert p.sum().item() == pytest.approx(1, abs=1e-6)
        assert p.min() >= 0

    def test_running_average_of_wins(self, two):
        generator = attach_to_several(two).generator
        selector = Selector(generator, SelectorConfig(rule="published", rate=0.25))
        row = dataclasses.make_dataclass("R", ["winner", "scores"])
        selector.note(row(torch.tensor([0, 0, 0, 1]), torch.zeros(2, 4)))
        selector.note(row(torch.tensor([0, 0, 0, 0]), torch.zeros(2, 4)))
        selector.after_step()
        assert generator.p.tolist() == pytest.approx([0.5 + 0.25 * (7 / 8 - 0.5), 0.5 - 0.25 * (7 / 8 - 0.5)])
        assert torch.equal(selector.handicap, torch.zeros(2))

    def test_bookkeeping_agrees_with_an_estimate_on_frozen_networks(self, two):
        """With nothing trained, the running average of many wins is the win share within three binomial errors."""
        adaptation = attach_to_several(two)
        game = game_of(adaptation, two)
        n, batch = 10_000, 50
        found = win_shares(game, n, seed=1, batch=batch)
        wins = torch.zeros(2)
        p = torch.zeros(2)
        for step in range(n // batch):
            with torch.no_grad():
                rows = game.rows(batch, generator_at(9, "step", step), torch.device("cpu"))
            selector = Selector(adaptation.generator, SelectorConfig(rule="published", rate=1 / (step + 1)))
            selector.note(rows)
            selector.after_step()
            p = adaptation.generator.p
            wins += torch.bincount(rows.winner, minlength=2)
        assert torch.allclose(p, wins / n, atol=1e-5)
        error = math.sqrt(2 * float(found[0] * found[1]) / n)
        assert abs(float(found[0] - p[0])) < 3 * error
        assert found.sum().item() == pytest.approx(1)


def test_gradients_reach_winners_only(two):
    adaptation = attach_to_several(two, mining_steps=1)
    game = game_of(adaptation, two)
    game.selector.handicap.copy_(torch.tensor([-1e6, 1e6]))
    images, _ = game.fake(5, rng(), torch.device("cpu"))
    images.sum().backward()
    first, second = adaptation.generator.mined
    assert all(p.grad is None for p in first.parameters())
    assert any(p.grad is not None for p in second.parameters())


def test_wins_are_counted_as_in_training(tmp_path, photos):
    """The probabilities followed wins on batch statistics; stored ones, on which samples are made, give other wins."""
    settings = {"mining_steps": 3, "finetuning_steps": 3, "supersamples": 400, "held_out": 2, "keep": "last"}
    told = regraft.adapt(photos, batch_sources(), method="minegan", write=False, **settings).findings
    listed = regraft.open_images(photos)
    job = adapt_job(listed, batch_sources(), "minegan", None, None, settings)
    prepared = prepare.prepare(job, batch_sources(), listed)
    loop = assemble(prepared, None, lambda event: None)
    loop.run()
    game = loop.adaptation.findings.args[0]
    assert told["win_shares"] == pytest.approx(win_shares(game, 400, batch=4).tolist(), abs=1e-3)
    game.critic.eval()
    assert told["win_shares"] != pytest.approx(win_shares(game, 400, batch=4).tolist(), abs=1e-3)


def test_wins_are_not_said_of_an_earlier_generator(two):
    adaptation = attach_to_several(two)
    assert "win_shares" in adaptation.findings(adaptation.generator, True)
    found = adaptation.findings(adaptation.generator, False)
    assert "win_shares" not in found
    assert "p" in found


@pytest.mark.parametrize("family", ["dcgan", "progan"])
def test_shares_are_counted_with_one_image_at_a_time(family):
    sources = [toy_gan(family, seed=seed) for seed in (0, 1)]
    assert sources[0].critic.batch_dependent == (family == "progan")
    adaptation = attach_to_several(sources, mining_steps=3, finetuning_steps=0)
    assert "target_shares" not in adaptation.findings(adaptation.generator, True)
    run(adaptation, toy_images(), accumulate=adaptation.batch)
    assert adaptation.modules["selector"].looks.steps == 3
    assert sum(adaptation.findings(adaptation.generator, True)["target_shares"]) == pytest.approx(1, abs=1e-3)
