"""Metrics with intervals: independent libraries, planted answers, and blocked sums against direct ones."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from regraft.core.errors import DataError
from regraft.metrics import _kernels, wasserstein
from regraft.metrics._intervals import combined, half_variance, jackknife, quantile, share
from regraft.metrics._moments import Moments
from regraft.metrics.base import Comparison, Samples, same_extractor
from regraft.metrics.frechet import _with_influence, frechet_distance, moments_distance
from regraft.metrics.inception_score import inception_score
from regraft.metrics.intra_cluster import intra_cluster
from regraft.metrics.kid import kernel_distance, subset_distance
from regraft.metrics.kmmd import kernel_match, kmmd
from regraft.metrics.mean_variance import left_out, mean_variance
from regraft.metrics.precision_recall import precision_recall
from support.plugins import find_plugin


def normal(n, d, seed=0, mean=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + mean


def samples(x, side=4, **more):
    return Samples(x[:, : side * side].float().reshape(len(x), 1, side, side), x, **more)


def comparison(fake, real, training=None, extractor="test"):
    return Comparison(fake, real, training, extractor, "0" * 64, 0)


def scores(metric, given):
    return {s.name: s for s in find_plugin("metrics", metric).compute(given)}


class Given(torch.nn.Module):
    """Features handed in as images (N, D, 1, 1), for torchmetrics."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d
        self.dummy = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.flatten(1).double()


class TestKernelDistance:
    def test_against_torchmetrics(self):
        from torchmetrics.image.kid import poly_mmd

        x, y = normal(60, 12), normal(60, 12, 1, mean=0.3)
        assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-6)

    @pytest.mark.filterwarnings("ignore:Metric")
    def test_subsets_against_torchmetrics(self):
        """Subsets of everything: the mean over them is the value itself."""
        from torchmetrics.image.kid import KernelInceptionDistance

        x, y = normal(30, 8), normal(30, 8, 1, mean=0.3)
        theirs = KernelInceptionDistance(feature=Given(8), subsets=3, subset_size=30).set_dtype(torch.float64)
        theirs.update(x[:, :, None, None], real=True)
        theirs.update(y[:, :, None, None], real=False)
        ours = subset_distance(x, y, 30, 3, torch.Generator().manual_seed(0))
        assert ours[0] == pytest.approx(theirs.compute()[0].item(), rel=1e-6)
        assert ours[1] == pytest.approx(0, abs=1e-9)

    def test_is_called_kid_only_under_inception(self):
        x = samples(normal(20, 16))
        assert set(scores("kid", comparison(x, x))) == {"kid[test]"}
        assert set(scores("kid", comparison(x, x, extractor="inception"))) == {"KID"}
        assert set(scores("frechet", comparison(x, x, extractor="inception"))) == {"FID"}


class TestBlocks:
    @pytest.mark.parametrize("sizes", [(40, 40), (33, 57)])
    def test_blocked_sums_equal_direct_ones(self, monkeypatch, sizes):
        monkeypatch.setattr(_kernels, "BLOCK", 16)
        x, y = normal(sizes[0], 5), normal(sizes[1], 5, 1)
        found = _kernels.discrepancy(x, y, _kernels.polynomial(5), lambda r: (r.square().sum(1) / 5 + 1) ** 3)
        kxx, kyy, kxy = ((a @ b.T / 5 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        n, m = sizes
        wanted = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1)) - 2 * kxy.mean()
        assert found.unbiased() == pytest.approx(wanted.item(), rel=1e-9)
        assert found.biased() == pytest.approx((kxx.mean() + kyy.mean() - 2 * kxy.mean()).item(), rel=1e-9)
        assert found.across.squares == pytest.approx(kxy.square().sum().item())
        assert torch.allclose(found.fake.rows, kyy.sum(1) - kyy.diagonal())

    def test_single_precision_for_many_pairs_is_close(self, monkeypatch):
        x, y = normal(300, 200).float().relu(), normal(300, 200, 1).float().relu() * 1.1
        exact = [float(v) for v in kmmd(x, y)] + [kernel_distance(x, y)]
        monkeypatch.setattr(_kernels, "EXACT_PAIRS", 10)
        rough = [float(v) for v in kmmd(x, y)] + [kernel_distance(x, y)]
        assert exact != rough
        assert rough == pytest.approx(exact, rel=1e-4)

    def test_kernel_match_keeps_the_likeness_of_each_real_image(self):
        x, y = normal(20, 5), normal(25, 5, 1)
        s = torch.cdist(x, x).square().mean()
        wanted = torch.exp(-torch.cdist(x, y).square() / (2 * s)).mean(1)
        assert torch.allclose(kernel_match(x, y).likeness, wanted)

    def test_variance_is_that_of_repeated_draws(self):
        draws = [kernel_sums(seed) for seed in range(300)]
        assert np.mean([d.variance() for d in draws]) == pytest.approx(np.var([d.unbiased() for d in draws]), rel=0.25)


