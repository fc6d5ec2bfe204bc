"""Pairs of files: the critic's is the one that is left when the generator's mark is exchanged, numbers and all."""

import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from regraft.formats._pairs import critics_of, generator_in
from support import resnet_files as files
from support.home_made import convs, deconvs, settle

PAIRS = [
    ("celeba_WGAN_GP_G.pth", "celeba_WGAN_GP_D.pth"),
    ("WGAN_G_epoch9.pth", "WGAN_D_epoch9.pth"),
    ("generator_generic.pth", "discriminator_generic.pth"),
    ("G_ema.pth", "D.pth"),
    ("Gen_100.pth", "Disc_100.pth"),
    ("model_gen.pth", "model_dis.pth"),
    ("netG_epoch_99.pth", "netD_epoch_99.pth"),
    ("G_GAN_Good.pth", "D_GAN_Good.pth"),
    ("gan_generator_weights.pt", "gan_discriminator_weights.pt"),
    ("wgan-gen.pth", "wgan-critic.pth"),
    ("generator_epoch_10.pth.tar", "discriminator_epoch_10.pth.tar"),
    ("GAN_generator.safetensors", "GAN_discriminator.safetensors"),
    ("00100_net_G.pth", "00100_net_D.pth"),
    ("G--300.ckpt", "D--300.ckpt"),
    ("G300.pth", "D300.pth"),
    ("celeba_3d_G.pth", "celeba_3d_D.pth"),
    ("g_model_050.pt", "d_model_050.pt"),
    ("GeneratorNet.pt", "DiscriminatorNet.pt"),
    ("netG.pth", "D.pth"),
    ("G.pth", "D.pt"),
    ("gen_ema_10.pth", "disc_10.pth"),
]


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(("generator", "critic"), PAIRS)
def test_usual_names(tmp_path, generator, critic):
    beside = ("optimizer_G.pth", "D_optim.pth", "sample.png", "log.txt", "encoder.pth", "vgg.pth")
    made(tmp_path, generator, critic, *beside)
    assert critics_of(tmp_path / generator).file == tmp_path / critic
    assert generator_in(tmp_path) == tmp_path / generator


@pytest.mark.parametrize(
    ("generator", "others", "critic"),
    [
        ("netG_epoch_99.pth", ["netD_epoch_98.pth"], None),
        ("netG_epoch_99.pth", ["netD_epoch_98.pth", "netD_epoch_99.pth", "netG_epoch_98.pth"], "netD_epoch_99.pth"),
        ("best_G.pth", ["best_D.pth", "last_G.pth", "last_D.pth"], "best_D.pth"),
        ("G.pth", ["D.pth", "D_ema.pth", "critic.pth"], "D.pth"),
        ("generator.pth", ["critic.pth"], "critic.pth"),
        ("G/100.pth", ["D/100.pth", "D/200.pth", "x/100.pth"], "D/100.pth"),
        ("netG/netG_1.pth", ["netD/netD_1.pth", "netD/netD_2.pth"], "netD/netD_1.pth"),
        ("100.pth", ["D.pth", "D_100.pth"], None),
        ("G_A.pth", ["D_B.pth"], None),
    ],
)
def test_one_of_several(tmp_path, generator, others, critic):
    made(tmp_path, generator, *others)
    found = critics_of(tmp_path / generator)
    assert found.file == (critic and tmp_path / critic)
    assert not found.rivals


def networks(seed=0):
    torch.manual_seed(seed)
    return settle(deconvs(12, 8, 6)), convs(3, 4, 6, 6).eval()


def test_a_pair_scores_as_its_own_critic(tmp_path):
    g, d = networks()
    torch.save(g.state_dict(), tmp_path / "celeba_WGAN_GP_G.pth")
    torch.save(d.state_dict(), tmp_path / "celeba_WGAN_GP_D.pth")
    gan = regraft.load(tmp_path / "celeba_WGAN_GP_G.pth")
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(gan.critic(x), d(x).flatten(), atol=1e-5)
    assert "critic taken from celeba_WGAN_GP_D.pth beside it" in gan.provenance.assumptions
    assert set(gan.provenance.files) == {"celeba_WGAN_GP_G.pth", "celeba_WGAN_GP_D.pth"}


