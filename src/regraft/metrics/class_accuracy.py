"""Class accuracy: the share of generated images that a classifier takes for the class they should show.

Classes are matched by name.  The outputs of a classifier without names get the names "0", "1", ... if all images' classes are
such numbers; else they get the class names of a set of images that has as many classes, if all images' classes are among them.
If names are unknown on one side, class k is output k.
"""

from collections.abc import Sequence

from torch import Tensor

from regraft.core.errors import DataError
from regraft.metrics._intervals import share_interval
from regraft.metrics.base import Comparison, Metric, Samples, Score, require_images

MAX_SHOWN = 6
"""Class names that an error lists."""


class ClassAccuracy(Metric):
    """Share of generated images that the classifier takes for the right class."""

    summary = "share of samples that a classifier takes for the class asked for (needs a classifier and labels)"
    needs_probabilities = True
    needs_labels = True
    has_floor = False  # the classifier's accuracy on real images is given instead if they have labels

    def why_unmeasurable(self, comparison: Comparison) -> str | None:
        """See :meth:`Metric.why_unmeasurable`: the classifier may not know a class of the generated images."""
        try:
            _is_right(comparison.fake, comparison)
        except DataError as error:
            return str(error).removeprefix("class_accuracy: ")
        return None

    def measure(self, comparison: Comparison) -> list[Score]:
        """Measure the share, with the share of each class and that of real images."""
        fake, real = comparison.fake, comparison.real
        require_images(1, fake, "generated", "class_accuracy")
        right = _is_right(fake, comparison)
        if right is None or fake.labels is None:
            return []
        rates = {
            fake.classes[k] if fake.classes else k: round(float(right[fake.labels == k].mean()), 4)
            for k in sorted(set(fake.labels.tolist()))
        }
        reference = None
        try:
            real_right = _is_right(real, comparison)
            reference = float(real_right.mean()) if real_right is not None and real.n else None
        except DataError:  # real images of other classes do not tell how good the classifier is at these
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
    return share_interval(accuracy, 0.0, n)


def _is_right(samples: Samples, comparison: Comparison) -> Tensor | None:
    """Return 1 for each image that the classifier takes for its class and 0 for the others, (N,).

    Returns None without labels or classifier.

    Raises:
        DataError: if the classifier does not know an image's class.
    """
    if samples.probabilities is None or samples.labels is None:
        return None
    n = samples.probabilities.shape[1]
    outputs = _outputs_of_labels(samples.labels, samples.classes, _output_names(comparison, n), n)
    return (samples.probabilities.argmax(1) == outputs).double()


def _outputs_of_labels(labels: Tensor, classes: Sequence[str], outputs: Sequence[str], n: int) -> Tensor:
    """Find the classifier's output for each label.

    Args:
        labels: (N,).
        classes: names of the labels; empty if unknown.
        outputs: names of the classifier's outputs; empty if unknown.
        n: number of outputs.

    Returns:
        Indices of outputs, (N,).
    """
    if classes and outputs and tuple(classes) != tuple(outputs):
        unknown = [classes[k] for k in sorted(set(labels.tolist())) if classes[k] not in outputs]
        if unknown:
            raise DataError(
                f"class_accuracy: images of the classes {_listed(unknown)}, and the classifier knows {_listed(outputs)}; give "
                "both the same names, or make a classifier of these classes with regraft train-classifier"
            )
        numbers = [outputs.index(name) if name in outputs else -1 for name in classes]
        return labels.new_tensor(numbers)[labels]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n:
        raise DataError(f"class_accuracy: a label {int(labels.max())}, and the classifier knows {n} classes")
    return labels


def _output_names(comparison: Comparison, n: int) -> tuple[str, ...]:
    """Return the names of the classifier's ``n`` outputs: its own, or names that fit all images; empty if unknown."""
    if len(comparison.classes) == n:
        return comparison.classes
    class_names = [samples.classes for samples in (comparison.fake, comparison.real) if samples.classes]
    for outputs in (tuple(map(str, range(n))), *class_names):
        if len(outputs) == n and all(set(classes) <= set(outputs) for classes in class_names):
            return outputs
    return ()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


PLUGIN = ClassAccuracy()
