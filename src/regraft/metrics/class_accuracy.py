"""Class accuracy: the share of generated images that a classifier takes for the class they should show."""

from regraft.errors import DataError
from regraft.metrics._intervals import share
from regraft.metrics.base import Comparison, Metric, Score, at_least


class ClassAccuracy(Metric):
    """Share of images of the right class."""

    summary = "share of samples that a classifier takes for the class asked for (needs a classifier and labels)"
    needs_probabilities = True
    needs_labels = True
    has_floor = False  # the classifier's own accuracy on real images is given where they have labels

    def measure(self, comparison: Comparison) -> list[Score]:
        """One share."""
        fake, real = comparison.fake, comparison.real
        if fake.probabilities is None or fake.labels is None:
            return []
        at_least(1, fake, "generated", "class_accuracy")
        classes = fake.probabilities.shape[1]
        if int(fake.labels.max()) >= classes or int(fake.labels.min()) < 0:
            raise DataError(f"class_accuracy: a label {int(fake.labels.max())}, and the classifier knows {classes} classes")
        right = (fake.probabilities.argmax(1) == fake.labels).double()
        rates = {
            k: round(float(right[fake.labels == k].mean()), 4) for k in sorted(set(fake.labels.tolist()))
        }  # fmt: skip
        reference = None
        if real.probabilities is not None and real.labels is not None and real.n:
            reference = float((real.probabilities.argmax(1) == real.labels).double().mean())
        value = float(right.mean())
        return [
            comparison.score(
                f"class_accuracy[{comparison.extractor}]", value, "higher", n_real=0, interval=share(value, 0.0, fake.n),
                by_class=rates, real_value=reference,
            )
        ]  # fmt: skip


PLUGIN = ClassAccuracy()
