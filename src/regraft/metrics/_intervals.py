"""Intervals for the expectation of a metric at the numbers of images that it was computed from.

A metric such as the Fréchet distance is biased upwards at every number of images, and drawing with replacement biases it
once more, so percentiles of a bootstrap miss even its own expectation.  What follows estimates the metric's variance from
parts of the sample and centres the interval on the value, whose expectation is covered by definition.

Near a floor a metric is quadratic in the sample, not linear.  With V1 and V2 the variances of both parts, removing one image at
a time gives V1 + 2 V2 and random halves V1 + 3 V2 on average, so neither is right; V1 + V2 follows from the two.

Source: Efron and Stein 1981, "The jackknife estimate of variance"; Wilson 1927, "Probable inference".
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LEVEL = 0.95
Z = 1.959964


def quantile(degrees: int) -> float:
    """The 97.5 % point of Student's t, to 2 % from four degrees of freedom on."""
    return Z + 2.37 / degrees + 2.8 / degrees**2


def around(value: float | Tensor, variance: float | Tensor, n: int, low: float = -math.inf) -> tuple[float, float] | None:
    """Interval of a value from its variance, cut at a least possible value; None where that variance is unknown.

    Args:
        value: the metric.
        variance: of the metric.
        n: images of the smaller set.
        low: least possible value.
    """
    centre, spread = float(value), math.sqrt(max(float(variance), 0.0))
    if n < 4 or not math.isfinite(spread):
        return None
    reach = quantile(n - 1) * spread
    return max(centre - reach, low), max(centre + reach, low)


def share(value: float, variance: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, widened to a variance beyond the binomial one.

    Args:
        value: the share, 0 to 1.
        variance: of the share, from whatever source.
        n: images that were counted.
    """
    binomial = value * (1 - value) / n
    effective = n * binomial / max(variance, binomial) if binomial > 0 else n
    z2 = quantile(max(n - 1, 1)) ** 2
    centre = (value + z2 / (2 * effective)) / (1 + z2 / effective)
    reach = math.sqrt(z2 * (value * (1 - value) + z2 / (4 * effective)) / effective) / (1 + z2 / effective)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def jackknife(*left_out: Tensor) -> float:
    """Variance from the values with one image left out.

    Args:
        left_out: for each set of images its values, (N,).
    """
    return sum(float((len(t) - 1) / len(t) * (t.double() - t.double().mean()).square().sum()) for t in left_out)


def half_variance(statistic: Callable[..., Tensor], sizes: Sequence[int], replicates: int, rng: torch.Generator) -> Tensor:
    """Variance between values from random halves of every set; right as it is where the metric is linear.

    Args:
        statistic: takes indices of each set, and gives one or several numbers.
        sizes: of the sets.
        replicates: number of halves.
        rng: draws them.

    Returns:
        Of the statistic's shape, float64.
    """
    values = []
    for _ in range(replicates):
        values.append(statistic(*(torch.randperm(n, generator=rng)[: n // 2].sort().values for n in sizes)).double())
    return torch.stack(values).var(0)


def combined(removing_one: float, halves: float) -> float:
    """V1 + V2 from both estimates, kept within what is possible: V2 cannot exceed V1 + 2 V2 by itself."""
    return max(2 * removing_one - halves, removing_one / 2)
