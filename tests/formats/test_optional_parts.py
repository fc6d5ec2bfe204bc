"""One bad part does not take the rest along: critics of forks are left out, and buffers that later code added are made anew."""

import pytest
import torch
import yaml

import regraft
from regraft.core.errors import SourceError
from regraft.core.gan import tensor_digest
from support.home_made import convs, deconvs, settle
from support.left_out import left_out
from support.nvlabs_files import Module, dumped, tf_network, tree
from support.nvlabs_sources import critic2, critic_options, generator2, options_of, written_tensorflow


def nvlabs(folder, critic, change=None, options=None, **more):
    """A pickle of StyleGAN2-ADA with what is given as D, and its generator."""
    g = generator2(**more)
    tensors = dict(g.state_dict())
    if change:
        change(tensors)
    given = options_of(g, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={}) | (options or {})
    content = {"D": critic, "G_ema": tree(tensors, "Generator", given)}
    (folder / "x.pkl").write_bytes(dumped(content))
    return folder / "x.pkl", g


class Fork:
    """A class that no list knows, pickled as itself."""


def critics():
    d = critic2()
    weights = {"discriminator.mini_discs.0.main.0.weight_orig": torch.ones(8, 3, 4, 4)}
    projected = {"diffaug": True, "interp224": True, "backbone_kwargs": {"num_discs": 4}, "c_dim": 0, "img_resolution": 16}
    yield "projected", tree(weights, "ProjectedDiscriminator", projected, filters=False), "ProjectedDiscriminator.*diffaug"
    yield "added argument", tree(d.state_dict(), "Discriminator", critic_options(d, use_ws=False)), "no setting called use_ws"
    yield (
        "no arguments",
        tree(d.state_dict(), "Discriminator", {}, attributes={"": {"_init_kwargs": 3}}),
        "arguments are not recorded",
    )
    yield "other tensors", tree(d.state_dict() | {"x": torch.ones(1)}, "Discriminator", critic_options(d)), "not used: x"
    yield (
        "of other images",
        tree(d.state_dict(), "Discriminator", critic_options(d) | {"c_dim": 4}),
        "0 mapping layers, where its settings say 8",
    )
    yield "not a module", {"a": 1}, "D is no module of the published code but a dict"
    yield "a class of its own", Fork(), r"D is no module .*test_optional_parts\.Fork \(not read\)"
    yield "a part of its own", tree_with_a_fork(), r"D\.fork is no module .*Fork"


def tree_with_a_fork():
    d = critic2()
    made = tree(d.state_dict(), "VisionAidedDiscriminator", critic_options(d))
    made.meta["state"]["_modules"]["fork"] = Fork()
    return made


@pytest.mark.parametrize(("critic", "message"), [c[1:] for c in critics()], ids=[c[0] for c in critics()])
def test_critics_of_forks_leave_the_generator(tmp_path, critic, message):
    path, g = nvlabs(tmp_path, critic)
    assert tensor_digest(left_out(path, message).generator) == tensor_digest(g)


def test_a_generator_of_a_fork_is_refused(tmp_path):
    for fork in (Fork(), tree({}, "Generator", {"fork": 1})):
        (tmp_path / "x.pkl").write_bytes(dumped({"G_ema": fork, "G": Module("Generator", {}), "D": None}))
        with pytest.raises(SourceError, match=r"x\.pkl: (G_ema is a .*Fork|G_ema: no setting called fork)"):
            regraft.load(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("critic", "message"),
    [(lambda: tf_network("D", {}, {"fork": True}), "fork is no setting"), (lambda: 3, "no networks"), (lambda: None, None)],
)
def test_critics_of_tensorflow(tmp_path, critic, message):
    g = generator2()
    path = written_tensorflow(tmp_path, g, critic2(mapping_layers=0, mapping_lr=0.1, mbstd_group_size=2), critic=critic)
    gan = regraft.load(path) if message is None else left_out(path, message)
    assert gan.critic is None
    for name, value in g.state_dict().items():
        assert torch.allclose(gan.generator.state_dict()[name], value, atol=1e-6), name


