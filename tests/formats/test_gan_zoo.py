"""pytorch_GAN_zoo files other than the recorded ones, against the maths written out plainly."""

import types

import pytest
import torch
from torch.nn import functional as F

import regraft
from regraft.core.errors import SourceError
from support import resnet_files as files
from support.left_out import judged, same
from support.resnet_files import close, latents, pictures
from support.zoo_files import zoo_dcgan


class TestGanZoo:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("widths", [[6, 4, 4], [6, 4]])
    def test_progan_fading_in(self, zoo_file, widths, zipped):
        (plain, d), (averaged, _) = files.zoo_progan(widths, 5), files.zoo_progan(widths, 5, seed=4)
        gan = regraft.load(zoo_file({"alpha": 0.3}, plain, d, zipped, averaged))
        z, x = latents(3, 5), pictures(8, 4 << (len(widths) - 1))
        close(gan.generator(z), files.progan_images(averaged, z, 0.3))
        for n in (8, 3, 1):
            wanted = files.progan_outputs(d, x[:n], 0.3)[:, 0]
            assert torch.allclose(gan.critic(x[:n]), wanted, rtol=1e-4, atol=1e-5)
        assert (gan.objective.loss, gan.objective.drift_weight, gan.objective.critic_steps) == ("wgan", 1e-3, 1)

    def test_old_keys_parameters_and_no_average(self, zoo_file):
        g, d = files.zoo_progan([6, 4, 4], 5)

        def old(tensors):
            return {n.replace(".module.", "."): torch.nn.Parameter(t) for n, t in tensors.items()}

        gan = regraft.load(zoo_file({}, g, d, wrap=old))
        z = latents(3, 5)
        close(gan.generator(z), files.progan_images(g, z, 0))
        assert any("not the averaged one" in note for note in gan.provenance.assumptions)
        assert not any(p.requires_grad for p in gan.generator.parameters())

    def test_progan_with_labelled_attributes(self, zoo_file):
        keys = {"hair": {"order": 1, "values": ["a", "b", "c"]}, "hat": {"order": 0, "values": ["yes", "no"]}}
        g, d = files.zoo_progan([6, 4], 4 + 5, decisions=1 + 5)
        gan = regraft.load(zoo_file({"categoryVectorDim": 5, "attribKeysOrder": keys}, g, d, averaged=g))
        assert gan.generator.n_classes == gan.critic.n_classes == 6
        z, x, y = latents(3, 4), pictures(3, 8), torch.tensor([5, 0, 2])
        hot = torch.tensor([[0.0, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 0, 0, 0, 1]])
        close(gan.generator(z, y), files.progan_images(g, torch.cat([z, hot], dim=1), 0))
        outputs = files.progan_outputs(d, x, 0)
        assert torch.allclose(gan.critic(x), outputs[:, 0], rtol=1e-4, atol=1e-5)
        assert torch.allclose(gan.critic.classify(x)[:, 5], outputs[:, 2] + outputs[:, 5], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("loss", ["DCGAN", "WGANGP"])
    def test_dcgan(self, zoo_file, loss):
        g, d = zoo_dcgan()
        gan = regraft.load(zoo_file({"lossCriterion": loss}, g, d, averaged=g))
        z, x = latents(3, 5), pictures(3, 16)
        h = F.conv_transpose2d(z[:, :, None, None], g["formatLayer.weight"])
        h = F.relu(files.bn(g, "main.batchNorm0", h, 1e-5))
        h = F.conv_transpose2d(h, g["main.convTranspose1.weight"], stride=2, padding=1)
        h = F.relu(files.bn(g, "main.batchNorm1", h, 1e-5))
        h = F.conv_transpose2d(h, g["main.outlayer.weight"], stride=2, padding=1)
        close(gan.generator(z), torch.tanh(h) if loss == "DCGAN" else h)
        h = F.leaky_relu(F.conv2d(x, d["main.convTranspose1.weight"], stride=2, padding=1), 0.2)
        h = files.bn(d, "main.batchNorm0", F.conv2d(h, d["main.convTranspose0.weight"], stride=2, padding=1), 1e-5)
        close(gan.critic(x), F.conv2d(F.leaky_relu(h, 0.2), d["decisionLayer.weight"]).flatten())
        assert gan.objective.loss == ("nonsaturating" if loss == "DCGAN" else "wgan")

    @pytest.mark.parametrize(
        "settings, change, message",
        [
            ({"lossCriterion": "Mystery"}, lambda g, d: None, "lossCriterion is 'Mystery'"),
            ({"alpha": 7.0}, lambda g, d: None, "alpha"),
            ({"perChannelNormalization": False}, lambda g, d: None, "perChannelNormalization"),
            ({"categoryVectorDim": 3, "attribKeysOrder": {"x": 1}}, lambda g, d: None, "attribKeysOrder"),
            ({"categoryVectorDim": 9}, lambda g, d: None, "all of them classes"),
            ({}, lambda g, d: g.update(surprise=torch.zeros(1)), "not used: surprise"),
            ({}, lambda g, d: g.pop("toRGBLayers.2.module.weight"), "toRGBLayers.2"),
            ({}, lambda g, d: d.update({"groupScaleZero.1.module.weight": torch.zeros(6, 90)}), "wrong shape"),
            ({}, lambda g, d: d.update({"decisionLayer.module.weight": torch.zeros(3, 6)}), "wrong shape"),
        ],
    )
    def test_wrong_files_are_refused(self, zoo_file, settings, change, message):
        g, d = files.zoo_progan([6, 4, 4], 5)
        before = same(d)
        change(g, d)
        judged(zoo_file(settings, g, d), message, same(d) == before)

    def test_other_classes_are_refused(self, tmp_path):
        """The stand-in is the only class that may be filled; a file that names another is not opened."""
        path = tmp_path / "evil.pth"
        module = types.ModuleType("models.utils.config")

        class BaseConfig:
            def __reduce__(self):
                return (print, ("run",))

        BaseConfig.__module__, module.BaseConfig = "models.utils.config", BaseConfig
        marked = {"note": "models.utils.config\nBaseConfig\n", "config": BaseConfig()}
        torch.save(marked, path)
        with pytest.raises(SourceError, match="refused"):
            regraft.load(path)
