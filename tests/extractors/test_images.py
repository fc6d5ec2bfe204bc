"""Images in the form that extractors read."""

import torch
from torch.nn import functional as F

from support.toys import uniform_images


def test_images_are_resized_as_torch_does():
    from regraft.extractors._images import resize

    x = uniform_images(2, 9)
    assert resize(x, 9) is x
    assert torch.equal(resize(x, 5), F.interpolate(x, size=(5, 5), mode="bilinear", antialias=True))
