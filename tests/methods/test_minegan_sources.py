"""Mining several sources at once: choice of winners, probabilities, latents, and what stays untouched."""

import dataclasses
import json
import math

import pytest
import torch

import regraft
from regraft.composites.mixed import GREY, MixedGenerator, MixedLatent, match_size
from regraft.core import norms
from regraft.core.build import build_fresh, build_with
from regraft.core.config import Objective, Recipe, parse
from regraft.core.errors import AdapterError, ConfigError, Interrupted, MissingCapability
from regraft.core.gan import GAN, Provenance, tensor_digest
from regraft.core.latent import Latent
from regraft.core.networks import Batch, Critic, Description, Generator
from regraft.core.randomness import generator_at, row_generators
from regraft.methods._looks import Looks, nearest_kind
from regraft.methods._supersamples import Selector, SelectorConfig, Supersamples, win_shares
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.verbs import load
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import assemble
from support.plugins import find_plugin
from support.toys import toy_gan, toy_images

MINEGAN = find_plugin("methods", "minegan")
SETTINGS = {"mining_steps": 3, "finetuning_steps": 3, "supersamples": 50}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def settled(sources, seed=0, **settings):
    return MINEGAN.complete_config(parse(MINEGAN.Config, SETTINGS | settings, "minegan"), sources, 0, seed)


def attached(sources, seed=0, **settings):
    return MINEGAN.attach(sources, toy_images(), settled(sources, seed, **settings), generator_at(seed, "init"))


def run(adaptation, images, folder=None, resume=False, **plan):
    loop = Loop(adaptation, images, Plan(**{"checkpoint_every": 1000} | plan), RunStore(folder))
    loop.run(resume)
    return loop


def state_of(loop):
    tensors = {f"{m}.{k}": v.clone() for m, module in loop.adaptation.modules.items() for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v.clone() for k, v in loop.generator().state_dict().items()}
    for name, optimiser in loop.engine.optimisers.items():
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}.{number}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    return tensors


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture
def two():
    """Sources of two families, with latents of different sizes."""
    other = toy_gan("mlp", seed=1, latent_dim=9, widths=(16,))
    other.provenance = Provenance(name="other")
    return [toy_gan(), other]


@pytest.fixture
def families():
    """Small random GANs of four families: grey and colour, 8, 16 and 32 pixels."""
    made = [
        toy_gan("dcgan"),
        toy_gan("sngan", channels=3),
        toy_gan("biggan", channels=3, n_classes=3),
        toy_gan("stylegan2", channels=3),
    ]
    for gan, name in zip(made, ("dcgan", "sngan", "biggan", "stylegan2"), strict=True):
        gan.provenance = Provenance(name=name)
    return made


class Dots(Generator):
    """2-D Gaussian draws about a centre, as images of one row and two pixels."""

    channels, size, latent = 1, (1, 2), Latent(2)

    def __init__(self, x, y):
        super().__init__()
        self.centre = torch.nn.Parameter(torch.tensor([x, y]))

    def forward(self, z, y=None, *, psi=1.0, noise="const", rng=None):
        return (self.centre + 0.3 * psi * z).view(-1, 1, 1, 2)


class DotsCritic(Critic):
    """A small MLP over points."""

    channels, size = 1, (1, 2)

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = torch.nn.Linear(2, 32), torch.nn.Linear(32, 32)
            self.last = torch.nn.Linear(32, 1)

    @property
    def stages(self):
        return [self.first, self.second, self.last]

    def forward(self, x, y=None):
        h = torch.nn.functional.leaky_relu(self.first(x.flatten(1)), 0.2)
        return self.last(torch.nn.functional.leaky_relu(self.second(h), 0.2))[:, 0]


class Points:
    """Target points from two Gaussians."""

    n_classes = 0

    def __init__(self, share, n=400, seed=0):
        draws = torch.randn(n, 2, generator=rng(seed)) * 0.3
        draws[:, 0] += torch.where(torch.arange(n) < round(n * share), -1.0, 1.0)
        self.points, self.n = draws.view(n, 1, 1, 2), n

    def batch(self, index, rng, device):
        return Batch(self.points[index], index)


