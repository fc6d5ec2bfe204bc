"""StudioGAN and pytorch_GAN_zoo files other than the recorded ones, against the maths written out plainly."""

import types

import pytest
import torch
import yaml
from torch.nn import functional as F

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import tensor_digest
from regraft.core.networks import ClassCode
from support import resnet_files as files
from support.resnet_files import close, latents, pair, pictures
from support.zoo_files import zoo_dcgan, zoo_run


class TestStudioGAN:
    def test_biggan(self, tmp_path):
        g = files.studio_generator([16, 16, 8, 8], 3, sn="torch", code=4 + 3, shared=(5, 4), attention_after=1)
        d = files.studio_critic([16] * 4, [True, True, False, False], n_classes=5, attention_after=0)
        files.studio_run(tmp_path, g, d)
        gan = regraft.load(tmp_path)
        z, x, y = latents(3, 12), pictures(3, 32), torch.tensor([4, 0, 2])
        first, *chunks = z.split(3, dim=1)
        codes = [torch.cat([g["shared.weight"][y], c], dim=1) for c in chunks]
        close(gan.generator(z, y), files.studio_images(g, first, codes))
        features = files.studio_features(d, x, [True, True, False, False])
        scores = files.linear(d, "linear1", features)[:, 0]
        close(gan.critic(x), scores)
        close(gan.critic(x, y), scores + (files.w(d, "embedding")[y] * features).sum(1))
        assert gan.generator.embed(y).vector.shape == (3, 4)
        mixed = gan.generator(z, gan.generator.embed(F.one_hot(y, 5).float()))
        assert torch.allclose(mixed, gan.generator(z, y), atol=1e-6)
        with pytest.raises(ConfigError, match="class codes are"):
            gan.generator(z, ClassCode(torch.zeros(3, 5)))

    def test_sagan_with_one_hot_norms(self, tmp_path):
        g = files.studio_generator([16, 16, 16, 16], 6, sn="torch", code=4, attention_after=1)
        d = files.studio_critic([16] * 4, [True, True, False, False], n_classes=4, attention_after=0)
        files.studio_run(tmp_path, g, d)
        gan = regraft.load(tmp_path)
        z, y = latents(3, 6), torch.tensor([3, 0, 2])
        close(gan.generator(z, y), files.studio_images(g, z, [F.one_hot(y, 4).float()] * 3))
        assert gan.generator.embed(y).vector.shape == (3, 2 * 16 * 6)

    def test_unconditional_biggan(self, tmp_path):
        g = files.studio_generator([8, 8, 8, 8], 3, code=3)
        files.studio_run(tmp_path, g, files.studio_critic([8] * 4, [True, True, False, False]))
        gan = regraft.load(tmp_path)
        z = latents(3, 12)
        first, *chunks = z.split(3, dim=1)
        close(gan.generator(z), files.studio_images(g, first, chunks))
        assert any("chunks of the latent" in note for note in gan.provenance.assumptions)

    def test_64_pixels_with_batch_norm_in_the_critic(self, tmp_path):
        g = files.studio_generator([16, 8, 4, 4, 4], 6)
        d = files.studio_critic([4, 6, 8, 8, 16], [True] * 5, sn=None)
        files.studio_run(tmp_path, g, d)
        gan = regraft.load(tmp_path)
        x = pictures(3, 64)
        features = files.studio_features(d, x, [True] * 4 + [False])
        close(gan.critic(x), files.linear(d, "linear1", features)[:, 0])
        assert gan.recipe.critic_norm == "batch"
        z = latents(2, 6)
        close(gan.generator(z), files.studio_images(g, z, [None] * 4))

    def test_classifier_head(self, tmp_path):
        g = files.studio_generator([8, 8, 8, 8], 6, code=4)
        d = files.studio_critic([8] * 4, [True, True, False, False], n_classes=4, head="linear2")
        files.studio_run(tmp_path, g, d)
        gan = regraft.load(tmp_path)
        x = pictures(3, 32)
        features = files.studio_features(d, x, [True, True, False, False])
        close(gan.critic.classify(x), files.linear(d, "linear2", features))
        close(gan.critic(x, torch.tensor([0, 1, 2])), files.linear(d, "linear1", features)[:, 0])

    def test_a_run_says_loss_and_latent(self, tmp_path):
        files.studio_run(tmp_path, files.studio_generator([8] * 4, 6), files.studio_critic([8] * 4, [True, True, False, False]))
        run = {"MODEL": {"z_prior": "uniform"}, "LOSS": {"adv_loss": "wasserstein"}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
        gan = regraft.load(tmp_path)
        assert gan.generator.latent.distribution == "uniform"
        assert (gan.objective.loss, gan.objective.penalty) == ("wgan", "gradient")
        run["MODEL"]["g_act_fn"] = "ELU"
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
        with pytest.raises(SourceError, match="ReLU"):
            regraft.load(tmp_path)

    def test_best_and_averaged_come_first(self, tmp_path):
        d = files.studio_critic([8] * 4, [True, True, False, False])
        best, current = (files.studio_generator([8] * 4, 6, seed=k) for k in (1, 2))
        files.studio_run(tmp_path, current, d, step=900, kind="current")
        files.studio_run(tmp_path, best, d, step=800, kind="best")
        z = latents(2, 6)
        close(regraft.load(tmp_path).generator(z), files.studio_images(best, z, [None] * 3))

    def test_what_it_does_not_read_is_said(self, tmp_path):
        g, d = files.studio_generator([8] * 4, 6), files.studio_critic([8] * 4, [True, True, False, False])
        multi = files.Keys(3) | {n: v for n, v in d.items() if not n.startswith("linear1")}
        heads = files.Keys(4)
        heads.weight("linear1", 5, 8, sn="torch")
        files.studio_run(tmp_path, g, multi | heads)
        gan = regraft.load(tmp_path)
        assert gan.critic is None
        assert any("multi-hinge" in note for note in gan.provenance.assumptions)
        files.studio_run(tmp_path, g | {"blocks.0.0.conv2d3.weight": torch.zeros(8, 8, 1, 1)}, d)
        with pytest.raises(SourceError, match="deep_big_resnet"):
            regraft.load(tmp_path)
        files.studio_run(tmp_path, g | {"info_mix_linear.weight": torch.zeros(8, 8)}, d)
        with pytest.raises(SourceError, match="InfoGAN"):
            regraft.load(tmp_path)

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda g, d: g.pop("bn4.bias"), "bn4.bias"),
            (lambda g, d: g.update(surprise=torch.zeros(1)), "not used: surprise"),
            (lambda g, d: g.update({"linear0.weight": torch.zeros(8, 6)}), "no 4x4 map"),
            (lambda g, d: d.update({"embedding.weight": torch.zeros(3, 8)}), "knows 3 classes"),
            (lambda g, d: d.pop("blocks.1.0.conv2d0.bias"), "missing"),
            (lambda g, d: d.update({"linear1.weight_orig": torch.zeros(1, 9)}), "wrong shape"),
        ],
    )
    def test_wrong_files_are_refused(self, tmp_path, change, message):
        g, d = files.studio_generator([8] * 4, 6), files.studio_critic([8] * 4, [True, True, False, False])
        change(g, d)
        files.studio_run(tmp_path, g, d)
        with pytest.raises(SourceError, match=message):
            regraft.load(tmp_path)


@pytest.fixture
def zoo_file(tmp_path):
    def write(*content, **options):
        return zoo_run(tmp_path, *content, **options)

    return write


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
        change(g, d)
        with pytest.raises(SourceError, match=message):
            regraft.load(zoo_file(settings, g, d))

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


class TestUse:
    @pytest.fixture
    def sources(self, tmp_path, zoo_file):
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
