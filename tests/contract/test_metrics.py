"""Every metric found on disk keeps its contract."""

import json

import pytest
import torch

from regraft.core import discover
from regraft.metrics import wasserstein
from regraft.metrics.base import Comparison, Samples
from support.plugins import find_plugin
from support.toys import uniform_images


def samples(x):
    features = x.flatten(1)[:, :40].double()
    labels = (features[:, :5] + 0.2 * features[:, 5:10]).argmax(1)
    return Samples(x, features, (5 * features[:, :5]).softmax(1), labels)


def comparison(fake, real, training):
    return Comparison(*(samples(x) for x in (fake, real, training)), "test", "0" * 64, 3)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """The critic of the Wasserstein distance learns for a few steps only."""
    monkeypatch.setattr(wasserstein, "STEPS", 30)


@pytest.mark.parametrize("name", discover.names("metrics"))
class TestEveryMetric:
    def test_scores_carry_their_protocol(self, name):
        metric = find_plugin("metrics", name)
        assert metric.summary
        scores = metric.compute(comparison(uniform_images(30, seed=0), uniform_images(25, seed=1), uniform_images(9, seed=2)))
        assert scores
        for score in scores:
            assert torch.isfinite(torch.tensor(score.value))
            assert score.better in ("lower", "higher", "none")
            assert (score.extractor == "pixels") == (score.extractor_sha256 is None)
            assert score.extractor in ("pixels", "test")
            assert score.n_real == 0 or 2 <= score.n_real <= 30
            assert score.interval is not None
            low, high = score.interval
            assert low <= score.value <= high
            assert "floor" in score.details or "real_value" in score.details
            json.dumps(score.to_dict())
            assert score.seed == 3
            assert set(score.to_dict()) >= {"name", "value", "n_real", "n_fake", "extractor", "seed", "better"}

    @pytest.mark.parametrize(("n_real", "n_fake"), [(4, 30), (5, 200), (7, 30), (8, 30), (30, 4), (30, 7)])
    def test_few_images_have_a_wide_interval_or_none(self, name, n_real, n_fake):
        """Sets that vary: a point would claim a certainty that so few images do not give."""
        for score in find_plugin("metrics", name).compute(
            comparison(uniform_images(n_fake, seed=1), uniform_images(n_real, seed=0), uniform_images(9, seed=2))
        ):
            if score.interval is not None:
                low, high = score.interval
                assert low < high, score.name
                assert low <= score.value <= high

    def test_same_seed_same_value_and_inputs_untouched(self, name):
        metric = find_plugin("metrics", name)
        given = comparison(uniform_images(30, seed=0), uniform_images(25, seed=1), uniform_images(9, seed=2))
        before = [s.images.clone() for s in (given.fake, given.real, given.training)]
        a, b = metric.compute(given), metric.compute(given)
        assert [s.value for s in a] == [s.value for s in b]
        for kept, now in zip(before, (given.fake, given.real, given.training)):
            assert torch.equal(kept, now.images)

    def test_a_better_set_scores_better(self, name):
        """Unseen images of the same kind against a collapsed, copied set."""
        metric = find_plugin("metrics", name)
        training = uniform_images(10, seed=2)
        good = {
            s.name: s for s in metric.compute(comparison(uniform_images(100, seed=0), uniform_images(100, seed=1), training))
        }
        bad = metric.compute(comparison(training[:1].expand(100, -1, -1, -1), uniform_images(100, seed=1), training))
        for score in bad:
            if score.name.startswith(("precision", "density", "class_accuracy")):
                continue  # a copy is of high quality; these do not ask for variety
            if score.better == "lower":
                assert score.value > good[score.name].value
            elif score.better == "higher":
                assert score.value < good[score.name].value
