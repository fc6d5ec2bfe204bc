"""Measuring on held-out images while a run trains: which generator is kept, and when the run stops."""

import pytest
import torch

import regraft
from regraft.core.latent import Latent
from regraft.core.networks import Generator
from regraft.core.norms import set_training
from regraft.data.images import Images
from regraft.evaluation.compare import extractor
from regraft.evaluation.held_out import HeldOut, critic_scores
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import assemble
from support.toys import toy_gan, toy_images


def observer(patience, **more):
    images = toy_images(24)
    train, held = images.select(range(20)), images.select(range(20, 24))
    return HeldOut(train, held, [extractor("random_conv")], 0, None, n=32, patience=patience, **more)


class Replaying(Generator):
    """Hands out given images, whatever the latent."""

    def __init__(self, images):
        super().__init__()
        self.latent, self.size, self.channels = Latent(2), tuple(images.shape[2:]), images.shape[1]
        self.images = images

    def forward(self, z, y=None, *, psi=1.0, noise="const", rng=None):
        picked = (z[:, 0].abs() * 1e4).long() % len(self.images)
        return self.images[picked]


class TestBest:
    def images(self, n, seed):
        """Blobs at random places."""
        rng = torch.Generator().manual_seed(seed)
        low = torch.randn(n, 1, 4, 4, generator=rng)
        return torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(-1, 1)

    def watch(self, n, held):
        images = self.images(n, 0)
        pixels = ((images + 1) * 127.5).round().to(torch.uint8)
        whole = Images(pixels, names=tuple(map(str, range(n))))
        split = (range(n - held), range(n - held, n))
        train, unseen = (whole.select(list(s)) for s in split)
        return HeldOut(train, unseen, [extractor("random_conv")], 0, None, n=200), train.tensor()

    def test_handing_training_images_back_is_never_the_best(self):
        watch, train = self.watch(30, 5)
        far, near, copying = 0.3 * self.images(300, 1), self.images(300, 2), train
        assert watch(0, Replaying(far)).best
        seen = watch(50, Replaying(copying))
        assert seen.values["copies"] == 1.0
        assert seen.values["kmmd_target"] < watch.best.value, "it would be the nearest"
        assert not seen.best
        good = watch(100, Replaying(near))
        assert good.best
        assert good.values["copies"] < 0.1
        assert 0 <= good.values["recall"] <= 1

    def test_enough_held_out_images_are_compared_with_alone(self):
        few, _ = self.watch(100, 20)
        many, _ = self.watch(100, 50)
        assert [len(w.targets[0]) for w in (few, many)] == [100, 50]

    def test_where_all_copy_the_first_is_kept_and_state_comes_back(self):
        watch, train = self.watch(30, 5)
        seen = watch(0, Replaying(train))
        assert seen.best
        again, _ = self.watch(30, 5)
        again.load(seen.state)
        assert again.best is None


class TestMemorised:
    """Without augmentation a critic that tells seen from unseen images says that training went on too long."""

    def watch(self, **more):
        return observer(2, augmented=False, **more)

    def scores(self, gap):
        return {"train": 3.0, "held": 3.0 - 5 * gap, "fake": -2.0}

    def test_two_thirds_of_the_way_while_variety_falls(self):
        watch = self.watch()
        steps = [(0.2, 0.1), (0.6, 0.5), (0.7, 0.4), (0.7, 0.4)]
        assert [watch._memorised(self.scores(g), v) for g, v in steps] == [False, False, False, True]

    def test_variety_that_rises_needs_all_of_the_way(self):
        watch = self.watch()
        steps = [(0.8, 0.1), (0.9, 0.2), (0.9, 0.3), (1.05, 0.4), (1.05, 0.5)]
        assert [watch._memorised(self.scores(g), v) for g, v in steps] == [False, False, False, False, True]

    def test_augmentation_or_a_critic_that_sees_nothing_says_nothing(self):
        assert not observer(2)._memorised(self.scores(2.0), 0.0)
        assert not self.watch()._memorised({"train": -1.0, "held": -3.0, "fake": 0.0}, 0.0)
        assert not self.watch()._memorised(None, 0.0)

    def test_such_a_step_is_not_kept_and_ends_the_run(self, monkeypatch):
        gan = toy_gan()
        watch = self.watch(critic=gan.critic)
        monkeypatch.setattr(watch, "_mean_scores", lambda critic, fake: self.scores(0.1))
        assert watch(0, gan.generator).best
        monkeypatch.setattr(watch, "_mean_scores", lambda critic, fake: self.scores(1.5))
        said = [watch(step, gan.generator) for step in (50, 100)]
        assert [s.best for s in said] == [False, False]
        assert "training images are being memorised" in said[1].stop
        again = self.watch(critic=gan.critic)
        again.load(said[0].state)
        assert again.gaps == said[0].state["gaps"]

    def test_a_run_without_augmentation_is_watched_so(self, photos):
        for augment, wanted in (([], False), (["translation"], True)):
            job = adapt_job(photos, [toy_gan()], "freezed", None, None, {"steps": 2, "augment": augment})
            prepared = prepare.prepare(job, [toy_gan()])
            assert assemble(prepared, None, lambda event: None).observer.augmented is wanted


