"""The nearest images of a set, whatever shifts and mirroring hide."""

import pytest
import torch

from regraft.data.nearest import nearest, nearest_in_pixels, small
from support.toys import strokes


class TestNearest:
    def test_shifts_and_mirroring_do_not_hide_an_image(self):
        images = strokes(20, 0)
        moved = torch.roll(images.flip(3), (1, -2), (2, 3))
        near = nearest(moved, images)
        found = near.index[:, 0] == torch.arange(20)
        # Candidates are picked among blurred pictures, which rarely misses one.
        assert found.sum() >= 18
        # What is rolled round the border is outside the part that is compared.
        assert near.distance[found, 0].max() < 1e-6
        assert (near.distance.diff(dim=1) >= 0).all()

    def test_own_image_is_left_out(self):
        images = strokes(10, 0)
        assert (nearest(images, images).index[:, 0] == torch.arange(10)).all()
        near = nearest(images, images, exclude=torch.arange(10))
        assert not (near.index == torch.arange(10)[:, None]).any()

    def test_distance_against_a_plain_restatement(self):
        a, b = strokes(3, 1), strokes(4, 2)
        found = nearest(a, b)
        for k in range(3):
            straightforward = min(
                (((c[:, 2 + dy : 14 + dy, 2 + dx : 14 + dx]) - a[k][:, 2:14, 2:14]) ** 2).mean().sqrt().item()
                for image in b
                for c in (image, image.flip(2))
                for dy in range(-2, 3)
                for dx in range(-2, 3)
            )
            assert found.distance[k, 0].item() == pytest.approx(straightforward, abs=1e-6)

    def test_small_keeps_the_shape(self):
        assert small(torch.zeros(2, 3, 64, 128)).shape == (2, 3, 16, 32)
        assert small(torch.zeros(2, 3, 20, 20)).shape == (2, 3, 20, 20)

    def test_nobody_to_be_near_to(self):
        with pytest.raises(ValueError, match="no other image"):
            nearest(strokes(1, 0), strokes(1, 0), exclude=torch.tensor([0]))

    def test_the_search_in_pixels_names_the_right_image(self):
        images = torch.rand(20, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
        distance, index = nearest_in_pixels(images[[7, 3]].flip(3), images)
        assert index.tolist() == [7, 3]
        assert distance.max() < 1e-5