def dots_sources():
    recipe = Recipe(batch=32, critic_lr=2e-3, miner_lr=1e-3, ema_decay=0.0)
    objective = Objective(penalty_weight=0.2)
    return [
        GAN(Dots(-1.0, 0.0), DotsCritic(), objective=objective, recipe=recipe),
        GAN(Dots(1.0, 0.0), DotsCritic(1), objective=objective, recipe=recipe),
    ]


@pytest.mark.parametrize("rule", ["matched", "published"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_probabilities_recover_the_shares_of_two_gaussians(share, rule):
    steps = 300
    sources = dots_sources()
    config = settled(
        sources, mining_steps=steps, finetuning_steps=0, critic=0, augment=[], selector={"rule": rule}, supersamples=0
    )
    adaptation = MINEGAN.attach(sources, Points(share), config, generator_at(0, "init"))
    seen = []
    loop = Loop(adaptation, Points(share), Plan(log_every=1), RunStore(None), emit=lambda e: seen.append(e.get("p0")))
    loop.run()
    p = [value for value in seen if value is not None]
    assert len(p) == steps
    assert sum(p[steps // 2 :]) / (steps - steps // 2) == pytest.approx(share, abs=0.06)
    assert adaptation.generator.p.sum().item() == pytest.approx(1, abs=1e-6)


class TestUntouched:
    """Spec's properties (a), (b), (f)."""

    def test_mining_leaves_generators_and_sources_bit_identical(self, two):
        digests = [tensor_digest(s.generator) for s in two]
        adaptation = attached(two, mining_steps=4, finetuning_steps=0)
        run(adaptation, toy_images())
        assert digests == [tensor_digest(s.generator) for s in two]
        assert digests == [tensor_digest(part.source) for part in adaptation.generator.mined]

    def test_finetuning_changes_generators_and_not_sources(self, two):
        digests = [tensor_digest(s.generator) for s in two]
        adaptation = attached(two, mining_steps=0, finetuning_steps=4)
        run(adaptation, toy_images())
        assert digests == [tensor_digest(s.generator) for s in two]
        assert all(a != tensor_digest(part.source) for a, part in zip(digests, adaptation.generator.mined, strict=True))

    @pytest.mark.parametrize("phase", ["mining", "finetuning"])
    def test_what_wins_nothing_keeps_weights_and_moments(self, two, phase):
        steps = {"mining_steps": 3, "finetuning_steps": 0} if phase == "mining" else {"mining_steps": 0, "finetuning_steps": 3}
        adaptation = attached(two, **steps, selector={"rule": "published"})
        selector = adaptation.modules["selector"]
        loser = adaptation.generator.mined[1]
        loop = Loop(adaptation, toy_images(), Plan(), RunStore(None))
        # Two steps in which both may win, so that there are moments; then the second source cannot.
        before = {}
        step = loop._step

        def wrapped(phase):
            if loop.position.total == 2:
                selector.handicap.copy_(torch.tensor([1e6, -1e6]))
                before.update({k: v for k, v in state_of(loop).items() if "1" in k.split(".")[0] or "parts.1" in k})
                before.update({f"now.{k}": v.clone() for k, v in loser.state_dict().items()})
            step(phase)

        loop._step = wrapped
        loop.run()
        after = state_of(loop)
        moments = [k for k in before if k.startswith(("miner1.", "generator1."))]
        assert moments
        for name in moments:
            assert torch.equal(before[name], after[name]), name
        for name, value in loser.state_dict().items():
            assert torch.equal(before[f"now.{name}"], value), name

    def test_gradients_reach_winners_only(self, two):
        adaptation = attached(two, mining_steps=1)
        game = game_of(adaptation, two)
        game.selector.handicap.copy_(torch.tensor([-1e6, 1e6]))
        images, _ = game.fake(5, rng(), torch.device("cpu"))
        images.sum().backward()
        first, second = adaptation.generator.mined
        assert all(p.grad is None for p in first.parameters())
        assert any(p.grad is not None for p in second.parameters())


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
        selector = Selector(attached(two).generator, SelectorConfig())
        scores = torch.tensor([[1.0, 5.0, 0.0], [2.0, 4.0, -1.0]])
        assert selector.winners(scores, rng()).tolist() == [1, 0, 0]
        selector.handicap.copy_(torch.tensor([-2.0, 2.0]))
        assert selector.winners(scores, rng()).tolist() == [1, 1, 1]

    def test_ties_are_broken_by_lot(self, two):
        selector = Selector(attached(two).generator, SelectorConfig())
        won = selector.winners(torch.zeros(2, 4000), rng()).float().mean()
        assert won.item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))

    def test_winners_with_and_without_a_graph_are_the_same_images(self, two):
        adaptation = attached(two)
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
        adaptation = attached(sources)
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
        adaptation = attached(sources, critic=0, mining_steps=2, finetuning_steps=0)
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
        adaptation = attached(two, mining_steps=2)
        p = adaptation.generator.p
        adaptation.modules["selector"].handicap.copy_(torch.tensor([1e6, -1e6]))  # the first source wins every row
        update = adaptation.phases[0].updates[-1]
        update.loss(toy_images().batch(torch.arange(4), rng(), torch.device("cpu")), rng())
        assert torch.equal(p, torch.tensor([0.5, 0.5]))
        update.after_step()
        assert p.tolist() == pytest.approx([0.5 + 0.02 * 0.5, 0.5 - 0.02 * 0.5])
        update.after_step()
        assert p.tolist() == pytest.approx([0.51, 0.49]), "nothing was noted since"
        longer = attached(two, mining_steps=20)
        run(longer, toy_images())
        p = longer.generator.p
        assert not torch.equal(p, torch.tensor([0.5, 0.5]))
        assert p.sum().item() == pytest.approx(1, abs=1e-6)
        assert p.min() >= 0

    def test_running_average_of_wins(self, two):
        generator = attached(two).generator
        selector = Selector(generator, SelectorConfig(rule="published", rate=0.25))
        row = dataclasses.make_dataclass("R", ["winner", "scores"])
        selector.note(row(torch.tensor([0, 0, 0, 1]), torch.zeros(2, 4)))
        selector.note(row(torch.tensor([0, 0, 0, 0]), torch.zeros(2, 4)))
        selector.after_step()
        assert generator.p.tolist() == pytest.approx([0.5 + 0.25 * (7 / 8 - 0.5), 0.5 - 0.25 * (7 / 8 - 0.5)])
        assert torch.equal(selector.handicap, torch.zeros(2))

    def test_bookkeeping_agrees_with_an_estimate_on_frozen_networks(self, two):
        """With nothing trained, the running average of many wins is the win share within three binomial errors."""
        adaptation = attached(two)
        game = game_of(adaptation, two)
        n, batch = 10_000, 50
        found = win_shares(game, n, seed=1, batch=batch)
        wins = torch.zeros(2)
        p = torch.zeros(2)
        for step in range(n // batch):
            with torch.no_grad():
                game.fake(batch, generator_at(9, "step", step), torch.device("cpu"))
            selector = Selector(adaptation.generator, SelectorConfig(rule="published", rate=1 / (step + 1)))
            selector.note(game.row)
            selector.after_step()
            p = adaptation.generator.p
            wins += torch.bincount(game.row.winner, minlength=2)
        assert torch.allclose(p, wins / n, atol=1e-5)
        error = math.sqrt(2 * float(found[0] * found[1]) / n)
        assert abs(float(found[0] - p[0])) < 3 * error
        assert found.sum().item() == pytest.approx(1)

    def test_share_takes_confusion_out(self):
        selector = Looks(2, 0.02)
        selector.confusion.copy_(torch.tensor([[0.8, 0.2], [0.1, 0.9]]))
        share = torch.tensor([0.3, 0.7])
        selector.seen.copy_(share @ selector.confusion)
        for _ in range(20):
            selector.take_confusion_out()
        assert torch.allclose(selector.shares, share, atol=1e-3)

    def test_nearest_kind_of_separate_clouds(self):
        clouds = torch.stack([torch.randn(8, 3, generator=rng(k)) * 0.1 + 5 * k for k in range(3)])
        real = torch.cat([clouds[0, :3] + 0.01, clouds[2, :1] + 0.01])
        confusion, looks = nearest_kind(clouds, real)
        assert torch.equal(confusion, torch.eye(3))
        assert looks.tolist() == [0.75, 0.0, 0.25]

    def test_nearest_kind_of_equal_clouds_is_chance(self):
        confusion, looks = nearest_kind(torch.randn(2, 500, 2, generator=rng()), torch.randn(2000, 2, generator=rng(1)))
        assert confusion[0, 0].item() == pytest.approx(0.5, abs=0.1)
        assert looks[0].item() == pytest.approx(0.5, abs=0.1)


class TestLatent:
    def latent(self, p=(0.2, 0.8)):
        return MixedLatent(6, parts=(Latent(3), Latent(5, "uniform")), probabilities=p)

    def test_rows_are_functions_of_seed_and_index(self):
        latent = self.latent()
        whole = latent.at(3, range(50))
        assert torch.equal(whole[17:23], latent.at(3, range(17, 23)))
        assert torch.equal(whole[40:41], latent.at(3, [40]))

    def test_source_frequencies_and_own_latents(self):
        z = self.latent().sample(20_000, rng())
        first = z[:, 0] == 0
        assert first.float().mean().item() == pytest.approx(0.2, abs=4 * 0.4 / math.sqrt(20_000))
        assert (z[first, 4:] == 0).all()
        assert z[~first, 1:].abs().max() <= 1
        assert z[first, 1:4].std().item() == pytest.approx(1, abs=0.05)

    def test_a_source_keeps_its_images_when_the_probabilities_change(self):
        a, b = self.latent((0.5, 0.5)).at(0, range(40)), self.latent((0.9, 0.1)).at(0, range(40))
        same = a[:, 0] == b[:, 0]
        assert 0 < same.sum() < 40
        assert torch.equal(a[same], b[same])

    def test_a_source_of_probability_zero_is_never_drawn(self):
        assert (self.latent((0.0, 1.0)).sample(2000, rng())[:, 0] == 1).all()
        assert (self.latent((1.0, 0.0)).sample(2000, rng())[:, 0] == 0).all()

    def test_row_generators_and_one_source(self):
        latent = self.latent().only(0)
        z = latent.sample(5, row_generators(0, "latent", range(5)))
        assert (z[:, 0] == 0).all()


class TestImages:
    def test_grey_and_size(self):
        colour = torch.rand(2, 3, 8, 8, generator=rng())
        grey = match_size(colour, (8, 8), 1)
        assert torch.allclose(grey[:, 0], sum(weight * colour[:, k] for k, weight in enumerate(GREY)))
        assert torch.equal(match_size(grey, (8, 8), 3), grey.expand(-1, 3, -1, -1))
        # Halving with a triangle filter of support 2 on a constant image keeps it.
        assert torch.allclose(match_size(torch.full((1, 1, 8, 8), 0.3), (4, 6), 1), torch.full((1, 1, 4, 6), 0.3))
        assert match_size(colour, (8, 8), 3) is colour

    def test_resize_is_differentiable(self):
        x = torch.rand(1, 3, 8, 8, generator=rng()).requires_grad_()
        match_size(x, (4, 4), 1).sum().backward()
        assert (x.grad != 0).all()

    def test_samples_do_not_depend_on_the_batch(self, families):
        generator = attached(families).generator.eval()
        gan = GAN(generator)
        whole = gan.sample(12, 5, batch=12)
        for batch in (1, 5):
            assert (gan.sample(12, 5, batch=batch) - whole).abs().max() < 1e-4

    def test_forced_source(self, two):
        generator = attached(two).generator.eval()
        for source in (0, 1):
            z = generator.only(source).latent.at(0, range(6))
            assert (z[:, 0] == source).all()
            images = generator.part_images(source, z[:, 1 : 1 + generator.mined[source].latent.dim])
            assert torch.equal(generator.only(source)(z), images)
        assert generator.p.tolist() == [0.5, 0.5]


class TestCritic:
    def test_it_is_chosen_by_the_seed_among_those_there_are(self, two):
        bare = GAN(two[0].generator)
        assert {settled([*two, bare], seed).critic for seed in range(30)} == {0, 1}
        assert settled([bare, two[1]], 5).critic == 1
        assert settled(two, 4).critic == settled(two, 4).critic

    def test_by_name_by_number_and_fresh(self, two):
        assert settled(two, critic="other").critic == 1
        assert MINEGAN.lead(two, settled(two, critic=1)) is two[1]
        adaptation = attached(two, critic="fresh")
        assert tensor_digest(adaptation.critic) != tensor_digest(two[0].critic)
        bare = [GAN(s.generator) for s in two]
        MINEGAN.check(bare, "minegan")
        run(attached(bare, critic="fresh"), toy_images())

    def test_mistakes(self, two):
        with pytest.raises(ConfigError, match=r"otter.*did you mean other"):
            settled(two, critic="otter")
        with pytest.raises(ConfigError, match="sources 0 to 1"):
            settled(two, critic=2)
        assert settled([GAN(s.generator) for s in two]).critic == "fresh"
        with pytest.raises(MissingCapability, match=r"critic=0: that source has no critic; choose one of 1, or critic=fresh"):
            settled([GAN(two[0].generator), two[1]], critic=0)
        with pytest.raises(ConfigError, match=r"sources 0 and 2 are called so; say which by its number"):
            settled([two[0], two[1], two[0]], critic=two[0].provenance.name)
        with pytest.raises(ConfigError, match="need regularizer="):
            attached(two, regularizer_weight=1)
        MINEGAN.check([GAN(two[0].generator), two[1]], "minegan")

    def test_classes_kept_cannot_be_mixed(self):
        sources = [toy_gan(n_classes=3), toy_gan(n_classes=3)]
        with pytest.raises(MissingCapability, match="classes=onehot"):
            attached(sources, miner={"classes": "keep"})


def test_every_family_at_once_interrupted_and_resumed(families, tmp_path):
    settings = {"critic": "sngan", "mining_steps": 3, "finetuning_steps": 3}
    size = families[1].generator.size[0]
    images = toy_images(size=size, channels=3)
    whole = run(attached(families, **settings), images, tmp_path / "whole", accumulate=2)
    for stop_at in (2, 3, 5):
        folder = tmp_path / f"broken-{stop_at}"
        broken = Loop(attached(families, **settings), images, Plan(accumulate=2, checkpoint_every=1000), RunStore(folder))
        step = broken._step

        def wrapped(phase, broken=broken, step=step, stop_at=stop_at):
            broken._stop_requested = broken.position.total == stop_at - 1
            step(phase)

        broken._step = wrapped
        with pytest.raises(Interrupted):
            broken.run()
        resumed = run(attached(families, **settings), images, folder, resume=True, accumulate=2)
        assert_same(state_of(whole), state_of(resumed))
    generator = whole.generator()
    assert torch.isfinite(GAN(generator).sample(8, 0)).all()
    again = build_with(generator.describe(), generator.state_dict(), "test")
    assert torch.equal(GAN(again).sample(8, 0), GAN(generator).sample(8, 0))


def test_adapt_adapter_convert_and_sample(two, tmp_path, photos):
    references = []
    for number, gan in enumerate(two):
        references.append(regraft.convert(gan, tmp_path / f"source-{number}"))
    events = []
    run = regraft.adapt(
        photos,
        references,
        out=tmp_path / "run",
        steps=6,
        mining_steps=3,
        supersamples=100,
        held_out=2,
        seed=1,
        recipe={"batch": 4},
        keep="last",
        on_event=events.append,
    )
    assert isinstance(run.gan.generator, MixedGenerator)
    record = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert record["config"]["critic"] in (0, 1)
    assert len(record["findings"]["p"]) == 2
    assert record["findings"]["supersamples"] == 100
    assert sum(record["findings"]["win_shares"]) == pytest.approx(1, abs=1e-3)
    assert any(e.get("event") == "findings" for e in events)
    assert any("p1" in e for e in events if e.get("event") == "step")
    want = run.gan.sample(9, 2)
    assert torch.equal(regraft.load_adapter(tmp_path / "run").sample(9, 2), want)
    with pytest.raises(AdapterError, match="source 1 must be"):
        regraft.load_adapter(tmp_path / "run", [references[1], references[0]])
    with pytest.raises(AdapterError, match="2 source"):
        regraft.load_adapter(tmp_path / "run", references[:1])
    alone = regraft.convert(tmp_path / "run", tmp_path / "alone")
    assert torch.equal(regraft.load(alone).sample(9, 2), want)
    only = regraft.sample(alone, n=4, seed=2, source_index=1)
    assert only.shape == (4, 1, 8, 8)
    with pytest.raises(ConfigError, match="sources 0 to 1"):
        regraft.sample(alone, n=4, source_index=2)
    with pytest.raises(ConfigError, match="one source only"):
        regraft.sample(references[0], n=4, source_index=0)
    regraft.interpolate(alone, tmp_path / "walk.gif", keys=3, frames=2, source_index=1)
    assert (tmp_path / "walk.gif").is_file()
    assert load.load(tmp_path / "run").generator.size == (8, 8)


def test_mining_alone_stores_miners_and_probabilities_only(two, tmp_path, photos):
    run = regraft.adapt(
        photos,
        two,
        out=tmp_path / "run",
        mining_steps=3,
        finetuning_steps=0,
        supersamples=0,
        held_out=2,
        recipe={"batch": 4},
        keep="last",
    )
    stored = adapter._read_tensors(RunFolder(tmp_path / "run").adapter_tensors)
    assert stored
    assert all(".miner." in name or name == "p" for name in stored)
    assert run.step == 3


def test_a_share_that_went_to_nothing_comes_back():
    looks = Looks(2, 0.02)
    looks.confusion.copy_(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    for seen, want in (([0.9, 0.1], [1.0, 0.0]), ([0.1, 0.9], [0.0, 1.0]), ([0.5, 0.5], [0.5, 0.5])):
        looks.seen.copy_(torch.tensor(seen))
        for _ in range(100):
            looks.take_confusion_out()
        assert looks.shares.tolist() == pytest.approx(want, abs=0.03)


def batch_sources():
    """Sources much alike that are fine-tuned on batch statistics, judged by critics with batch norms."""
    made = []
    for seed in (0, 1):
        plain = toy_gan("dcgan")
        for k, parameter in enumerate(plain.generator.parameters()):
            parameter.add_(0.1 * seed * torch.randn(parameter.shape, generator=rng(k)))
        layers = plain.critic.describe().config["layers"]
        config = plain.critic.describe().config | {"layers": [*({**r, "norm": "batch"} for r in layers[:-1]), layers[-1]]}
        critic = build_fresh(Description("dcgan", "critic", config), seed)
        gan = GAN(plain.generator, critic, objective=plain.objective, provenance=Provenance(name=f"source {seed}"))
        made.append(gan.trained_with(gan.objective, Recipe(generator_norm="batch", critic_norm="batch", batch=4)))
    return made


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
    adaptation = attached(two)
    assert "win_shares" in adaptation.findings(adaptation.generator, True)
    found = adaptation.findings(adaptation.generator, False)
    assert "win_shares" not in found
    assert "p" in found


def test_a_finished_run_that_is_resumed_says_the_same(tmp_path, photos):
    references = [regraft.convert(gan, tmp_path / f"source-{k}") for k, gan in enumerate(batch_sources())]
    settings = {"mining_steps": 3, "finetuning_steps": 3, "supersamples": 200, "held_out": 2, "keep": "last"}
    once = regraft.adapt(photos, references, out=tmp_path / "run", **settings)
    again = regraft.adapt(resume=True, out=tmp_path / "run")
    assert again.findings == once.findings
    assert torch.equal(again.gan.sample(4, 0), once.gan.sample(4, 0))


@pytest.mark.parametrize("family", ["dcgan", "progan"])
def test_shares_are_counted_with_one_image_at_a_time(family):
    sources = [toy_gan(family, seed=seed) for seed in (0, 1)]
    assert sources[0].critic.batch_dependent == (family == "progan")
    adaptation = attached(sources, mining_steps=3, finetuning_steps=0)
    assert "target_shares" not in adaptation.findings(adaptation.generator, True)
    run(adaptation, toy_images(), accumulate=adaptation.batch)
    assert adaptation.modules["selector"].looks.steps == 3
    assert sum(adaptation.findings(adaptation.generator, True)["target_shares"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("method", ["minegan", "bsa"])
def test_a_mixture_is_no_source_to_mine(two, tmp_path, photos, method):
    mixture = regraft.adapt(
        photos, two, write=False, mining_steps=2, finetuning_steps=0, supersamples=0, held_out=2, recipe={"batch": 4}
    ).gan
    with pytest.raises(MissingCapability, match="several sources by turns.*transfergan or freezed"):
        regraft.adapt(photos, mixture, method=method, steps=2, write=False)
    made = regraft.adapt(photos, mixture, method="transfergan", steps=2, write=False, recipe={"batch": 4})
    assert torch.isfinite(made.gan.sample(4, 0)).all()


def test_class_weights_of_several_sources_are_said_to_do_nothing():
    sources = [toy_gan(n_classes=3), toy_gan(n_classes=3, seed=1)]
    assert any("class_weight is for a single source" in n for n in attached(sources, miner={"class_weight": 2.0}).notes)
    assert not any("class_weight" in n for n in attached(sources).notes)