class TestPatience:
    def test_counts_only_clearly_worse_ones_in_a_row(self):
        watch = observer(3)
        assert watch._reason_to_stop(100, True, 0.1) is None
        assert [watch._reason_to_stop(s, False, v) for s, v in ((150, 0.3), (200, 0.4))] == [None, None]
        assert watch._reason_to_stop(250, True, 0.1) is None
        assert watch.worse == []
        assert [watch._reason_to_stop(s, False, v) for s, v in ((300, 0.3), (350, 0.4))] == [None, None]
        assert "3 measurements" in watch._reason_to_stop(400, False, 0.5)

    def test_one_that_recovers_goes_on(self):
        watch = observer(3)
        values = [0.9, 0.8, 0.7, 0.6, 0.5]
        assert [watch._reason_to_stop(50 * k, False, v) for k, v in enumerate(values, 1)] == [None] * 5

    def test_not_before_the_last_phase(self):
        watch = observer(2, not_before=1000)
        assert [watch._reason_to_stop(s, False, 0.5) for s in (500, 600, 1000, 1100)] == [None] * 4
        assert watch._reason_to_stop(1200, False, 0.5) is not None

    def test_zero_never_stops(self):
        assert [observer(0)._reason_to_stop(k, False, 1.0) for k in range(1, 20)] == [None] * 19

    def test_the_count_comes_back(self):
        first, second = observer(3), observer(3)
        seen = first(0, toy_gan().generator)
        first.worse.append(0.4)
        second.load(seen.state | {"worse": list(first.worse)})
        assert second.worse == [0.4]
        assert second.best.value == first.best.value

    def test_a_stopped_run_resumes_as_it_was(self, tmp_path, photos, gan, monkeypatch):
        """A run that is cut between measurements, and goes on, stops at the same step with the same tensors."""
        settings = {"method": "transfergan", "steps": 20, "evaluate_every": 1, "patience": 2, "checkpoint_every": 2}
        settings["recipe"] = {"generator_lr": 0.05, "critic_lr": 0.005}
        whole = regraft.adapt(photos, gan, out=tmp_path / "whole", **settings)
        assert whole.stopped is not None, "the step sizes were chosen to ruin the generator"
        lines = (tmp_path / "whole" / "metrics.jsonl").read_text()
        from regraft.runs.store import RunStore

        saved = RunStore.save_state
        calls = []

        def dying(self, state):
            saved(self, state)
            calls.append(state["position"]["total"])
            if len(calls) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(RunStore, "save_state", dying)
        with pytest.raises(KeyboardInterrupt):
            regraft.adapt(photos, gan, out=tmp_path / "cut", **settings)
        monkeypatch.undo()
        resumed = regraft.adapt(sources=gan, out=tmp_path / "cut", resume=True)
        assert (resumed.stopped, resumed.step) == (whole.stopped, whole.step)

        def measured(text):
            return [line for line in text.splitlines() if "held_out" in line]

        assert measured((tmp_path / "cut" / "metrics.jsonl").read_text()) == measured(lines)
        a, b = whole.gan.generator.state_dict(), resumed.gan.generator.state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)


class TestCriticScores:
    def test_without_batch_statistics_each_image_stands_alone(self):
        critic = toy_gan().critic
        images = toy_images(6).tensor()
        assert torch.allclose(critic_scores(critic, images, images), critic.eval()(images), atol=1e-6)

    def test_batch_statistics_are_those_of_training_images(self):
        critic = toy_gan().critic
        set_training(critic, "batch")
        before = {k: v.clone() for k, v in critic.state_dict().items()}
        training, few = toy_images(32).tensor(), toy_images(2, seed=9).tensor()
        found = critic_scores(critic, few, training)
        assert torch.allclose(found[:1], critic_scores(critic, few[:1], training), atol=0.2 * found.abs().max())
        assert all(torch.equal(before[k], v) for k, v in critic.state_dict().items())
        assert all(m.training for m in critic.modules())
