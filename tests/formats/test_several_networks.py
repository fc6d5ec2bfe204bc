"""Files that hold several networks: the right ones are taken, or the error names the candidates and what a card must say."""

import re

import pytest
import torch
import yaml
from torch import nn
from torch.optim.swa_utils import AveragedModel

import regraft
from regraft.core.errors import SourceError
from support.home_made import convs, deconvs, settle

SEED = 5


@pytest.fixture(scope="module")
def networks():
    """Generator, another one of its shapes, critic, encoder; by their usual letters."""
    torch.manual_seed(SEED)
    other = deconvs(8, 6)
    return {
        "G": settle(deconvs(8, 6)),
        "average": settle(other),
        "D": convs(3, 4, 6).eval(),
        "E": nn.Sequential(nn.Conv2d(3, 5, 4, 2, 1), nn.Conv2d(5, 10, 8)),
    }


def under(prefix, network):
    return {prefix + name: value for name, value in network.state_dict().items()}


def load(folder, content, name="gan.ckpt"):
    torch.save(content, folder / name)
    return regraft.load(folder / name)


def makes_the_images_of(gan, network):
    z = torch.randn(2, 10)
    with torch.no_grad():
        return torch.allclose(gan.generator(z), network(z[:, :, None, None]), atol=1e-5)


def scores_as(gan, network):
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        return torch.allclose(gan.critic(x), network(x).flatten(), atol=1e-5)


PAIRS = [
    ("generator.", "discriminator."),
    ("G.", "D."),
    ("netG.", "netD."),
    ("gen.", "disc."),
    ("model.generator.", "model.discriminator."),
    ("module.netG.module.", "module.netD.module."),
    ("_orig_mod.gan.generator._orig_mod.", "_orig_mod.gan.critic._orig_mod."),
    ("g_model.main.", "d_model.main."),
    ("trainer.G.", "trainer.D."),
    ("Generator.", "Critic."),
]


class TestOneStateDict:
    @pytest.mark.parametrize(("g", "d"), PAIRS)
    @pytest.mark.parametrize(
        "wrap", [lambda tensors: tensors, lambda tensors: {"state_dict": tensors, "epoch": 4, "loops": {}}]
    )
    def test_is_split_by_prefixes(self, tmp_path, networks, g, d, wrap):
        gan = load(tmp_path, wrap(under(g, networks["G"]) | under(d, networks["D"])))
        assert makes_the_images_of(gan, networks["G"])
        assert scores_as(gan, networks["D"])
        assert any("generator was taken from" in said and "critic from" in said for said in gan.provenance.assumptions)

    def test_leaves_out_what_a_gan_does_not_need(self, tmp_path, networks):
        content = under("encoder.", networks["E"]) | under("generator.", networks["G"]) | under("critic.", networks["D"])
        content |= {"lpips.lin.weight": torch.zeros(1, 4, 1, 1), "fixed_noise": torch.zeros(4, 10)}
        gan = load(tmp_path, content)
        assert makes_the_images_of(gan, networks["G"])
        assert scores_as(gan, networks["D"])
        assert any(said.startswith("Not used: encoder.*") for said in gan.provenance.assumptions)

    @pytest.mark.parametrize(("a", "b"), [("generator_A2B.", "generator_B2A."), ("G_AB.", "G_BA.")])
    def test_two_generators_are_listed(self, tmp_path, networks, a, b):
        content = (
            under(a, networks["G"])
            | under(b, networks["average"])
            | under("D_A.", networks["D"])
            | under("D_B.", networks["D"])
        )
        with pytest.raises(SourceError) as refused:
            load(tmp_path, content)
        message = str(refused.value)
        assert f"{a}*; {b}*" in message
        assert f"generator: {{file: gan.ckpt, prefix: {a}}}" in message

    def test_a_list_under_one_name_is_chosen_from_by_card(self, tmp_path, networks):
        content = under("netG.0.", networks["G"]) | under("netG.1.", networks["average"]) | under("netD.", networks["D"])
        with pytest.raises(SourceError, match=r"prefix: 0\.}; there are: 0\., 1\."):
            load(tmp_path, content)
        card = {"regraft_card": 1, "generator": {"file": "gan.ckpt", "prefix": "1."}, "critic": "gan.ckpt"}
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
        gan = regraft.load(tmp_path / "source.yaml")
        assert makes_the_images_of(gan, networks["average"])
        assert scores_as(gan, networks["D"])

    def test_numbered_generators_are_listed(self, tmp_path, networks):
        content = (
            under("generators.0.", networks["G"]) | under("generators.1.", networks["G"]) | under("critics.0.", networks["D"])
        )
        with pytest.raises(SourceError, match=r"generators\.0\.\*; generators\.1\.\*"):
            load(tmp_path, content)

    def test_several_critics_leave_the_generator_without(self, tmp_path, networks):
        gan = load(tmp_path, under("G.", networks["G"]) | under("D_1.", networks["D"]) | under("D_2.", networks["D"]))
        assert gan.critic is None
        assert any("D_1.*; D_2.*" in said for said in gan.provenance.assumptions)

    def test_a_table_of_classes_beside_both_is_refused(self, tmp_path, networks):
        content = under("generator.", networks["G"]) | under("discriminator.", networks["D"])
        with pytest.raises(SourceError, match="label_emb is an embedding"):
            load(tmp_path, content | {"label_emb.weight": torch.zeros(10, 10)})

    def test_modules_of_one_network_stay_together(self, tmp_path):
        """``dec1`` and ``dec2`` are blocks of one decoder, not two."""
        layers = list(settle(deconvs(8, 6)))
        whole = nn.ModuleDict({"dec1": nn.Sequential(*layers[:3]), "dec2": nn.Sequential(*layers[3:])})
        gan = load(tmp_path, whole.state_dict())
        assert makes_the_images_of(gan, nn.Sequential(*layers))


