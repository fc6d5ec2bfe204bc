"""Inception score: exp of the mean divergence of an image's class probabilities from their average.

It ignores the target images and rewards a generator that shows one perfect image per class; it is here to compare with
published tables.  It is called "IS" only under the Inception-2015 extractor; else its name contains the classifier's.

Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4.
"""

import torch
from torch import Tensor

from regraft.metrics._intervals import jackknife_variance, student_interval
from regraft.metrics.base import Comparison, Metric, Score, require_images


class InceptionScore(Metric):
    """Inception score of generated images."""

    summary = "inception score: sure and varied class probabilities (needs a classifier)"
    needs_probabilities = True

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the score of all generated images in one split."""
        fake, real = comparison.fake.probabilities, comparison.real.probabilities
        if fake is None:
            return []
        name = "IS" if comparison.extractor == "inception" else f"inception_score[{comparison.extractor}]"
        require_images(2, comparison.fake, "generated", name)
        value, left_out = inception_score(fake)
        reference = None if real is None or len(real) == 0 else float(inception_score(real)[0])
        interval = student_interval(value, jackknife_variance(left_out), len(fake), low=1.0)
        return [
            comparison.score(
                name, value, "higher", interval=interval, n_real=0, splits=1, classes=fake.shape[1], real_value=reference
            )
        ]


def inception_score(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the score, and the score without each image in turn.

    Args:
        probabilities: (N, K), rows of sum 1.

    Returns:
        Scalar and (N,), float64.
    """
    p = probabilities.double()
    n = len(p)
    entropies = torch.special.entr(p).sum(1)
    value = (torch.special.entr(p.mean(0)).sum() - entropies.mean()).exp()
    if n < 2:
        return value, torch.full((n,), float("nan"), dtype=torch.float64)
    marginals = ((p.sum(0) - p) / (n - 1)).clamp_min(0)
    return value, (torch.special.entr(marginals).sum(1) - (entropies.sum() - entropies) / (n - 1)).exp()


PLUGIN = InceptionScore()
