"""mimicry, StudioGAN and pytorch_GAN_zoo files other than the recorded ones, against the maths written out plainly."""

import sys
import types

import pytest
import torch
import yaml
from torch.nn import functional as F

import regraft
import resnet_files as files
from regraft.errors import ConfigError, SourceError
from regraft.gan import ClassCode, tensor_digest


def close(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    assert wanted.std() > 1e-3
    assert (found - wanted).abs().max() <= tolerance * max(1.0, wanted.abs().max().item())


def latents(n, dim):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(9))


def pictures(n, side, channels=3):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(8)) * 2 - 1


def pair(folder, generator, critic=None, step=100):
    files.mimicry_file(folder / f"netG_{step}_steps.pth", generator, step)
    if critic is not None:
        files.mimicry_file(folder / f"netD_{step}_steps.pth", critic, step)
    return folder / f"netG_{step}_steps.pth"


class TestMimicry:
    def test_sngan_64(self, tmp_path):
        g = files.mimicry_generator([16, 8, 6, 4, 4])
        d = files.mimicry_critic([4, 6, 6, 8, 16], [True] * 5, "l6")
        gan = regraft.load(pair(tmp_path, g, d))
        assert gan.generator.size == (64, 64)
        z, x = latents(3, 5), pictures(3, 64)
        close(gan.generator(z), files.mimicry_images(g, z))
        close(gan.critic(x), files.mimicry_scores(d, x, [True] * 5, "l6"))

    @pytest.mark.parametrize("sn", ["torch", None], ids=["sngan", "wgan-gp"])
    def test_48_pixels_and_its_last_block_that_keeps_the_side(self, tmp_path, sn):
        g = files.mimicry_generator([16, 8, 4, 4], bottom=6)
        score = "l5" if sn else "l6"
        d = files.mimicry_critic([4, 6, 6, 8, 16], [True] * 5, score, sn=sn, head_sn=sn)
        gan = regraft.load(pair(tmp_path, g, d))
        x = pictures(3, 48)
        assert gan.generator.size == (48, 48)
        assert gan.objective.loss == ("hinge" if sn else "wgan")
        wanted = files.mimicry_scores(d, x, [True] * 4 + [False], score, mean=sn is None)
        close(gan.critic(x), wanted)

    def test_cgan_pd_with_own_spectral_norm_in_the_head(self, tmp_path):
        g = files.mimicry_generator([8, 8, 8, 8], n_classes=4)
        d = files.mimicry_critic([8] * 4, [True, True, False, False], "l5", head_sn="own", n_classes=4)
        gan = regraft.load(pair(tmp_path, g, d))
        z, x, y = latents(4, 5), pictures(4, 32), torch.tensor([0, 3, 1, 1])
        close(gan.generator(z, y), files.mimicry_images(g, z, y))
        downs = [True, True, False, False]
        close(gan.critic(x, y), files.mimicry_scores(d, x, downs, "l5", y))
        close(gan.critic(x), files.mimicry_scores(d, x, downs, "l5"))
        assert gan.critic.config.head_spectral == "fresh"
        assert gan.critic.config.spectral == "stored"
        code = gan.generator.embed(y)
        assert code.vector.shape == (4, 2 * 6 * 8)
        assert torch.allclose(gan.generator(z, code), gan.generator(z, y), atol=1e-6)
        with pytest.raises(ConfigError, match="class codes are"):
            gan.generator(z, ClassCode(code.vector[:, 1:]))

    def test_sagan(self, tmp_path):
        g = files.mimicry_generator([16, 16, 16, 16], n_classes=3, sn="torch", attention=16)
        d = files.mimicry_critic([16] * 4, [True, True, False, False], "l5", n_classes=3, attention=16)
        gan = regraft.load(pair(tmp_path, g, d))
        z, x, y = latents(3, 5), pictures(3, 32), torch.tensor([2, 0, 1])
        close(gan.generator(z, y), files.mimicry_images(g, z, y, attention_after=3))
        close(gan.critic(x, y), files.mimicry_scores(d, x, [True, True, False, False], "l5", y, attention_after=2))
        assert any("attention of the generator" in note for note in gan.provenance.assumptions)

    def test_ssgan_and_infomax_keep_their_trunk(self, tmp_path):
        g = files.mimicry_generator([8, 8, 8, 8])
        downs, x = [True, True, False, False], pictures(3, 32)
        d = files.mimicry_critic([8] * 4, downs, "l5")
        d.weight("l_y", 4, 8, sn="own")
        gan = regraft.load(pair(tmp_path, g, d, 1))
        close(gan.critic(x), files.mimicry_scores(d, x, downs, "l5"))
        assert gan.critic.n_classes == 0
        names = ["local_feat_blocks.0", "local_feat_blocks.1", "local_feat_blocks.2", "global_feat_blocks.0"]
        d = files.mimicry_critic([8] * 4, downs, "linear", names=names)
        d.weight("local_nrkhs_a", 8, 8, 1, 1, sn="torch")
        d.weight("global_nrkhs_sc", 16, 8, sn="torch")
        gan = regraft.load(pair(tmp_path, g, d, 2))
        close(gan.critic(x), files.mimicry_scores(d, x, downs, "linear", names=names))

    def test_files_are_paired_by_step(self, tmp_path):
        d = files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
        first, second = (files.mimicry_generator([8, 8, 8, 8], seed=k) for k in (1, 2))
        alone = pair(tmp_path, second, step=300)
        whole = pair(tmp_path, first, d, step=200)
        assert regraft.load(alone).critic is None
        assert torch.equal(regraft.load(tmp_path).sample(1), regraft.load(whole).sample(1))
        (tmp_path / "log" / "netG").mkdir(parents=True)
        (tmp_path / "log" / "netD").mkdir()
        whole.rename(tmp_path / "log" / "netG" / whole.name)
        critic = tmp_path / "netD_200_steps.pth"
        critic.rename(tmp_path / "log" / "netD" / critic.name)
        assert regraft.load(tmp_path / "log").critic is not None
        assert regraft.load(tmp_path / "log" / "netG" / whole.name).critic is not None
        (tmp_path / "log" / "netG" / whole.name).unlink()
        with pytest.raises(SourceError, match="is a critic"):
            regraft.load(tmp_path / "log" / "netD" / critic.name)

    def test_files_without_v_and_counters(self, tmp_path):
        """Written by torch before 1.0: v follows from u where they have converged."""
        g = files.mimicry_generator([8, 8, 8, 8])
        d = files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
        for name in [n for n in d if n.endswith("weight_u")]:
            rows = d[name[:-1] + "orig"].flatten(1)
            u, _, v = torch.linalg.svd(rows)
            d[name], d[name[:-1] + "v"] = u[:, 0], v[0]
        x = pictures(2, 32)
        wanted = files.mimicry_scores(d, x, [True, True, False, False], "l5")
        old = {n: v for n, v in d.items() if not n.endswith("weight_v")}
        g = {f"module.{n}": v for n, v in g.items() if not n.endswith("tracked")}
        close(regraft.load(pair(tmp_path, g, old)).critic(x), wanted)

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda g, d: g.pop("block3.c2.bias"), "missing: blocks.1.conv2.bias"),
            (lambda g, d: g.pop("block3.c2.weight"), "block3.c2.weight"),
            (lambda g, d: g.pop("block3.c1.weight"), "block3.c1.weight"),
            (lambda g, d: g.update({"block9.c1.weight": torch.zeros(1)}), "without a gap"),
            (lambda g, d: g.update(surprise=torch.zeros(1)), "not used: surprise"),
            (lambda g, d: g.update({"b5.weight": torch.zeros(9)}), "wrong shape"),
            (lambda g, d: g.update({"l1.weight": torch.zeros(127, 5)}), "no square map"),
            (lambda g, d: g.update({"block3.c2.weight": torch.zeros(9, 8, 3, 3)}), "block 1 gives 9 channels"),
            (lambda g, d: g.update({"block3.c2.weight": torch.zeros(1).expand(8, 8, 3, 3)}), "stores fewer"),
            (lambda g, d: g.update({"block3.c2.weight": torch.zeros(8, 8, 3, 3).to_sparse()}), "no plain array"),
            (lambda g, d: d.pop("block2.c1.weight_u"), "block2.c1.weight_u"),
            (lambda g, d: d.update({"block2.c1.weight_u": torch.zeros(3)}), "3 numbers"),
            (lambda g, d: d.update({"block2.c_sc.weight": d.pop("block2.c_sc.weight_orig")}), "differ in spectral"),
            (lambda g, d: d.update({"l_y.weight": torch.zeros(4, 8)}), "differ in spectral"),
        ],
    )
    def test_wrong_files_are_refused(self, tmp_path, change, message):
        g = files.mimicry_generator([8, 8, 8, 8])
        d = files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
        change(g, d)
        path = tmp_path / "netG_1_steps.pth"
        torch.save({"model_state_dict": dict(g)}, path)
        torch.save({"model_state_dict": dict(d)}, tmp_path / "netD_1_steps.pth")
        with pytest.raises(SourceError, match=message):
            regraft.load(path)

    def test_truncated_file(self, tmp_path):
        path = pair(tmp_path, files.mimicry_generator([8, 8, 8, 8]))
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(SourceError):
            regraft.load(path)


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
def zoo_file(tmp_path, monkeypatch):
    """Writes a file as the repository does, its settings an object of its own class."""

    class BaseConfig:
        pass

    BaseConfig.__module__, BaseConfig.__qualname__ = "models.utils.config", "BaseConfig"
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = BaseConfig

    def write(settings, generator, critic, zipped=True, averaged=None, wrap=lambda t: t):
        config = BaseConfig()
        vars(config).update({"leakyReluLeak": 0.2, "lossCriterion": "WGANGP", "alpha": 0.0, "categoryVectorDim": 0} | settings)
        content = {"config": config, "netG": wrap(dict(generator)), "netD": wrap(dict(critic))}
        if averaged is not None:
            content["avgG"] = wrap(dict(averaged))
        path = tmp_path / "net_s2_i100.pth"
        with monkeypatch.context() as patch:
            for name in ("models", "models.utils"):
                patch.setitem(sys.modules, name, types.ModuleType(name))
            patch.setitem(sys.modules, "models.utils.config", module)
            torch.save(content, path, _use_new_zipfile_serialization=zipped)
        return path

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
        g, d = files.Keys(1), files.Keys(2)
        g.weight("formatLayer", 5, 8, 4, 4, bias=False)
        d.weight("main.convTranspose1", 4, 3, 4, 4, bias=False)
        d.weight("main.convTranspose0", 8, 4, 4, 4, bias=False)
        d.norm("main.batchNorm0", 8)
        d.weight("decisionLayer", 1, 8, 4, 4, bias=False)
        g.norm("main.batchNorm0", 8)
        g.weight("main.convTranspose1", 8, 4, 4, 4, bias=False)
        g.norm("main.batchNorm1", 4)
        g.weight("main.outlayer", 4, 3, 4, 4, bias=False)
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
