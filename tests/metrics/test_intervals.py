"""Intervals against SciPy, closed forms, and repeated draws."""

import pytest
import torch

from regraft.metrics._intervals import combine_variances, halves_variance, jackknife_variance, share_interval, student_quantile
from support.measuring import normal


class TestIntervals:
    def test_quantiles_of_t(self):
        import scipy.stats

        for degrees in (5, 9, 24, 99, 10_000):
            assert student_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=0.01)

    def test_share_against_scipy(self):
        import scipy.stats

        wanted = scipy.stats.binomtest(37, 1000).proportion_ci(method="wilson")
        assert share_interval(0.037, 0.0, 1000) == pytest.approx((wanted.low, wanted.high), rel=0.01)
        assert share_interval(0.0, 0.0, 50)[0] == 0
        assert share_interval(1.0, 0.0, 50) == pytest.approx((1 - share_interval(0.0, 0.0, 50)[1], 1.0))

    def test_jackknife_of_a_mean(self):
        x = normal(40, 1)[:, 0]
        assert jackknife_variance((x.sum() - x) / 39) == pytest.approx(x.var().item() / 40)

    def test_halves_of_a_mean_and_of_a_quadratic_statistic(self):
        """V1 for a mean; V1 + 3 V2 where the jackknife says V1 + 2 V2."""
        x = normal(60, 1)[:, 0]
        rng = torch.Generator().manual_seed(0)
        assert halves_variance(lambda i: x[i].mean(), (60,), 2000, rng).item() == pytest.approx(x.var().item() / 60, rel=0.1)
        assert combine_variances(2.0, 3.0) == 1.0
        assert combine_variances(2.0, 9.0) == 1.0


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