class TestUnknownPrefixes:
    def test_two_networks_in_a_row_are_no_generator(self, tmp_path, networks):
        with pytest.raises(SourceError) as refused:
            load(tmp_path, under("painter.", networks["G"]) | under("judge.", networks["D"]))
        message = str(refused.value)
        assert "reaches an image, 3x16x16, and goes on to" in message
        assert "prefix: painter.}; there are: painter., judge." in message

    @pytest.mark.parametrize("prefix", ["painter", "painter."])
    def test_a_card_names_them(self, tmp_path, networks, prefix):
        torch.save({"state_dict": under("painter.", networks["G"]) | under("judge.", networks["D"])}, tmp_path / "gan.ckpt")
        card = {
            "regraft_card": 1,
            "generator": {"file": "gan.ckpt", "prefix": prefix},
            "critic": {"file": "gan.ckpt", "key": "state_dict", "prefix": "judge."},
        }
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
        gan = regraft.load(tmp_path / "source.yaml")
        assert makes_the_images_of(gan, networks["G"])
        assert scores_as(gan, networks["D"])
        card["generator"]["prefix"] = "artist."
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
        with pytest.raises(SourceError, match=r"no name begins with artist\.; there are: painter\., judge\."):
            regraft.load(tmp_path / "source.yaml")

    def test_a_card_chooses_between_two_generators(self, tmp_path, networks):
        torch.save(
            under("G_AB.", networks["G"]) | under("G_BA.", networks["average"]) | under("D.", networks["D"]), tmp_path / "a.pt"
        )
        card = {"regraft_card": 1, "generator": {"file": "a.pt", "prefix": "G_BA."}, "critic": "a.pt"}
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
        gan = regraft.load(tmp_path / "source.yaml")
        assert makes_the_images_of(gan, networks["average"])
        assert scores_as(gan, networks["D"])

    def test_what_contracts_or_takes_images_is_no_generator(self, tmp_path, networks):
        with pytest.raises(SourceError, match="takes 3 channels, as an image has"):
            load(tmp_path, networks["D"].state_dict())
        chain = nn.Sequential(nn.Linear(784, 64), nn.Linear(64, 8), nn.Linear(8, 64), nn.Linear(64, 784))
        with pytest.raises(SourceError, match="takes as many numbers as the image has that it makes, 784: an autoencoder"):
            load(tmp_path, chain.state_dict())
        with pytest.raises(SourceError, match=r"holds no generator, only a critic \(netD\); name the generator's file"):
            load(tmp_path, {"netD": networks["D"].state_dict()})
        with pytest.raises(SourceError, match="but a list; save the networks by name"):
            load(tmp_path, [networks["G"].state_dict(), networks["D"].state_dict()])


def shadow(network):
    """Averages of parameters alone, as many hand-written classes keep them."""
    return {name: value.detach() for name, value in network.named_parameters()}


