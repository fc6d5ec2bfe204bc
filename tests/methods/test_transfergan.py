"""TransferGAN: which networks it transfers."""

import pytest
import torch

from support.running import attach, run
from support.toys import toy_gan, toy_images


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {"generator": True, "critic": True}),
        ({"transfer_generator": False}, {"generator": False, "critic": True}),
        ({"transfer_critic": False}, {"generator": True, "critic": False}),
    ],
)
@pytest.mark.parametrize("n", [0, 2])
def test_what_transfergan_transfers(settings, kept, n):
    source = toy_gan("wgangp_resnet", n_classes=n)
    images = toy_images(labels=[k % 3 for k in range(12)])
    adaptation, _ = attach("transfergan", source, images, **settings)
    for role, expected in kept.items():
        network, old = getattr(adaptation, role), getattr(source, role)
        same = torch.equal(network.blocks[0].conv1.weight, old.blocks[0].conv1.weight)
        assert same == expected, role
        assert network.n_classes == 3
    run(adaptation, images)
