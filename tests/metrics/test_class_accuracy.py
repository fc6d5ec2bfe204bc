"""How many images a classifier finds of the class that was asked for, by number and by name."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from regraft.core.errors import DataError
from support.measuring import comparison, normal, samples, scores
from support.plugins import find_plugin


def test_class_accuracy():
    labels = torch.tensor([0, 0, 1, 1, 2])
    probabilities = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 0]), 3).double()
    fake = samples(normal(5, 16), probabilities=probabilities, labels=labels)
    score = scores("class_accuracy", comparison(fake, samples(normal(5, 16))))["class_accuracy[test]"]
    assert score.value == pytest.approx(0.6)
    assert score.details["by_class"] == {0: 0.5, 1: 1.0, 2: 0.0}
    bad = samples(normal(5, 16), probabilities=probabilities, labels=labels + 2)
    with pytest.raises(DataError, match="a label 4, and the classifier knows 3 classes"):
        scores("class_accuracy", comparison(bad, fake))


@pytest.mark.parametrize(
    ("outputs", "classes", "labels", "right"),
    [
        ("abc", "cab", [1, 1, 2, 0], [1, 1, 1, 1]),  # another order
        ("abc", "bc", [0, 1, 1, 0], [0, 0, 0, 0]),  # some of the classes
        ("abc", "xbca", [3, 3, 1, 2], [1, 1, 1, 1]),  # a strange one that no image shows
        ("abc", "", [0, 0, 1, 2], [1, 1, 1, 1]),  # without names on one side: by number
        ("", "cab", [0, 0, 1, 2], [1, 1, 1, 1]),
        ("", ("1", "2"), [0, 1, 0, 1], [0, 0, 1, 1]),  # classes that are numbers are those outputs
        ("", ("1", "2", "3"), [0, 0, 1, 2], [1, 1, 1, 1]),  # unless they do not fit
    ],
)
def test_class_accuracy_matches_names(outputs, classes, labels, right):
    probabilities = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2]), 3).double()  # a, a, b, c
    fake = samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor(labels), classes=tuple(classes))
    given = dataclasses.replace(comparison(fake, fake), classes=tuple(outputs))
    score = scores("class_accuracy", given)["class_accuracy[test]"]
    assert score.value == pytest.approx(np.mean(right))
    assert score.details["real_value"] == score.value
    assert set(score.details["by_class"]) == {classes[k] if classes else k for k in labels}


def test_class_accuracy_of_real_images_with_other_names():
    probabilities = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2]), 3).double()

    def of(classes, labels):
        return samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor(labels), classes=tuple(classes))

    real_value = {}
    for outputs in ("abc", ""):
        for classes, labels in (("cab", [1, 1, 2, 0]), ("bc", [0, 0, 0, 1]), ("xyz", [0, 0, 1, 2])):
            given = dataclasses.replace(comparison(of("abc", [0, 0, 1, 2]), of(classes, labels)), classes=tuple(outputs))
            score = scores("class_accuracy", given)["class_accuracy[test]"]
            assert score.value == 1
            real_value[outputs, classes] = score.details["real_value"]
    assert (real_value["abc", "cab"], real_value["abc", "bc"], real_value["abc", "xyz"]) == (1, 0.5, None)
    # A classifier without names has those of the images with as many classes, where both sides fit.
    assert (real_value["", "cab"], real_value["", "bc"], real_value["", "xyz"]) == (1, 0.5, 1)


def test_classes_that_the_classifier_does_not_know():
    probabilities = torch.full((4, 3), 1 / 3)
    fake = samples(normal(4, 16), probabilities=probabilities, labels=torch.tensor([0, 1, 1, 2]), classes=("a", "p", "q"))
    given = dataclasses.replace(comparison(fake, fake), classes=("a", "b", "c"))
    wanted = "images of the classes p, q, and the classifier knows a, b, c; .* regraft train-classifier"
    with pytest.raises(DataError, match=f"class_accuracy: {wanted}"):
        scores("class_accuracy", given)
    assert re.fullmatch(f"{wanted}", find_plugin("metrics", "class_accuracy").why_unmeasurable(given))