AVERAGES = {
    "ema": lambda n: {"netG": n["G"].state_dict(), "ema": n["average"].state_dict()},
    "g_ema": lambda n: {"g": n["G"].state_dict(), "g_ema": n["average"].state_dict()},
    "netG_ema": lambda n: {"netG_ema": n["average"].state_dict(), "netG": n["G"].state_dict()},
    "G_avg": lambda n: {"G": n["G"].state_dict(), "G_avg": n["average"].state_dict()},
    "avg_G": lambda n: {"G": n["G"].state_dict(), "avg_G": n["average"].state_dict()},
    "params_ema": lambda n: {"params": n["G"].state_dict(), "params_ema": n["average"].state_dict()},
    "ema_state_dict": lambda n: {"state_dict": n["G"].state_dict(), "ema_state_dict": n["average"].state_dict()},
    "AveragedModel": lambda n: {"generator": n["G"].state_dict(), "swa_model": AveragedModel(n["average"]).state_dict()},
    "AveragedModel alone": lambda n: AveragedModel(n["average"]).state_dict(),
    "ema_pytorch": lambda n: {
        **under("online_model.", n["G"]),
        **under("ema_model.", n["average"]),
        "initted": torch.tensor(True),
        "step": torch.tensor(100),
    },
    "ema_pytorch below a key": lambda n: {
        "generator": n["G"].state_dict(),
        "ema": {**under("online_model.", n["G"]), **under("ema_model.", n["average"]), "step": torch.tensor(100)},
    },
    "of both networks": lambda n: {
        "state_dict": under("generator.", n["G"]) | under("discriminator.", n["D"]),
        "ema_state_dict": under("generator.", n["average"]) | under("discriminator.", n["D"]),
    },
    "Lightning's averaging": lambda n: {
        "state_dict": under("generator.", n["average"]) | under("discriminator.", n["D"]),
        "current_model_state": under("generator.", n["G"]) | under("discriminator.", n["D"]),
        "averaging_state": {"n_averaged": torch.tensor(5)},
    },
    "a module beside": lambda n: under("G.", n["G"]) | under("G_ema.", n["average"]) | under("D.", n["D"]),
}
PARAMETERS_ALONE = {
    "shadow": lambda n: {"netG": n["G"].state_dict(), "shadow": shadow(n["average"])},
    "shadow_params": lambda n: {
        "G": n["G"].state_dict(),
        "ema": {"decay": 0.999, "shadow_params": list(shadow(n["average"]).values())},
    },
    "names without dots": lambda n: {
        **under("G.", n["G"]),
        **{f"G_ema.{name.replace('.', '')}": value for name, value in shadow(n["average"]).items()},
        "G_ema.decay": torch.tensor(0.99),
        **under("D.", n["D"]),
    },
}


class TestAverages:
    @pytest.mark.parametrize("kind", AVERAGES)
    def test_are_taken_where_the_name_says_so(self, tmp_path, networks, kind):
        gan = load(tmp_path, AVERAGES[kind](networks))
        assert makes_the_images_of(gan, networks["average"])
        assert any("average" in said for said in gan.provenance.assumptions)

    @pytest.mark.parametrize("kind", PARAMETERS_ALONE)
    def test_of_parameters_alone_keep_the_statistics(self, tmp_path, networks, kind):
        gan = load(tmp_path, PARAMETERS_ALONE[kind](networks))
        expected = deconvs(8, 6)
        expected.load_state_dict({**networks["G"].state_dict(), **shadow(networks["average"])})
        assert makes_the_images_of(gan, expected.eval())
        assert any("holds no batch statistics" in said for said in gan.provenance.assumptions)

    @pytest.mark.parametrize(
        "keys",
        [("netG", "best"), ("generator", "generator_target"), ("state_dict", "model"), ("first", "second"), ("ema_1", "ema_2")],
    )
    def test_the_rest_is_the_users_choice(self, tmp_path, networks, keys):
        content = dict(zip(keys, (networks["G"].state_dict(), networks["average"].state_dict()), strict=True))
        with pytest.raises(SourceError) as refused:
            load(tmp_path, content)
        assert all(re.search(rf"\b{key}\b", str(refused.value)) for key in keys)
        assert f"key: {keys[0]}" in str(refused.value)
        card = {"regraft_card": 1, "generator": {"file": "gan.ckpt", "key": keys[1]}}
        (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
        assert makes_the_images_of(regraft.load(tmp_path / "source.yaml"), networks["average"])
