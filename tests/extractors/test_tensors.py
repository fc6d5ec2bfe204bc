"""Images in the form that extractors read."""

import torch
from torch.nn import functional as F

from support.toys import uniform_images


def test_reading_is_as_torch_would_resize():
    from regraft.extractors._tensors import resized

    x = uniform_images(2, 9)
    assert resized(x, 9) is x
    assert torch.equal(resized(x, 5), F.interpolate(x, size=(5, 5), mode="bilinear", antialias=True))