def without(*ends):
    def change(tensors):
        for name in [n for n in tensors if n.endswith(ends)]:
            del tensors[name]

    return change


class TestBuffersMadeAnew:
    def test_noise(self, tmp_path):
        path, g = nvlabs(tmp_path, None, without("noise_const"))
        gan = regraft.load(path)
        assert any("no noise maps in the file" in note for note in gan.provenance.assumptions)
        assert tensor_digest(gan.generator) == tensor_digest(regraft.load(path).generator)
        z = torch.randn(2, gan.generator.latent.dim)
        assert torch.equal(gan.generator(z, noise="none"), g(z, noise="none"))
        with pytest.raises(SourceError, match="missing: synthesis.b8.conv0.noise_const"):
            regraft.load(nvlabs(tmp_path, None, without("b8.conv0.noise_const"))[0])

    @pytest.mark.parametrize("c_dim", [0, 3])
    def test_mean_style(self, tmp_path, c_dim):
        path, g = nvlabs(tmp_path, None, without("w_avg"), c_dim=c_dim)
        gan = regraft.load(path)
        assert sum("no mean style in the file" in note for note in gan.provenance.assumptions) == 1
        z = gan.generator.latent.at(0, range(4096))
        classes = (torch.arange(4096) % c_dim,) if c_dim else ()
        styles = g.mapping(z, *classes)[:, 0]
        assert (gan.generator.mapping.w_avg - styles.mean(0)).abs().max() < 0.1 * styles.std()

    def test_learned_statistics_must_be_there(self, tmp_path):
        with pytest.raises(SourceError, match="missing: .*noise_strength"):
            regraft.load(nvlabs(tmp_path, None, without("b8.conv1.noise_strength"))[0])


class TestHomeMade:
    def test_a_critic_that_does_not_fit(self, tmp_path):
        generator = settle(deconvs(12, 8, 6))
        torch.save(generator.state_dict(), tmp_path / "netG.pth")
        for wrong, message in (
            (convs(3, 4, 6, last=(7, 1, 0)).state_dict() | {"odd": torch.ones(2, 2, 2)}, "part of no linear layer"),
            ({"0.weight": torch.ones(5, 9, 4, 4)}, "no usual strides and paddings"),
        ):
            torch.save(wrong, tmp_path / "netD.pth")
            gan = left_out(tmp_path / "netG.pth", f"critic of netD.pth is left out.*{message}")
            z = torch.randn(2, 10)
            assert torch.allclose(gan.generator(z), generator(z[:, :, None, None]), atol=1e-6)
        (tmp_path / "netD.pth").write_bytes((tmp_path / "netD.pth").read_bytes()[:-100])
        left_out(tmp_path / "netG.pth", "critic of netD.pth .*damaged")

    def test_a_critic_that_a_card_names_must_fit(self, tmp_path):
        torch.save(settle(deconvs(12, 8, 6)).state_dict(), tmp_path / "netG.pth")
        torch.save({"0.weight": torch.ones(5, 9, 4, 4)}, tmp_path / "netD.pth")
        (tmp_path / "source.yaml").write_text(
            yaml.safe_dump({"regraft_card": 1, "generator": "netG.pth", "critic": "netD.pth"})
        )
        with pytest.raises(SourceError, match="no usual strides"):
            regraft.load(tmp_path)

    def test_a_bad_generator_is_an_error(self, tmp_path):
        torch.save({"0.weight": torch.ones(5, 9, 3, 3)}, tmp_path / "netG.pth")
        torch.save(convs(3, 4, 6).state_dict(), tmp_path / "netD.pth")
        with pytest.raises(SourceError, match="no usual strides"):
            regraft.load(tmp_path / "netG.pth")