def kernel_sums(seed):
    x, y = normal(30, 4, 2 * seed), normal(40, 4, 2 * seed + 1, mean=0.5)
    return _kernels.discrepancy(x, y, _kernels.gaussian(8.0), lambda r: r.new_ones(len(r)))


class TestFrechet:
    @pytest.mark.parametrize("sizes", [(30, 40, 6), (12, 9, 30), (12, 40, 20)])
    def test_influence_is_the_derivative_by_an_images_weight(self, sizes):
        """A weight is raised by giving every other image again."""
        n, m, d = sizes
        a, b = normal(n, d), normal(m, d, 1, mean=0.2, scale=1.3)
        value, first, second = _with_influence(a, b)
        assert value.item() == pytest.approx(frechet_distance(a, b).item(), rel=1e-9)
        assert first.mean().item() == pytest.approx(0, abs=1e-9)
        if d < min(n, m):
            for x, influence, at in ((a, first, 0), (b, second, 1)):
                times = 400
                repeated = torch.cat([x.repeat(times, 1), x[:1]])
                sets = [repeated, b] if at == 0 else [a, repeated]
                base = [x.repeat(times, 1), b] if at == 0 else [a, x.repeat(times, 1)]
                change = frechet_distance(*sets) - frechet_distance(*base)
                assert change.item() * len(repeated) == pytest.approx(influence[0].item(), rel=0.1, abs=0.05)

    def test_moments_in_batches_equal_direct_ones(self):
        x = normal(1000, 7, mean=50.0)
        whole, shards = Moments(7), [Moments(7), Moments(7)]
        for i, part in enumerate(torch.split(x, 93)):
            whole.add(part)
            shards[i % 2].add(part)
        shards[0].merge(shards[1])
        for found in (whole, shards[0]):
            assert found.n == 1000
            assert torch.allclose(found.mean, x.mean(0), rtol=1e-12)
            assert torch.allclose(found.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-12)

    def test_distance_from_moments(self):
        x, y = normal(90, 5), normal(70, 5, 1, mean=0.5)
        moments = [Moments(5), Moments(5)]
        moments[0].add(x)
        moments[1].add(y)
        assert moments_distance(*moments).item() == pytest.approx(frechet_distance(x, y).item(), rel=1e-9)

    def test_moments_refuse_what_does_not_fit(self):
        moments = Moments(3)
        moments.add(torch.zeros(0, 3))
        with pytest.raises(DataError, match=r"features \(2, 4\) cannot be added to statistics of 3"):
            moments.add(torch.zeros(2, 4))
        with pytest.raises(DataError, match="not finite"):
            moments.add(torch.full((2, 3), math.nan))
        with pytest.raises(DataError, match="at least 2 images, 0 given"):
            _ = moments.covariance


