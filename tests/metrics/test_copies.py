"""Shares of copies: planted copies are found, mirrored and shifted ones too."""

import pytest
import torch

from regraft.core.errors import DataError
from regraft.metrics.base import Comparison, Samples
from regraft.metrics.copies import share_nearer_than_unseen
from support.measuring import comparison, samples_of, scores
from support.plugins import find_plugin


class TestCopiesAmongUnseen:
    def sets(self):
        rng = torch.Generator().manual_seed(0)
        return (samples_of(torch.rand(n, 1, 8, 8, generator=rng) * 2 - 1) for n in (40, 150, 30))

    def test_training_images_among_the_unseen_do_not_hide_copies(self):
        fake, real, training = self.sets()
        copying = training.take(torch.arange(40) % 30)
        mixed = samples_of(torch.cat([real.images, training.images[:6]]))
        clean = scores("copies", comparison(copying, real, training))
        found = scores("copies", comparison(copying, mixed, training))
        assert found["copies[pixels]"].value == clean["copies[pixels]"].value == 1.0
        assert found["copies[test]"].value == clean["copies[test]"].value
        assert found["copies[pixels]"].details["unseen_that_were_seen"] == 6
        assert scores("copies", comparison(fake, mixed, training))["copies[pixels]"].value < 0.1

    def test_where_all_were_seen_nothing_is_said(self):
        fake, _, training = self.sets()
        with pytest.raises(DataError, match="name images that it did not see"):
            scores("copies", comparison(fake, training.take(torch.arange(10)), training))


class TestCopies:
    def images(self, n, seed):
        return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    def score(self, fake, real, training):
        sets = [Samples(x, x.flatten(1)) for x in (fake, real, training)]
        return [s.value for s in find_plugin("metrics", "copies").compute(Comparison(*sets, "test", None, 0))]

    def test_replayed_training_images_are_all_copies(self):
        training, unseen = self.images(10, 0), self.images(200, 1)
        assert self.score(training, unseen, training) == [1.0, 1.0]

    def test_unseen_images_are_copies_at_the_chosen_percentile(self):
        training, unseen = self.images(10, 0), self.images(400, 1)
        for value in self.score(unseen, unseen, training):
            assert value == pytest.approx(0.01, abs=0.005)

    @pytest.mark.parametrize("change", ["flip", "shift", "both"])
    def test_mirrored_and_shifted_copies_are_found_in_pixels(self, change):
        training, unseen = self.images(10, 0), self.images(200, 1)
        fake = training.flip(3) if change in ("flip", "both") else training
        fake = torch.roll(fake, (2, -1), (2, 3)) if change in ("shift", "both") else fake
        features, pixels = self.score(fake, unseen, training)
        assert pixels == 1.0
        assert features < 0.5

    def test_rate_and_threshold(self):
        rate, threshold = share_nearer_than_unseen(torch.tensor([0.0, 5.0, 9.0, 9.0]), torch.linspace(1, 101, 101))
        assert threshold == pytest.approx(2.0)
        assert rate == 0.25
