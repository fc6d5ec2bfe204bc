"""Inception score against torchmetrics and closed forms."""

import pytest
import torch

from regraft.metrics.inception_score import inception_score
from support.measuring import Given, normal


class TestInceptionScore:
    @pytest.mark.filterwarnings("ignore:Metric", "ignore:std")
    def test_against_torchmetrics(self):
        from torchmetrics.image.inception import InceptionScore

        logits = normal(50, 6, scale=2.0)
        theirs = InceptionScore(feature=Given(6), splits=1).set_dtype(torch.float64)
        theirs.update(logits[:, :, None, None])
        assert inception_score(logits.softmax(1))[0].item() == pytest.approx(theirs.compute()[0].item(), rel=1e-6)

    def test_closed_forms(self):
        assert inception_score(torch.eye(5).repeat(4, 1))[0].item() == pytest.approx(5)
        assert inception_score(torch.full((8, 5), 0.2))[0].item() == pytest.approx(1)

    def test_left_out_values_are_those_of_the_other_images(self):
        p = normal(12, 4).softmax(1)
        wanted = [inception_score(torch.cat([p[:i], p[i + 1 :]]))[0] for i in range(12)]
        assert inception_score(p)[1].tolist() == pytest.approx([w.item() for w in wanted])