class TestPrecisionRecall:
    def test_against_the_definitions(self):
        x, y = normal(40, 3), normal(40, 3, 1, mean=1.0)
        dx, dy, dxy = torch.cdist(x, x), torch.cdist(y, y), torch.cdist(x, y)
        rx, ry, r5 = (d.sort(1).values[:, k] for d, k in ((dx, 3), (dy, 3), (dx, 5)))
        wanted = [
            np.mean([any(dxy[i, j] <= rx[i] for i in range(40)) for j in range(40)]),
            np.mean([any(dxy[i, j] <= ry[j] for j in range(40)) for i in range(40)]),
            np.mean([sum(dxy[i, j] <= r5[i] for i in range(40)) / 5 for j in range(40)]),
            np.mean([dxy[i].min() <= r5[i] for i in range(40)]),
        ]
        assert precision_recall(x, y).tolist() == pytest.approx(wanted)

    def test_far_apart_and_the_same(self):
        x = normal(50, 4)
        assert precision_recall(x, x + 100).tolist() == [0, 0, 0, 0]
        assert precision_recall(x, x).tolist() == pytest.approx([1, 1, 1.2, 1])

    def test_collapse_keeps_precision_and_loses_recall(self):
        x = normal(200, 4)
        y = normal(200, 4, 1, scale=0.05)
        precision, recall, _, coverage = precision_recall(x, y).tolist()
        assert precision == 1
        assert recall < 0.05
        assert coverage < 0.5


class TestInceptionScore:
    @pytest.mark.filterwarnings("ignore:Metric", "ignore:std")
    def test_against_torchmetrics(self):
        from torchmetrics.image.inception import InceptionScore

        logits = normal(50, 6, scale=2.0)
        theirs = InceptionScore(feature=Given(6), splits=1).set_dtype(torch.float64)
        theirs.update(logits[:, :, None, None])
        assert inception_score(logits.softmax(1))[0].item() == pytest.approx(theirs.compute()[0].item(), rel=1e-6)

    def test_closed_forms(self):
        assert inception_score(torch.eye(5).repeat(4, 1))[0].item() == pytest.approx(5)
        assert inception_score(torch.full((8, 5), 0.2))[0].item() == pytest.approx(1)

    def test_left_out_values_are_those_of_the_other_images(self):
        p = normal(12, 4).softmax(1)
        wanted = [inception_score(torch.cat([p[:i], p[i + 1 :]]))[0] for i in range(12)]
        assert inception_score(p)[1].tolist() == pytest.approx([w.item() for w in wanted])


