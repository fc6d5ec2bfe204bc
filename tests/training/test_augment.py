"""Augmentations do what they say to every image on its own, and let gradients through."""

import pytest
import torch

from regraft.training.augment import KINDS, augment, color, cutout, translation
from support.running import same, trained
from support.toys import rng, toy_gan, toy_images


def test_nothing_asked_nothing_done():
    x = torch.randn(3, 3, 8, 8)
    assert augment(x, (), rng()) is x


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_result_and_images_differ(kind):
    x = torch.rand(16, 3, 16, 16, generator=rng(1)) + 0.1
    a, b = augment(x, (kind,), rng()), augment(x, (kind,), rng())
    assert torch.equal(a, b)
    changes = (a - x).flatten(1).norm(dim=1)
    assert changes.unique().numel() > 4


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_passes(kind):
    x = torch.rand(4, 3, 8, 8, generator=rng(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: augment(t, (kind,), rng(3)), (x,))


def test_translation_moves_content_and_brings_in_zero():
    x = torch.zeros(200, 1, 16, 16)
    x[:, :, 8, 8] = 1
    moved = translation(x, rng())
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(200))
    places = moved.flatten(1).argmax(1)
    rows, columns = places // 16, places % 16
    assert rows.min() == 6
    assert rows.max() == 10
    assert columns.min() == 6
    assert columns.max() == 10
    assert set(moved.unique().tolist()) == {0.0, 1.0}


def test_translation_by_nothing_is_the_identity():
    x = torch.randn(5, 3, 9, 7, generator=rng())
    assert torch.equal(translation(x, rng(), ratio=0.0), x)


def test_cutout_sets_a_square_to_zero():
    holes = (cutout(torch.ones(300, 2, 16, 16), rng()) == 0).float()
    assert torch.equal(holes[:, 0], holes[:, 1])
    sizes = holes[:, 0].sum((1, 2))
    assert sizes.max() == 64, "half the side"
    assert sizes.min() >= 16, "centred on a pixel of the image at worst"
    # A hole is a rectangle: its area is the product of its extents.
    extents = holes[:, 0].any(1).sum(1) * holes[:, 0].any(2).sum(1)
    assert torch.equal(extents.float(), sizes)


def test_color_keeps_structure():
    """The change of a pixel is affine in the image's own grey and mean, so a constant grey image stays constant."""
    x = torch.full((8, 3, 4, 4), 0.2)
    y = color(x, rng())
    assert y.flatten(1).std(1).max() < 1e-6
    assert (y.mean((1, 2, 3)) - 0.2).abs().max() <= 0.5 + 1e-6


def test_color_keeps_a_grey_image_grey():
    x = torch.rand(8, 1, 4, 4, generator=rng()).expand(-1, 3, -1, -1)
    y = color(x, rng())
    assert torch.allclose(y[:, 0], y[:, 1], atol=1e-6)
    assert torch.allclose(y[:, 0], y[:, 2], atol=1e-6)


def test_probability_1_is_plain_augmentation_and_0_is_none():
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kinds = ("color", "translation", "cutout")
    rng = torch.Generator().manual_seed(1)
    plain, state = augment(x, kinds, rng), rng.get_state()
    rng = torch.Generator().manual_seed(1)
    assert torch.equal(augment(x, kinds, rng, 1.0), plain)
    assert torch.equal(rng.get_state(), state)
    assert torch.equal(augment(x, kinds, rng, 0.0), x)
    gan, images = toy_gan(), toy_images()
    assert same(trained("freezed", gan, images), trained("freezed", gan, images, augment_probability=1.0))
    off = trained("freezed", gan, images, augment=[])
    assert not same(trained("freezed", gan, images), off)


def test_images_are_augmented_one_by_one():
    x = torch.rand(4000, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    changed = augment(x, ("color",), torch.Generator().manual_seed(1), 0.3).ne(x).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    x = x.requires_grad_()
    augment(x, ("color",), torch.Generator().manual_seed(1), 0.3).sum().backward()
    assert x.grad.isfinite().all()
