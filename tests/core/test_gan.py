"""GANs."""

import torch

from regraft.core.gan import GAN


def test_gan_can_be_sampled_in_any_batch_size(gan):
    whole = GAN(gan.generator).sample(20, 3, batch=20)
    for batch in (1, 7):
        assert (GAN(gan.generator).sample(20, 3, batch=batch) - whole).abs().max() < 1 / 127.5
    assert torch.allclose(gan.sample(5, 3, first=9), whole[9:14], atol=1 / 255)
