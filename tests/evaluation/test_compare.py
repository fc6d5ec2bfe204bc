"""Comparing sets of images by several metrics."""

import pytest

from regraft.core.errors import ConfigError
from regraft.evaluation.compare import compare, extractor
from support.toys import uniform_images


def test_a_metric_that_was_named_and_lacks_something_is_an_error():
    features = extractor("random_conv")
    with pytest.raises(ConfigError, match="inception_score needs a classifier, and random_conv is none"):
        compare(uniform_images(5), uniform_images(5, seed=1), None, features, ["inception_score"])
    with pytest.raises(ConfigError, match="copies needs the images that training saw"):
        compare(uniform_images(5), uniform_images(5, seed=1), None, features, ["copies"])