class TestOthers:
    def test_mean_variance_left_out(self):
        x = normal(9, 5)
        wanted = [mean_variance(torch.cat([x[:i], x[i + 1 :]])).item() for i in range(9)]
        assert left_out(x).tolist() == pytest.approx(wanted)

    def test_intra_cluster_of_known_clusters(self):
        training = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
        fake = torch.tensor([[0.0, 1.0], [0.0, 4.0], [101.0, 0.0], [100.0, 0.0], [104.0, 0.0], [0.0, 99.0]])
        value, others, used = intra_cluster(fake, training)
        assert used == 2
        assert value == pytest.approx((3 + (1 + 3 + 4) / 3) / 2)
        assert others[2].item() == pytest.approx((3 + 4) / 2)
        assert intra_cluster(training.repeat(4, 1), training)[0] == 0
        assert intra_cluster(fake[-1:], training)[0] == 0

    def test_class_accuracy(self):
        labels = torch.tensor([0, 0, 1, 1, 2])
        probabilities = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 0]), 3).double()
        fake = samples(normal(5, 16), probabilities=probabilities, labels=labels)
        score = scores("class_accuracy", comparison(fake, samples(normal(5, 16))))["class_accuracy[test]"]
        assert score.value == pytest.approx(0.6)
        assert score.details["by_class"] == {0: 0.5, 1: 1.0, 2: 0.0}
        bad = samples(normal(5, 16), probabilities=probabilities, labels=labels + 2)
        with pytest.raises(DataError, match="a label 4, and the classifier knows 3 classes"):
            scores("class_accuracy", comparison(bad, fake))

    @pytest.mark.parametrize(
        ("outputs", "classes", "labels", "right"),
        [
            ("abc", "cab", [1, 1, 2, 0], [1, 1, 1, 1]),  # another order
            ("abc", "bc", [0, 1, 1, 0], [0, 0, 0, 0]),  # some of the classes
            ("abc", "xbca", [3, 3, 1, 2], [1, 1, 1, 1]),  # a strange one that no image shows
            ("abc", "", [0, 0, 1, 2], [1, 1, 1, 1]),  # without names on one side: by number
            ("", "cab", [0, 0, 1, 2], [1, 1, 1, 1]),
            ("", ("1", "2"), [0, 1, 0, 1], [0, 0, 1, 1]),  # classes that are numbers are those outputs
            ("", ("1", "2", "3"), [0, 0, 1, 2], [1, 1, 1, 1]),  # unless they do not fit
        ],
    )
    def test_class_accuracy_matches_names(self, outputs, classes, labels, right):
        probabilities = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2]), 3).double()  # a, a, b, c
        fake = samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor(labels), classes=tuple(classes))
        given = dataclasses.replace(comparison(fake, fake), classes=tuple(outputs))
        score = scores("class_accuracy", given)["class_accuracy[test]"]
        assert score.value == pytest.approx(np.mean(right))
        assert score.details["real_value"] == score.value
        assert set(score.details["by_class"]) == {classes[k] if classes else k for k in labels}

    def test_class_accuracy_of_real_images_with_other_names(self):
        probabilities = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2]), 3).double()

        def of(classes, labels):
            return samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor(labels), classes=tuple(classes))

        real_value = {}
        for outputs in ("abc", ""):
            for classes, labels in (("cab", [1, 1, 2, 0]), ("bc", [0, 0, 0, 1]), ("xyz", [0, 0, 1, 2])):
                given = dataclasses.replace(comparison(of("abc", [0, 0, 1, 2]), of(classes, labels)), classes=tuple(outputs))
                score = scores("class_accuracy", given)["class_accuracy[test]"]
                assert score.value == 1
                real_value[outputs, classes] = score.details["real_value"]
        assert (real_value["abc", "cab"], real_value["abc", "bc"], real_value["abc", "xyz"]) == (1, 0.5, None)
        # A classifier without names has those of the images with as many classes, where both sides fit.
        assert (real_value["", "cab"], real_value["", "bc"], real_value["", "xyz"]) == (1, 0.5, 1)

    def test_classes_that_the_classifier_does_not_know(self):
        probabilities = torch.full((4, 3), 1 / 3)
        fake = samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor([0, 1, 1, 2]), classes=("a", "p", "q"))
        given = dataclasses.replace(comparison(fake, fake), classes=("a", "b", "c"))
        wanted = "images of the classes p, q, and the classifier knows a, b, c; .* regraft train-classifier"
        with pytest.raises(DataError, match=f"class_accuracy: {wanted}"):
            scores("class_accuracy", given)
        assert re.fullmatch(f"{wanted}", find_plugin("metrics", "class_accuracy").unfit(given))

    def test_an_independent_critic_tells_shifted_images_and_not_equal_ones(self, monkeypatch):
        monkeypatch.setattr(wasserstein, "STEPS", 30)
        real, same = (torch.rand(40, 1, 9, 7, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (0, 1))
        given = [comparison(Samples(x, x.flatten(1)), Samples(real, real.flatten(1))) for x in (same, same * 0.2 + 0.5)]
        metric = find_plugin("metrics", "wasserstein")
        equal, shifted = (metric.measure(g)[0] for g in given)
        assert abs(equal.value) < 0.3
        assert shifted.value > 0.5
        assert shifted.interval[0] > equal.interval[1]
        assert shifted.extractor == "pixels"
        assert metric.measure(given[1])[0].value == shifted.value


class TestFloors:
    def test_floor_is_given_and_its_numbers_said(self):
        found = scores("kmmd", comparison(samples(normal(100, 16, mean=1.0)), samples(normal(60, 16, 1))))["kmmd[test]"]
        assert found.n_real == 60
        assert found.details["floor_n"] == 30
        assert "30 real images" in found.details["floor_note"]
        assert found.details["floor"] < found.details["value_at_floor_n"]

    def test_unequal_numbers_are_said(self):
        found = scores("kid", comparison(samples(normal(30, 16)), samples(normal(60, 16, 1)), None))["kid[test]"]
        assert found.details["floor_n"] == 30
        assert found.details["floor_note"]  # the score itself uses all 60 real images on one side only

    def test_too_few_real_images(self):
        found = scores("frechet", comparison(samples(normal(30, 16)), samples(normal(10, 16, 1))))["frechet[test]"]
        assert found.details["floor"] is None
        assert "10 real images, and 16 are needed" in found.details["floor_note"]


class TestTables:
    def test_features_of_two_extractors_are_not_compared(self):
        with pytest.raises(DataError, match="different extractors"):
            comparison(samples(normal(5, 16)), samples(normal(5, 17)))

    def test_scores_of_two_extractors_share_no_table(self):
        x = samples(normal(20, 16))
        ours = [*scores("kid", comparison(x, x)).values(), *scores("mean_variance", comparison(x, x)).values()]
        same_extractor(ours)
        with pytest.raises(DataError, match="never share a table: other .*, test"):
            same_extractor([*ours, *scores("kid", comparison(x, x, extractor="other")).values()])


class TestIntervals:
    def test_quantiles_of_t(self):
        import scipy.stats

        for degrees in (5, 9, 24, 99, 10_000):
            assert quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=0.01)

    def test_share_against_scipy(self):
        import scipy.stats

        wanted = scipy.stats.binomtest(37, 1000).proportion_ci(method="wilson")
        assert share(0.037, 0.0, 1000) == pytest.approx((wanted.low, wanted.high), rel=0.01)
        assert share(0.0, 0.0, 50)[0] == 0
        assert share(1.0, 0.0, 50) == pytest.approx((1 - share(0.0, 0.0, 50)[1], 1.0))

    def test_jackknife_of_a_mean(self):
        x = normal(40, 1)[:, 0]
        assert jackknife((x.sum() - x) / 39) == pytest.approx(x.var().item() / 40)

    def test_halves_of_a_mean_and_of_a_quadratic_statistic(self):
        """V1 for a mean; V1 + 3 V2 where the jackknife says V1 + 2 V2."""
        x = normal(60, 1)[:, 0]
        rng = torch.Generator().manual_seed(0)
        assert half_variance(lambda i: x[i].mean(), (60,), 2000, rng).item() == pytest.approx(x.var().item() / 60, rel=0.1)
        assert combined(2.0, 3.0) == 1.0
        assert combined(2.0, 9.0) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("setting", [(100, 16, 0.0), (100, 16, 0.3)])
