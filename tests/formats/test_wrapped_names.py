"""Prefixes that wrappers add, nested in any order, change nothing in any format; neither does a state dict around networks."""

import re

import pytest
import torch

import regraft
from regraft.core.gan import tensor_digest
from regraft.formats._roles import is_average, role, unwrapped
from support import alae_files, biggan_files, resnet_files, rosinality_files, zoo_files
from support.home_made import convs, deconvs, settle

NESTED = [
    "module.",
    "_orig_mod.",
    "decoder.",
    "generator.",
    "module._orig_mod.",
    "_orig_mod.model.net.module.",
    "model.G_ema.module.",
]


def home_made(folder, wrap):
    torch.manual_seed(0)
    torch.save(wrap(settle(deconvs(8, 6)).state_dict()), folder / "netG.pth")
    torch.save(wrap(convs(3, 4, 6).state_dict()), folder / "netD.pth")
    return folder / "netG.pth"


def rosinality(folder, wrap):
    rosinality_files.torch.manual_seed(0)
    content = rosinality_files.training_file()
    torch.save({key: wrap(content[key]) for key in ("g_ema", "d")}, folder / "100.pt")
    return folder / "100.pt"


def mimicry(folder, wrap):
    generator = resnet_files.mimicry_generator([8, 8, 8, 8], sn="own")
    critic = resnet_files.mimicry_critic([8, 8, 8, 8], [True, True, False, False], "l5", sn="own", head_sn="own")
    return resnet_files.pair(folder, wrap(generator), wrap(critic))


def studiogan(folder, wrap):
    generator = resnet_files.studio_generator([8, 8, 8, 8], 6, sn="torch", code=4)
    critic = resnet_files.studio_critic([8] * 4, [True, True, False, False], n_classes=4)
    resnet_files.studio_run(folder, wrap(generator), wrap(critic))
    return folder


def biggan(folder, wrap):
    generator, critic = biggan_files.deep_files()
    return biggan_files.save(folder, G_ema=wrap(generator), D=wrap(critic))


def zoo(folder, wrap):
    generator, critic = zoo_files.zoo_dcgan()
    return zoo_files.zoo_run(folder, {"lossCriterion": "DCGAN"}, generator, critic, wrap=wrap)


def alae(folder, wrap):
    made = alae_files.models()
    return alae_files.written(folder / "model.pth", {name: wrap(tensors) for name, tensors in made.items()})


SOURCES = {
    "home-made": home_made,
    "rosinality": rosinality,
    "mimicry": mimicry,
    "StudioGAN": studiogan,
    "BigGAN": biggan,
    "GAN zoo": zoo,
    "ALAE": alae,
}


def digests(gan):
    return tensor_digest(gan.generator), tensor_digest(gan.critic)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Each source as its own code writes it; opened once."""
    opened = {}

    def source(kind):
        if kind not in opened:
            biggan_files.rng.manual_seed(0)
            opened[kind] = regraft.load(SOURCES[kind](tmp_path_factory.mktemp("plain"), dict))
        return opened[kind]

    return source


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("prefix", NESTED)
def test_every_format_reads_through_prefixes(tmp_path, plain, kind, prefix):
    expected = plain(kind)
    biggan_files.rng.manual_seed(0)
    made = []

    def wrap(tensors):
        """The generator comes first; a critic is in no wrapper called decoder."""
        own = prefix if kind == "ALAE" or not made else re.sub("generator|decoder|G_ema", "netD", prefix)
        made.append(tensors)
        return {f"{own}{name}": value for name, value in tensors.items()}

    gan = regraft.load(SOURCES[kind](tmp_path, wrap))
    assert gan.provenance.format == expected.provenance.format
    assert digests(gan) == digests(expected)


@pytest.mark.parametrize("kind", ["rosinality", "mimicry", "BigGAN"])
def test_one_state_dict_of_lightning_holds_both_networks(tmp_path, plain, kind):
    expected = plain(kind)
    states = []
    biggan_files.rng.manual_seed(0)
    SOURCES[kind](tmp_path, lambda tensors: states.append(dict(tensors)) or dict(tensors))
    both = {f"G_ema.{name}": value for name, value in states[0].items()}
    both |= {f"G.{name}": value + 1 if value.is_floating_point() else value for name, value in states[0].items()}
    both |= {f"D.{name}": value for name, value in states[1].items()}
    torch.save({"state_dict": both, "epoch": 3}, tmp_path / "last.ckpt")
    gan = regraft.load(tmp_path / "last.ckpt")
    assert gan.provenance.format == expected.provenance.format
    assert tensor_digest(gan.generator) == tensor_digest(expected.generator)
    assert any("G_ema" in said for said in gan.provenance.assumptions)
    assert tensor_digest(gan.critic) == tensor_digest(expected.critic)


def test_psp_holds_its_generator_as_decoder(tmp_path):
    tensors = rosinality_files.generator_state()
    content = {
        "state_dict": {f"decoder.{name}": value for name, value in tensors.items()}
        | {"encoder.input.0.weight": torch.zeros(4, 3, 3, 3)},
        "latent_avg": torch.full((6, 6), 0.25),
        "opts": {"stylegan_weights": "x"},
    }
    torch.save(content, tmp_path / "psp.pt")
    gan = regraft.load(tmp_path / "psp.pt")
    torch.save(tensors, tmp_path / "plain.pt")
    mean = gan.generator.mapping.w_avg
    assert torch.equal(mean, torch.full((6,), 0.25))
    gan.generator.mapping.w_avg = regraft.load(tmp_path / "plain.pt").generator.mapping.w_avg
    assert tensor_digest(gan.generator) == tensor_digest(regraft.load(tmp_path / "plain.pt").generator)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            *(
                (name, "generator")
                for name in ("netG", "G", "g_ema", "Generator", "gen_A2B", "G_state_dict", "generator_ema", "Gs")
            ),
            *(
                (name, "critic")
                for name in ("netD", "D", "discriminator", "disc", "critic", "D_A", "model_D", "discriminator_sd")
            ),
            *((name, "other") for name in ("encoder", "netE", "vgg", "optimizer_G", "d_optim", "loss_fn", "netQ")),
            *((name, None) for name in ("main", "g1", "d2", "conv", "state_dict", "layers", "degree", "generic", "ema")),
        ],
    )
    def test_role(self, name, meant):
        assert role(name) == meant

    @pytest.mark.parametrize(
        ("names", "average"),
        [
            (("ema",), True),
            (("netG_ema",), True),
            (("avgG",), True),
            (("G_running",), True),
            (("ema", "online_model"), False),
            (("ema", "ema_model"), True),
            (("state_dict", "generator"), False),
            (("schema",), False),
        ],
    )
    def test_average(self, names, average):
        assert is_average(names) == average

    def test_prefix_that_one_name_lacks_stays(self):
        tensors = {"model.0.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
        assert unwrapped(tensors) == tensors
