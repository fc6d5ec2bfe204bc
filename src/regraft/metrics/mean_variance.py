"""Mean variance: how much generated images differ from one another.

Published tables call it MV and do not say in which space.  So it is measured in pixels and in features, each also as a ratio to
the value of the real images.  Absolute values are not comparable with published ones.

Source: Wang et al. 2020, "MineGAN", table 1 (the name); the definitions here are regraft's.
"""

import torch
from torch import Tensor

from regraft.metrics._intervals import jackknife_variance, student_interval
from regraft.metrics.base import Comparison, Metric, Score, require_images


class MeanVariance(Metric):
    """Variance across images, averaged over pixels or over features."""

    summary = "variety: variance of pixels and of features, and their ratio to the real set's"

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure pixel and feature variance, absolute and as a ratio."""
        require_images(2, comparison.fake, "generated", "mean_variance")
        require_images(2, comparison.real, "real", "mean_variance")
        scores = []
        for name, pixels in (("pixel", True), (f"feature[{comparison.extractor}]", False)):
            fake, real = (s.images.flatten(1) if pixels else s.features for s in (comparison.fake, comparison.real))
            value, reference = mean_variance(fake), mean_variance(real)
            fakes, reals = left_out(fake), left_out(real)
            interval = student_interval(value, jackknife_variance(fakes), len(fake), low=0.0)
            scores.append(
                comparison.score(f"mv_{name}", value, "higher", pixels=pixels, interval=interval, real_value=float(reference))
            )
            if reference > 0:
                variance = jackknife_variance(fakes / reference, value / reals.clamp_min(1e-300))
                interval = student_interval(value / reference, variance, min(len(fake), len(real)), low=0.0)
                scores.append(
                    comparison.score(f"mv_ratio_{name}", value / reference, "higher", pixels=pixels, interval=interval)
                )
        return scores


def mean_variance(x: Tensor) -> Tensor:
    """Return the unbiased variance across rows, averaged over columns."""
    return x.double().var(0).mean()


def left_out(x: Tensor) -> Tensor:
    """Return :func:`mean_variance` without each row in turn, (N,); NaN for fewer than three rows."""
    n, dim = x.shape
    if n < 3:
        return torch.full((n,), float("nan"), dtype=torch.float64)
    squares = (x.double() - x.double().mean(0)).square().sum(1)
    return (squares.sum() - squares * (n / (n - 1))) / (n - 2) / dim


PLUGIN = MeanVariance()
