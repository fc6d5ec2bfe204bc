"""mimicry files other than the recorded ones, against the maths written out plainly."""

import pytest
import torch

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import ClassCode
from support import resnet_files as files
from support.left_out import judged, same
from support.resnet_files import close, latents, pair, pictures


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
            (lambda g, d: g.update({"block3.c2.weight": torch.zeros(1).expand(8, 8, 3, 3)}), "goes beyond its storage"),
            (
                lambda g, d: g.update({"block3.c2.weight": torch.zeros(8, 8, 3, 3).to_sparse()}),
                "more than tensors and plain data",
            ),
            (lambda g, d: d.pop("block2.c1.weight_u"), "block2.c1.weight_u"),
            (lambda g, d: d.update({"block2.c1.weight_u": torch.zeros(3)}), "3 numbers"),
            (lambda g, d: d.update({"block2.c_sc.weight": d.pop("block2.c_sc.weight_orig")}), "differ in spectral"),
            (lambda g, d: d.update({"l_y.weight": torch.zeros(4, 8)}), "differ in spectral"),
        ],
    )
    def test_wrong_files_are_refused(self, tmp_path, change, message):
        g = files.mimicry_generator([8, 8, 8, 8])
        d = files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
        before = same(g)
        change(g, d)
        path = tmp_path / "netG_1_steps.pth"
        torch.save({"model_state_dict": dict(g)}, path)
        torch.save({"model_state_dict": dict(d)}, tmp_path / "netD_1_steps.pth")
        judged(path, message, same(g) != before)

    def test_truncated_file(self, tmp_path):
        path = pair(tmp_path, files.mimicry_generator([8, 8, 8, 8]))
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(SourceError):
            regraft.load(path)
