"""Compute intervals for the expectation of a metric at the numbers of images that it was measured on.

A metric such as the Fréchet distance is biased upwards at every number of images, and drawing with replacement biases it
once more, so percentiles of a bootstrap miss even its own expectation.  The functions here estimate the metric's variance from
parts of the sample and centre the interval on the value, whose expectation is covered by definition.

Near a floor a metric is quadratic in the sample, not linear.  With V1 and V2 the variances of both parts, removing one image at
a time gives V1 + 2 V2 and random halves V1 + 3 V2 on average, so neither is right; V1 + V2 follows from the two.

Source: Efron and Stein 1981, "The jackknife estimate of variance"; Wilson 1927, "Probable inference".
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Z = 1.959964
"""The 97.5 % point of the normal distribution."""


def student_quantile(degrees: int) -> float:
    """Return the 97.5 % point of Student's t, to 2 % from four degrees of freedom on."""
    return Z + 2.37 / degrees + 2.8 / degrees**2


def student_interval(
    value: float | Tensor, variance: float | Tensor, n: int, low: float = -math.inf
) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric, value +- t(n - 1) sqrt(variance).

    Args:
        value: the metric.
        variance: variance of the metric.
        n: images of the smaller set.
        low: least possible value, at which the interval is cut.

    Returns:
        Ends of the interval; None for fewer than four images or a variance that is not finite.
    """
    centre, deviation = float(value), math.sqrt(max(float(variance), 0.0))
    if n < 4 or not math.isfinite(deviation):
        return None
    half_width = student_quantile(n - 1) * deviation
    return max(centre - half_width, low), max(centre + half_width, low)


def share_interval(value: float, variance: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of images, widened if the variance is larger than the binomial one.

    Args:
        value: the share, 0 to 1.
        variance: variance of the share; 0 for the binomial one.
        n: images that were counted.
    """
    binomial = value * (1 - value) / n
    effective = n * binomial / max(variance, binomial) if binomial > 0 else n
    z2 = student_quantile(max(n - 1, 1)) ** 2
    centre = (value + z2 / (2 * effective)) / (1 + z2 / effective)
    half_width = math.sqrt(z2 * (value * (1 - value) + z2 / (4 * effective)) / effective) / (1 + z2 / effective)
    return max(centre - half_width, 0.0), min(centre + half_width, 1.0)


def jackknife_variance(*left_out: Tensor) -> float:
    """Estimate a metric's variance from its values with one image left out.

    Args:
        left_out: for each set of images, the metric without each image in turn, (N,).
    """
    return sum(float((len(t) - 1) / len(t) * (t.double() - t.double().mean()).square().sum()) for t in left_out)


def halves_variance(statistic: Callable[..., Tensor], sizes: Sequence[int], replicates: int, rng: torch.Generator) -> Tensor:
    """Estimate a statistic's variance from its values on random halves of every set; unbiased if it is linear.

    Args:
        statistic: called with indices into each set; returns one or several numbers.
        sizes: images of each set.
        replicates: how often halves are drawn.
        rng: draws them.

    Returns:
        Of the statistic's shape, float64.
    """
    values = []
    for _ in range(replicates):
        values.append(statistic(*(torch.randperm(n, generator=rng)[: n // 2].sort().values for n in sizes)).double())
    return torch.stack(values).var(0)


def combine_variances(removing_one: float, halves: float) -> float:
    """Return V1 + V2 = 2 (V1 + 2 V2) - (V1 + 3 V2), at least half of the first, as V1 cannot be negative.

    Args:
        removing_one: the jackknife's variance, V1 + 2 V2.
        halves: the variance between random halves, V1 + 3 V2.
    """
    return max(2 * removing_one - halves, removing_one / 2)