def test_several_candidates_are_listed_with_the_way_out(tmp_path):
    g, d = networks()
    torch.save(g.state_dict(), tmp_path / "gen.pth")
    for name in ("dis.pth", "disc.pth"):
        torch.save(d.state_dict(), tmp_path / name)
    gan = regraft.load(tmp_path / "gen.pth")
    assert gan.critic is None
    (note,) = (n for n in gan.provenance.assumptions if "several files" in n)
    assert "dis.pth, disc.pth" in note
    assert "source card" in note
    (tmp_path / "source.yaml").write_text("regraft_card: 1\ngenerator: gen.pth\ncritic: dis.pth\n")
    assert regraft.load(tmp_path).critic is not None


class TestFolders:
    def test_generator_and_critic_with_other_things_beside(self, tmp_path):
        g, d = networks()
        torch.save(g.state_dict(), tmp_path / "netG.pth")
        torch.save(d.state_dict(), tmp_path / "netD.pth")
        torch.save(torch.optim.Adam(g.parameters()).state_dict(), tmp_path / "optimizerG.pth")
        (tmp_path / "samples.png").write_bytes(b"x")
        gan = regraft.load(tmp_path)
        assert gan.critic is not None
        assert gan.provenance.name == "netG"
        wanted = regraft.load(tmp_path / "netG.pth")
        assert torch.equal(gan.sample(2), wanted.sample(2))

    def test_averaged_weights_come_first(self, tmp_path):
        g, d = networks()
        other, _ = networks(1)
        torch.save(g.state_dict(), tmp_path / "G.pth")
        torch.save(other.state_dict(), tmp_path / "G_ema.pth")
        torch.save(d.state_dict(), tmp_path / "D.pth")
        gan = regraft.load(tmp_path)
        assert gan.provenance.name == "G_ema"
        assert gan.critic is not None

    @pytest.mark.parametrize("names", [("netG_1.pth", "netG_2.pth", "netD_1.pth", "netD_2.pth"), ("G.pth", "other.pth")])
    def test_what_is_not_clear_is_listed(self, tmp_path, names):
        for name in names:
            torch.save(networks()[0].state_dict(), tmp_path / name)
        with pytest.raises(SourceError, match=rf"holds {len(names)} files of weights .*{names[0]}"):
            regraft.load(tmp_path)


def test_a_critic_names_its_generator(tmp_path):
    g, d = networks()
    torch.save(g.state_dict(), tmp_path / "model_gen.pth")
    torch.save(d.state_dict(), tmp_path / "model_dis.pth")
    with pytest.raises(SourceError, match=r"model_dis\.pth: .* By its name this is the critic of model_gen\.pth"):
        regraft.load(tmp_path / "model_dis.pth")
    (tmp_path / "model_gen.pth").unlink()
    with pytest.raises(SourceError) as caught:
        regraft.load(tmp_path / "model_dis.pth")
    assert "By its name" not in str(caught.value)


def test_renamed_files_of_known_families(tmp_path):
    g, d = files.mimicry_generator([8, 8, 8, 8]), files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
    for name, tensors in (("celeba_G.pth", g), ("celeba_D.pth", d)):
        torch.save({"model_state_dict": dict(tensors)}, tmp_path / name)
    gan = regraft.load(tmp_path / "celeba_G.pth")
    assert gan.provenance.format == "mimicry"
    assert gan.critic is not None


class Trainer:
    """A type that no list knows."""


def test_objects_that_are_passed_over_are_named(tmp_path):
    g, d = networks()
    beside = {"trainer": Trainer(), "lr": torch.tensor(1.0).numpy()[()], "epoch": 3}
    torch.save({"netG": g.state_dict(), "netD": d.state_dict()} | beside, tmp_path / "x.pth")
    gan = regraft.load(tmp_path / "x.pth")
    said = [note for note in gan.provenance.assumptions if "passed over" in note]
    assert len(said) == 1
    assert "trainer (" in said[0]
    assert "test_pairs.Trainer)" in said[0]
    assert gan.critic is not None
