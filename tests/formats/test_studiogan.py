"""StudioGAN files other than the recorded ones, against the maths written out plainly."""

import pytest
import torch
import yaml
from torch.nn import functional as F

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import ClassCode
from support import resnet_files as files
from support.left_out import judged, same
from support.resnet_files import close, latents, pictures


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
        before = same(g)
        change(g, d)
        files.studio_run(tmp_path, g, d)
        judged(tmp_path, message, same(g) != before)