def test_intervals_cover_the_expectation(setting):
    import importlib.util
    import pathlib

    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "quality" / "intervals.py"
    spec = importlib.util.spec_from_file_location("intervals", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    for row in benchmark.study([*benchmark.QUICK, "intra_cluster", "precision_recall"], *setting, trials=300):
        assert benchmark.LOW <= row["expectation"] <= benchmark.HIGH, row
        assert row["population"] is None or benchmark.LOW <= row["population"] <= benchmark.HIGH, row


class TestCopiesAmongUnseen:
    def sets(self):
        rng = torch.Generator().manual_seed(0)
        return (samples_of(torch.rand(n, 1, 8, 8, generator=rng) * 2 - 1) for n in (40, 150, 30))

    def test_training_images_among_the_unseen_do_not_hide_copies(self):
        fake, real, training = self.sets()
        copying = training.take(torch.arange(40) % 30)
        mixed = samples_of(torch.cat([real.images, training.images[:6]]))
        clean = scores("copies", comparison(copying, real, training))
        found = scores("copies", comparison(copying, mixed, training))
        assert found["copies[pixels]"].value == clean["copies[pixels]"].value == 1.0
        assert found["copies[test]"].value == clean["copies[test]"].value
        assert found["copies[pixels]"].details["unseen_that_were_seen"] == 6
        assert scores("copies", comparison(fake, mixed, training))["copies[pixels]"].value < 0.1

    def test_where_all_were_seen_nothing_is_said(self):
        fake, _, training = self.sets()
        with pytest.raises(DataError, match="name images that it did not see"):
            scores("copies", comparison(fake, training.take(torch.arange(10)), training))


def samples_of(images):
    return Samples(images, images.flatten(1))
