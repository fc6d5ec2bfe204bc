"""What every score carries: floors, and features of one extractor."""

import pytest

from regraft.core import discover
from regraft.core.errors import DataError
from support.measuring import compare_vectors, comparison, normal, samples, scores
from support.plugins import find_plugin


class TestFloors:
    def test_floor_is_given_and_its_numbers_said(self):
        found = scores("kmmd", comparison(samples(normal(100, 16, mean=1.0)), samples(normal(60, 16, 1))))["kmmd[test]"]
        assert found.n_real == 60
        assert found.details["floor_n"] == 30
        assert "30 real images" in found.details["floor_note"]
        assert found.details["floor"] < found.details["value_at_floor_n"]

    def test_unequal_numbers_are_said(self):
        found = scores("kid", comparison(samples(normal(30, 16)), samples(normal(60, 16, 1)), None))["kid[test]"]
        assert found.details["floor_n"] == 30
        assert found.details["floor_note"]  # the score itself uses all 60 real images on one side only

    def test_too_few_real_images(self):
        found = scores("frechet", comparison(samples(normal(30, 16)), samples(normal(10, 16, 1))))["frechet[test]"]
        assert found.details["floor"] is None
        assert "10 real images, and 16 are needed" in found.details["floor_note"]


class TestTables:
    def test_features_of_two_extractors_are_not_compared(self):
        with pytest.raises(DataError, match="different extractors"):
            comparison(samples(normal(5, 16)), samples(normal(5, 17)))


@pytest.mark.parametrize("name", discover.names("metrics"))
def test_too_few_images_is_a_clear_error(name):
    one = normal(1, 64)
    metric = find_plugin("metrics", name)
    if metric.needs_training or metric.needs_labels:
        pytest.skip("refuses these sets for another reason, which its own tests hold")
    with pytest.raises(DataError, match=r"needs at least \d generated images, 1 given"):
        metric.compute(compare_vectors(one, normal(5, 64), normal(5, 64)))
