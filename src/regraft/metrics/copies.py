"""Copy rate: the share of generated images that lie nearer to a training image than unseen real images do.

The threshold is the 1st percentile of the distances from unseen real images to their nearest training image, so that a
perfect generator scores about 1 %.  Unseen images that equal a training image pixel for pixel are left out: they would make the
threshold zero, and no image would count as a copy.  In pixels the distance is the least over mirroring and shifts of up to two
pixels.

This rate needs unseen images, and counts images that are unusually near to training images.  The verdict's rate
(:class:`regraft.evaluation.copying.NeighbourScale`) needs training images only, and counts images that lie on one of them.

When images are few, replaying training images beats most generators under every distance between distributions; so the other
scores of a generator whose copy rate exceeds the bound do not count.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import DataError
from regraft.data.nearest import SHIFT, nearest_in_pixels, squared_distances
from regraft.metrics._intervals import halves_variance, share_interval
from regraft.metrics.base import Comparison, Metric, Score, require_images

PERCENTILE = 0.01
COPY_BOUND = 0.05
"""Copy rate beyond a perfect generator's from which on a generator's other scores do not count."""
MIN_UNSEEN = 20
"""Unseen images below which no copy rate counts as too high."""
ALL_SEEN = "every real image is one that training saw; name images that it did not see"
HALVES = 200


class Copies(Metric):
    """Share of generated images that are unusually near to a training image."""

    summary = "share of samples that copy a training image, in features and in pixels"
    needs_training = True
    has_floor = False  # the floor is the percentile, by construction

    def why_unmeasurable(self, comparison: Comparison) -> str | None:
        """See :meth:`Metric.why_unmeasurable`: there is no threshold if every real image is a training image."""
        training = comparison.training
        if training is None or not are_training_images(comparison.real.images, training.images).all():
            return None
        return ALL_SEEN

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the rate in features and in pixels."""
        training = comparison.training
        if training is None:
            return []
        require_images(1, training, "training", "copies")
        require_images(1, comparison.real, "unseen", "copies")
        is_unseen = ~are_training_images(comparison.real.images, training.images)
        if not is_unseen.any():
            raise DataError(f"copies: {ALL_SEEN}")
        details: dict[str, Any] = {
            "n_training": training.n,
            "percentile": PERCENTILE,
            "floor": PERCENTILE,
            "threshold_uncertain": int(is_unseen.sum()) < 100,
            "unseen_that_were_seen": int((~is_unseen).sum()),
        }
        fake, real = (
            squared_distances(s.features.double(), training.features.double()).min(1).values.sqrt()
            for s in (comparison.fake, comparison.real)
        )
        unseen = real[is_unseen]
        rate, threshold = share_nearer_than_unseen(fake, unseen)
        interval = _interval(fake, unseen, rate, comparison.seed)
        name = f"copies[{comparison.extractor}]"
        in_features = comparison.score(name, rate, "lower", interval=interval, threshold=threshold, **details)
        fake, _ = nearest_in_pixels(comparison.fake.images, training.images)
        unseen, _ = nearest_in_pixels(comparison.real.images[is_unseen], training.images)
        rate, threshold = share_nearer_than_unseen(fake, unseen)
        details["invariance"] = f"mirroring, shifts of {SHIFT} pixels"
        interval = _interval(fake, unseen, rate, comparison.seed)
        in_pixels = comparison.score(
            "copies[pixels]", rate, "lower", pixels=True, interval=interval, threshold=threshold, **details
        )
        return [in_features, in_pixels]


def are_training_images(images: Tensor, training: Tensor) -> Tensor:
    """Return for each image whether a training image has exactly its values.

    Args:
        images: (N, C, H, W).
        training: (M, C, H, W).

    Returns:
        (N,), bool.
    """
    known = set(_digests(training))
    return torch.tensor([digest in known for digest in _digests(images)], dtype=torch.bool)


def _digests(images: Tensor) -> list[bytes]:
    return [hashlib.sha256(image.numpy()).digest() for image in images.cpu().contiguous()]


def share_nearer_than_unseen(fake: Tensor, unseen: Tensor) -> tuple[float, float]:
    """Return the share of generated images that are nearer to training images than all but 1 % of unseen ones.

    Args:
        fake: distances of generated images to their nearest training image, (N,).
        unseen: distances of unseen images to theirs, (M,).

    Returns:
        The share, and the threshold: the 1st percentile of ``unseen``.
    """
    threshold = float(torch.quantile(unseen.double(), PERCENTILE))
    return float((fake < threshold).double().mean()), threshold


def exceeds_copy_bound(score: Mapping[str, Any]) -> bool:
    """Return whether a copy rate is surely 5 % above a perfect generator's, so that its other scores do not count.

    A perfect generator is expected at 1 %, or at 1 / (n + 1) with fewer than a hundred unseen images, where the threshold is
    the nearest of them.  With fewer than twenty nothing is sure.

    Args:
        score: a score of this metric as plain data.
    """
    low = score["interval"][0] if score.get("interval") else score["value"]
    return bool(score["n_real"] >= MIN_UNSEEN and low > max(PERCENTILE, 1 / (score["n_real"] + 1)) + COPY_BOUND)


def _interval(fake: Tensor, unseen: Tensor, rate: float, seed: int) -> tuple[float, float]:
    """Return the interval of a rate, in which both generated images and the unseen ones of the threshold vary."""
    rng = torch.Generator().manual_seed(seed)

    def rate_of(i: Tensor, j: Tensor) -> Tensor:
        return torch.tensor(share_nearer_than_unseen(fake[i], unseen[j])[0])

    too_few = min(len(fake), len(unseen)) < 4
    variance = 0.0 if too_few else float(halves_variance(rate_of, (len(fake), len(unseen)), HALVES, rng))
    return share_interval(rate, variance, len(fake))


PLUGIN = Copies()
