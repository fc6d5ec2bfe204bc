"""MineGAN on several sources: probabilities that recover shares, what stays untouched, the critic, adapters and resumption."""

import json

import pytest
import torch

import regraft
from regraft.composites.mixed import MixedGenerator
from regraft.core.build import build_with
from regraft.core.config import Objective, Recipe
from regraft.core.errors import AdapterError, ConfigError, MissingCapability
from regraft.core.gan import GAN, tensor_digest
from regraft.core.latent import Latent
from regraft.core.networks import Batch, Critic, Generator
from regraft.core.randomness import generator_at
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.verbs import load
from support.mining import MINEGAN, attach_to_several, batch_sources, complete_settings
from support.running import assert_same, at_step, run, state_of, stop_and_resume
from support.toys import rng, toy_gan, toy_images


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

    n_classes, classes, labels = 0, (), None

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
    config = complete_settings(
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
        adaptation = attach_to_several(two, mining_steps=4, finetuning_steps=0)
        run(adaptation, toy_images())
        assert digests == [tensor_digest(s.generator) for s in two]
        assert digests == [tensor_digest(part.source) for part in adaptation.generator.mined]

    def test_finetuning_changes_generators_and_not_sources(self, two):
        digests = [tensor_digest(s.generator) for s in two]
        adaptation = attach_to_several(two, mining_steps=0, finetuning_steps=4)
        run(adaptation, toy_images())
        assert digests == [tensor_digest(s.generator) for s in two]
        assert all(a != tensor_digest(part.source) for a, part in zip(digests, adaptation.generator.mined, strict=True))

    @pytest.mark.parametrize("phase", ["mining", "finetuning"])
    def test_what_wins_nothing_keeps_weights_and_moments(self, two, phase):
        steps = {"mining_steps": 3, "finetuning_steps": 0} if phase == "mining" else {"mining_steps": 0, "finetuning_steps": 3}
        adaptation = attach_to_several(two, **steps, selector={"rule": "published"})
        selector = adaptation.modules["selector"]
        loser = adaptation.generator.mined[1]
        loop = Loop(adaptation, toy_images(), Plan(), RunStore(None))
        # Two steps in which both may win, so that there are moments; then the second source cannot.
        before = {}

        def hinder():
            selector.handicap.copy_(torch.tensor([1e6, -1e6]))
            before.update(state_of(loop))
            before.update({f"now.{k}": v.clone() for k, v in loser.state_dict().items()})

        at_step(loop, 3, hinder)
        loop.run()
        after = state_of(loop)
        moments = [k for k in before if k.startswith(("optimiser.miner1.", "optimiser.generator1."))]
        assert moments
        for name in moments:
            assert torch.equal(before[name], after[name]), name
        for name, value in loser.state_dict().items():
            assert torch.equal(before[f"now.{name}"], value), name


class TestCritic:
    def test_it_is_chosen_by_the_seed_among_those_there_are(self, two):
        bare = GAN(two[0].generator)
        assert {complete_settings([*two, bare], seed).critic for seed in range(30)} == {0, 1}
        assert complete_settings([bare, two[1]], 5).critic == 1
        assert complete_settings(two, 4).critic == complete_settings(two, 4).critic

    def test_by_name_by_number_and_fresh(self, two):
        assert complete_settings(two, critic="other").critic == 1
        assert MINEGAN.lead(two, complete_settings(two, critic=1)) is two[1]
        adaptation = attach_to_several(two, critic="fresh")
        assert tensor_digest(adaptation.critic) != tensor_digest(two[0].critic)
        bare = [GAN(s.generator) for s in two]
        MINEGAN.check(bare, "minegan")
        run(attach_to_several(bare, critic="fresh"), toy_images())

    def test_mistakes(self, two):
        with pytest.raises(ConfigError, match=r"otter.*did you mean other"):
            complete_settings(two, critic="otter")
        with pytest.raises(ConfigError, match="sources 0 to 1"):
            complete_settings(two, critic=2)
        assert complete_settings([GAN(s.generator) for s in two]).critic == "fresh"
        with pytest.raises(MissingCapability, match=r"critic=0: that source has no critic; choose one of 1, or critic=fresh"):
            complete_settings([GAN(two[0].generator), two[1]], critic=0)
        with pytest.raises(ConfigError, match=r"sources 0 and 2 are called so; say which by its number"):
            complete_settings([two[0], two[1], two[0]], critic=two[0].provenance.name)
        with pytest.raises(ConfigError, match="need regularizer="):
            attach_to_several(two, regularizer_weight=1)
        MINEGAN.check([GAN(two[0].generator), two[1]], "minegan")

    def test_classes_kept_cannot_be_mixed(self):
        sources = [toy_gan(n_classes=3), toy_gan(n_classes=3)]
        with pytest.raises(MissingCapability, match="classes=onehot"):
            attach_to_several(sources, miner={"classes": "keep"})


def test_every_family_at_once_interrupted_and_resumed(families, tmp_path):
    settings = {"critic": "sngan", "mining_steps": 3, "finetuning_steps": 3}
    size = families[1].generator.size[0]
    images = toy_images(size=size, channels=3)

    def make():
        return attach_to_several(families, **settings)

    whole = run(make(), images, tmp_path / "whole", accumulate=2)
    for stop_at in (2, 3, 5):
        resumed = stop_and_resume(make, images, tmp_path / f"broken-{stop_at}", stop_at, accumulate=2)
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


def test_a_finished_run_that_is_resumed_says_the_same(tmp_path, photos):
    references = [regraft.convert(gan, tmp_path / f"source-{k}") for k, gan in enumerate(batch_sources())]
    settings = {"mining_steps": 3, "finetuning_steps": 3, "supersamples": 200, "held_out": 2, "keep": "last"}
    once = regraft.adapt(photos, references, out=tmp_path / "run", **settings)
    again = regraft.adapt(resume=True, out=tmp_path / "run")
    assert again.findings == once.findings
    assert torch.equal(again.gan.sample(4, 0), once.gan.sample(4, 0))


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
    assert any(
        "class_weight is for a single source" in n for n in attach_to_several(sources, miner={"class_weight": 2.0}).notes
    )
    assert not any("class_weight" in n for n in attach_to_several(sources).notes)
