"""StyleALAEs at their published size, and as they begin."""

import pytest
import torch

from regraft.backbones.alae import default_configs
from regraft.core.build import build, build_fresh
from regraft.core.networks import Description


def networks(size, **settings):
    roles = ("generator", "critic", "autoencoder")
    configs = default_configs(size, 3, **settings)
    return {role: Description("alae", role, c.model_dump(mode="json")) for role, c in zip(roles, configs)}


def test_published_sizes():
    """FFHQ at 1024: E 26.97, G 24.12, F 2.10 and D 1.05 million, of which G has image layers at nine levels and shows one."""
    with torch.device("meta"):
        made = {role: build(d) for role, d in networks(1024, latent_dim=512, width=16, max_width=512).items()}

    def millions(module):
        return sum(p.numel() for p in module.parameters()) / 1e6

    generator, critic, autoencoder = made.values()
    assert generator.size == (1024, 1024)
    assert generator.synthesis.num_ws == 18
    assert millions(generator.mapping) == pytest.approx(2.10, abs=0.005)
    assert millions(generator.synthesis) == pytest.approx(24.12, abs=0.01)
    assert millions(critic.head) == pytest.approx(1.05, abs=0.005)
    assert millions(critic.encoder) == pytest.approx(26.97, abs=0.01)
    assert millions(autoencoder) == pytest.approx(26.97 + 24.12, abs=0.02)


def test_fresh_networks_start_as_the_authors_do():
    made = {role: build_fresh(d, 0) for role, d in networks(32, latent_dim=64, width=32).items()}
    block = made["generator"].synthesis.decode_block[1]
    assert block.conv_1.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.05)
    assert block.style_1.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert not block.noise_weight_1.any()
    assert (made["generator"].synthesis.const == 1).all()
    assert made["autoencoder"].encode(torch.randn(2, 3, 32, 32)).std() > 0
    assert made["critic"](torch.zeros(2, 3, 32, 32)).isfinite().all()
