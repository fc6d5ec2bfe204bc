"""Checking photos, ranking sources, stopping in time, charts."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.cli.app import run as cli
from regraft.core.errors import ConfigError, DataError
from regraft.core.latent import Latent
from regraft.core.networks import Generator
from regraft.core.norms import set_training
from regraft.data import pictures
from regraft.data.images import Images, ImageSet
from regraft.evaluation.compare import extractor
from regraft.evaluation.held_out import HeldOut, critic_scores
from regraft.metrics.kmmd import kmmd, real_floor
from regraft.verbs import rank
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import assemble
from regraft.verbs.check import near_duplicates, outliers
from regraft.verbs.rank import tied
from regraft.verbs.report.svg import Line, chart
from support.toys import strokes, toy_gan, toy_images


def write(folder, images):
    folder.mkdir(exist_ok=True)
    for k, image in enumerate(images):
        pictures.save_png(folder / f"{k:03d}.png", pictures.to_picture(image))


class TestCheck:
    def test_what_is_odd_is_named(self, tmp_path):
        folder = tmp_path / "photos"
        write(folder, strokes(30, 0, 32))
        (folder / "bad.png").write_bytes(b"no picture")
        Image.open(folder / "003.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "twin.jpg", quality=95)
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(folder / "blank.png")
        Image.new("RGB", (8, 8), "red").save(folder / "tiny.png")
        Image.new("RGB", (128, 32), "blue").save(folder / "wide.png")
        facts = regraft.check(folder, tmp_path / "sheet.png")
        assert facts["images"] == 34
        assert facts["unreadable"] == 1
        assert ["003.png", "twin.jpg"] in facts["near_duplicates"]
        assert "wide.png" in facts["outliers"]
        told = "\n".join(facts["odd"])
        for name in ("bad.png", "blank.png: blank", "tiny.png: much smaller", "wide.png: a very different shape"):
            assert name in told
        assert facts["modes"] == {"grey": 32, "colour": 2}
        advice = "\n".join(facts["advice"])
        assert all(word in advice for word in ("--fit", "--method", "--steps", "--flip", "near-duplicates", "held out"))
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width > 500
        json.dumps(facts)

    def test_a_clean_set_raises_nothing(self, tmp_path):
        write(tmp_path / "photos", strokes(40, 0, 32))
        facts = regraft.check(tmp_path / "photos")
        assert facts["near_duplicates"] == facts["outliers"] == facts["odd"] == []

    def test_all_twins(self):
        images = strokes(10, 0, 32)
        assert near_duplicates(torch.cat([images, images])) == [(k, k + 10) for k in range(10)]
        assert outliers(images[:4]) == []

    def test_nothing_readable(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x")
        with pytest.raises(DataError, match="none of its 1 images"):
            regraft.check(tmp_path)

    def test_nothing_is_overwritten(self, tmp_path, photos):
        (tmp_path / "sheet.png").write_bytes(b"")
        with pytest.raises(ConfigError, match="exists"):
            regraft.check(photos, tmp_path / "sheet.png")


class TestRank:
    def test_the_source_of_the_targets_comes_first(self, tmp_path):
        write(tmp_path / "photos", regraft.load("digits-high").sample(12, 5))
        rows = regraft.rank(tmp_path / "photos", [toy_gan(), "digits-low", "digits-high"], n=200, out=tmp_path / "rank.png")
        assert [row["rank"] for row in rows] == [1, 2, 3]
        assert [row["source"] for row in rows] == ["digits-high", "digits-low", "toy"]
        assert rows[0]["nearest"] == min(row["nearest"] for row in rows)
        assert [row["tied"] for row in rows] == [False, False, False]
        assert (tmp_path / "rank.png").is_file()

    def test_images_of_all_class_folders_count(self, photos_by_class, gan, monkeypatch):
        looked = []

        def noted(self, *size, **settings):
            looked.append({pathlib.Path(i.name).parent.name for i in self.items})
            return decode(self, *size, **settings)

        decode = ImageSet.decode
        monkeypatch.setattr(ImageSet, "decode", noted)
        monkeypatch.setattr(rank, "MOST_IMAGES", 8)
        regraft.rank(photos_by_class, [gan, gan], n=16)
        assert looked
        assert all(names == {"bars", "blobs"} for names in looked)

    def test_nearness_is_over_what_is_usual_among_targets(self):
        """Targets are prepared for each size, so plain distances from two sources may not be compared."""
        target = torch.tensor([[0.0], [1.0], [3.0], [6.0]])
        for unit in (1.0, 7.0):
            row, ratios, which = rank.measured(unit * target, unit * torch.tensor([[0.5], [2.5], [9.0]]))
            # Nearest others are 1, 1, 2 and 3 away, 1.75 on average; nearest samples 0.5, 0.5, 0.5 and 3.
            assert ratios.tolist() == pytest.approx([0.5 / 1.75, 0.5 / 1.75, 0.5 / 1.75, 3 / 1.75])
            assert row["nearest"] == pytest.approx(4.5 / 4 / 1.75)
            assert which.tolist() == [0, 0, 1, 2]

    def test_with_a_probe(self, photos):
        sources = [toy_gan(seed=s) for s in range(2)]
        rows = regraft.rank(photos, sources, n=32, probe=2)
        assert rows[0]["probe"] <= rows[1]["probe"]
        assert [row["tied"] for row in rows] == [None, None]

    def test_equal_sources_are_called_too_close_to_tell(self, photos, capsys):
        gan = toy_gan()
        assert [row["tied"] for row in regraft.rank(photos, [gan, gan], n=32)] == [False, True]
        assert cli(["rank", str(photos), "-s", "digits-low", "-s", "digits-low", "--n", "32"]) == 0
        assert "Too close to tell from the first by these images: digits-low (2)" in capsys.readouterr().out

    @pytest.mark.parametrize(("mean", "is_tied"), [(0.1, True), (0.3, False)])
    def test_two_standard_errors_decide(self, mean, is_tied):
        # One hundred differences with standard deviation 1.005: two standard errors are 0.201.
        assert tied(mean + torch.tensor([1.0, -1.0]).repeat(50)) is is_tied

    def test_one_source_is_no_ranking(self, photos, gan):
        with pytest.raises(ConfigError, match="at least two"):
            regraft.rank(photos, [gan])


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
        monkeypatch.setattr(watch, "_scored", lambda critic, fake: self.scores(0.1))
        assert watch(0, gan.generator).best
        monkeypatch.setattr(watch, "_scored", lambda critic, fake: self.scores(1.5))
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
            assert assemble(prepared, None, lambda event: None).observe.augmented is wanted


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


def test_the_floor_is_what_halves_of_one_set_measure():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(60, 8, generator=rng)
    floor = real_floor(real)
    halves = []
    for _ in range(100):
        order = torch.randperm(60, generator=rng)
        halves.append(float(kmmd(real[order[:30]], real[order[30:]])[1]))
    assert 0.85 <= sum(h <= floor for h in halves) / 100 <= 1
    assert float(kmmd(real, torch.randn(60, 8, generator=rng) + 2)[1]) > 5 * floor


class TestChart:
    def test_texts_are_escaped_and_numbers_finite(self):
        svg = chart(
            [Line("<b>a</b>", [(0, 1.0), (10, float("nan")), (20, 3.0)], [0.1, 0.1, 0.1])],
            title="<script>",
            description="&",
            floor=("floor", 0.5),
            mark=("kept", 20.0),
            root=True,
        )
        assert "<script>" not in svg
        assert "<b>" not in svg
        assert "nan" not in svg
        assert re.search(r'class="band c0"', svg)

    def test_too_few_points_are_no_chart(self):
        assert chart([Line("a", [(0, 1.0)])], title="t", description="d") == ""

    def test_a_constant_has_a_scale(self):
        assert "class=" in chart([Line("a", [(0, 0.0), (1, 0.0)])], title="t", description="d")
