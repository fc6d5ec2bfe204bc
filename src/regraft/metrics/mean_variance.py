"""Mean variance: how much generated images differ among themselves.

Published tables call it MV and do not say in which space; the two usual readings are given by name, each also as a ratio to
the real set's own value.  Absolute values are not comparable with published ones.

Source: Wang et al. 2020, "MineGAN", table 1 (the name); the definitions here are regraft's.
"""

import torch
from torch import Tensor

from regraft.metrics._intervals import around, jackknife
from regraft.metrics.base import Comparison, Metric, Score, at_least


class MeanVariance(Metric):
    """Variance across images, averaged over pixels or features."""

    summary = "variety: variance of pixels and of features, and their ratio to the real set's"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Four numbers: pixel and feature variance, absolute and as ratio."""
        at_least(2, comparison.fake, "generated", "mean_variance")
        at_least(2, comparison.real, "real", "mean_variance")
        scores = []
        for name, pixels in (("pixel", True), (f"feature[{comparison.extractor}]", False)):
            fake, real = (s.images.flatten(1) if pixels else s.features for s in (comparison.fake, comparison.real))
            value, reference = mean_variance(fake), mean_variance(real)
            fakes, reals = left_out(fake), left_out(real)
            interval = around(value, jackknife(fakes), len(fake), low=0.0)
            scores.append(
                comparison.score(f"mv_{name}", value, "higher", pixels=pixels, interval=interval, real_value=float(reference))
            )
            if reference > 0:
                variance = jackknife(fakes / reference, value / reals.clamp_min(1e-300))
                interval = around(value / reference, variance, min(len(fake), len(real)), low=0.0)
                scores.append(
                    comparison.score(f"mv_ratio_{name}", value / reference, "higher", pixels=pixels, interval=interval)
                )
        return scores


def mean_variance(x: Tensor) -> Tensor:
    """Unbiased variance across rows, averaged over columns; 0 for a set of one repeated image."""
    return x.double().var(0).mean()


def left_out(x: Tensor) -> Tensor:
    """:func:`mean_variance` without each row in turn, (N,); not a number for fewer than three rows."""
    n, dim = x.shape
    own = (x.double() - x.double().mean(0)).square().sum(1)
    return (own.sum() - own * (n / (n - 1))) / (n - 2) / dim if n > 2 else torch.full((n,), float("nan"), dtype=torch.float64)


PLUGIN = MeanVariance()
