"""The residual WGAN-GP pair at its published size."""

import torch

from regraft.core.build import build
from regraft.core.networks import Description
from support.plugins import find_plugin


def test_published_size():
    """The 64x64 pair with 64 channels next to the image."""
    configs = find_plugin("backbones", "wgangp_resnet").default_configs(64, 3)
    assert (configs[0].widths, configs[1].widths) == ((512, 512, 256, 128, 64), (64, 128, 256, 512, 512))
    with torch.device("meta"):
        generator, critic = (
            build(Description("wgangp_resnet", role, config.model_dump(mode="json")))
            for role, config in zip(("generator", "critic"), configs, strict=True)
        )
    assert sum(p.numel() for p in generator.input.parameters()) == 128 * 8192 + 8192
    assert (generator.size, critic.size, critic.config.features) == ((64, 64), (64, 64), 8192)
