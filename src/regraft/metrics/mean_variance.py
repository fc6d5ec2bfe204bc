"""Mean variance: how much generated images differ among themselves.

Published tables call it MV and do not say in which space; the two usual readings are given by name, each also as a ratio to
the real set's own value.  Absolute values are not comparable with published ones.

Source: Wang et al. 2020, "MineGAN", table 1 (the name); the definitions here are regraft's.
"""

from torch import Tensor

from regraft.metrics.base import Comparison, Metric, Score, at_least


class MeanVariance(Metric):
    """Variance across images, averaged over pixels or features."""

    summary = "variety: variance of pixels and of features, and their ratio to the real set's"

    def compute(self, comparison: Comparison) -> list[Score]:
        """Four numbers: pixel and feature variance, absolute and as ratio."""
        at_least(2, comparison.fake, "generated", "mean_variance")
        at_least(2, comparison.real, "real", "mean_variance")
        scores = []
        for name, pixels in (("pixel", True), (f"feature[{comparison.extractor}]", False)):
            fake, real = (s.images.flatten(1) if pixels else s.features for s in (comparison.fake, comparison.real))
            value, reference = mean_variance(fake), mean_variance(real)
            scores.append(comparison.score(f"mv_{name}", value, "higher", pixels=pixels, real_value=float(reference)))
            if reference > 0:
                scores.append(comparison.score(f"mv_ratio_{name}", value / reference, "higher", pixels=pixels))
        return scores


def mean_variance(x: Tensor) -> Tensor:
    """Unbiased variance across rows, averaged over columns; 0 for a set of one repeated image."""
    return x.double().var(0).mean()


PLUGIN = MeanVariance()
