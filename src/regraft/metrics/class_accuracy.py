"""Class accuracy: the share of generated images that a classifier takes for the class they should show.

Classes are matched by name.  The outputs of a classifier that has no names are taken to be numbered where the images' classes
are numbers, else to be named as those images that have as many classes, if both sides' names then fit.  Where names are unknown
on one side, class k is output k.
"""

from collections.abc import Sequence

from torch import Tensor

from regraft.core.errors import DataError
from regraft.metrics._intervals import share
from regraft.metrics.base import Comparison, Metric, Samples, Score, at_least

MOST_SHOWN = 6


class ClassAccuracy(Metric):
    """Share of images of the right class."""

    summary = "share of samples that a classifier takes for the class asked for (needs a classifier and labels)"
    needs_probabilities = True
    needs_labels = True
    has_floor = False  # the classifier's own accuracy on real images is given where they have labels

    def unfit(self, comparison: Comparison) -> str | None:
        """See :meth:`Metric.unfit`: classes of the generated images that the classifier does not know."""
        try:
            _right(comparison.fake, comparison)
        except DataError as error:
            return str(error).removeprefix("class_accuracy: ")
        return None

    def measure(self, comparison: Comparison) -> list[Score]:
        """One share."""
        fake, real = comparison.fake, comparison.real
        at_least(1, fake, "generated", "class_accuracy")
        right = _right(fake, comparison)
        if right is None or fake.labels is None:
            return []
        rates = {
            fake.classes[k] if fake.classes else k: round(float(right[fake.labels == k].mean()), 4)
            for k in sorted(set(fake.labels.tolist()))
        }
        reference = None
        try:
            real_right = _right(real, comparison)
            reference = float(real_right.mean()) if real_right is not None and real.n else None
        except DataError:  # real images of other classes say nothing of how good the classifier is at these
            pass
        value = float(right.mean())
        return [
            comparison.score(
                f"class_accuracy[{comparison.extractor}]",
                value,
                "higher",
                n_real=0,
                interval=accuracy_interval(value, fake.n),
                by_class=rates,
                real_value=reference,
            )
        ]


def accuracy_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy, 0 to 1, that was measured on ``n`` images."""
    return share(accuracy, 0.0, n)


def _right(samples: Samples, comparison: Comparison) -> Tensor | None:
    """Whether the classifier takes each image for its class, (N,) of 0 and 1; None without labels or classifier.

    Raises:
        DataError: if the classifier does not know an image's class.
    """
    if samples.probabilities is None or samples.labels is None:
        return None
    n = samples.probabilities.shape[1]
    sought = _sought(samples.labels, samples.classes, _outputs(comparison, n), n)
    return (samples.probabilities.argmax(1) == sought).double()


def _sought(labels: Tensor, classes: Sequence[str], outputs: Sequence[str], n: int) -> Tensor:
    """Which of a classifier's ``n`` outputs each label means, (N,); of ``outputs`` the names, if they are known."""
    if classes and outputs and tuple(classes) != tuple(outputs):
        strange = [classes[k] for k in sorted(set(labels.tolist())) if classes[k] not in outputs]
        if strange:
            raise DataError(
                f"class_accuracy: images of the classes {_listed(strange)}, and the classifier knows {_listed(outputs)}; give "
                "both the same names, or make a classifier of these classes with regraft train-classifier"
            )
        numbers = [outputs.index(name) if name in outputs else -1 for name in classes]
        return labels.new_tensor(numbers)[labels]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n:
        raise DataError(f"class_accuracy: a label {int(labels.max())}, and the classifier knows {n} classes")
    return labels


def _outputs(comparison: Comparison, n: int) -> tuple[str, ...]:
    """Names of the classifier's ``n`` outputs: its own, else those that fit all images; empty where unknown."""
    if len(comparison.classes) == n:
        return comparison.classes
    named = [samples.classes for samples in (comparison.fake, comparison.real) if samples.classes]
    for outputs in (tuple(map(str, range(n))), *named):
        if len(outputs) == n and all(set(classes) <= set(outputs) for classes in named):
            return outputs
    return ()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


PLUGIN = ClassAccuracy()
