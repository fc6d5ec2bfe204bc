"""Sources of residual networks, of StudioGAN, pytorch_GAN_zoo and mimicry: converted and adapted."""

import pytest
import torch

import regraft
from regraft.core.gan import tensor_digest
from support import resnet_files as files
from support.resnet_files import pair


class TestUse:
    @pytest.fixture
    def sources(self, tmp_path, zoo_file):
        """Paths of sources of three kinds, by name."""
        (tmp_path / "studio").mkdir()
        g = files.studio_generator([8] * 4, 3, sn="torch", code=7, shared=(5, 4))
        files.studio_run(tmp_path / "studio", g, files.studio_critic([8] * 4, [True, True, False, False], n_classes=5))
        g, d = files.zoo_progan([6, 4, 4], 5)
        mimicry = pair(
            tmp_path, files.mimicry_generator([8] * 4), files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
        )
        return {"studio": tmp_path / "studio", "zoo": zoo_file({"alpha": 0.4}, g, d), "mimicry": mimicry}

    @pytest.mark.parametrize("name", ["studio", "zoo", "mimicry"])
    def test_conversion_changes_nothing(self, sources, tmp_path, name):
        gan = regraft.load(sources[name])
        again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
        assert torch.equal(gan.sample(3), again.sample(3))
        assert torch.equal(gan.critic(gan.sample(3)), again.critic(gan.sample(3)))
        assert tensor_digest(gan.generator, gan.critic) == tensor_digest(again.generator, again.critic)
        assert again.objective == gan.objective
        assert regraft.inspect(sources[name])["backbone"] == gan.generator.describe().kind

    @pytest.mark.parametrize(
        "name, method", [("studio", "minegan"), ("zoo", "freezed"), ("mimicry", "transfergan"), ("studio", "freezed")]
    )
    def test_adaptation(self, sources, photos, name, method):
        run = regraft.adapt(photos, sources[name], method=method, steps=2, batch=4, write=False, evaluate_every=0)
        images = run.gan.sample(2)
        assert torch.isfinite(images).all()
        assert not torch.equal(images, regraft.load(sources[name]).sample(2))
