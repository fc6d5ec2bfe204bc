"""A StyleALAE checkpoint equals what the authors' code made of it, growing or grown, with every kind of noise."""

import dataclasses

import pytest
import torch

import regraft
from regraft.backbones import _alae
from regraft.core.build import build_with
from regraft.formats.alae import networks
from support.recorded import recorded_arrays


@pytest.fixture(scope="module")
def path(shared):
    """The authors' checkpoint."""
    return shared / "reference" / "alae_mnist32" / "model_final.pth"


@pytest.fixture(scope="module")
def recorded(path):
    """What the authors' code computed, by name."""
    return recorded_arrays(path.parent)


@pytest.fixture(scope="module")
def gan(path):
    """The loaded checkpoint."""
    return regraft.load(path)


def built(path, role, level=None, blend=1.0, **config):
    """A network of the file in another state of growth, or with other settings."""
    models = torch.load(path, weights_only=True)["models"]
    network = getattr(networks(models, str(path), level, blend), role)
    description = dataclasses.replace(network.description, config=network.description.config | config)
    return build_with(description, network.tensors, str(path))


def agree(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    assert (a - b).abs().max() < tolerance


def test_styles_and_images(gan, recorded):
    z = recorded["z"]
    agree(gan.generator.mapping(z)[:, 0], recorded["w"])
    agree(gan.generator(z), recorded["img_nonoise"])
    agree(gan.generator(z, noise="none"), recorded["img_zeronoise"])


def test_noise_maps(gan, recorded, monkeypatch):
    """The authors draw one map per block and style; theirs are put in place of ours."""
    maps = iter(recorded[f"noise_{k}"] for k in range(8))
    monkeypatch.setattr(_alae, "normal", lambda shape, rng, like: next(maps).expand(*shape))
    agree(gan.generator(recorded["z"], noise="random", rng=torch.Generator()), recorded["img_noise"])


def test_truncation(path, recorded):
    generator = built(path, "generator", truncated_ws=4)
    agree(generator(recorded["z"], psi=0.7), recorded["img_trunc_nonoise"])


def test_growing_networks(path, recorded):
    agree(built(path, "generator", level=2)(recorded["z"]), recorded["img_lod_m1_nonoise"])
    agree(built(path, "generator", blend=0.3)(recorded["z"]), recorded["img_blend03_nonoise"])
    agree(built(path, "autoencoder", blend=0.3).encode(recorded["real"]), recorded["E_real_blend03"][:, 0])


def test_encoder_decoder_and_critic(gan, recorded):
    agree(gan.autoencoder.encode(recorded["real"]), recorded["E_real"][:, 0])
    agree(gan.autoencoder.decode(recorded["w"]), recorded["img_nonoise"])
    agree(gan.critic(recorded["real"]), recorded["d_real"])
    agree(gan.critic(recorded["img_nonoise"]), recorded["d_fake"])
    assert torch.equal(gan.autoencoder.mean_code, gan.generator.mapping.w_avg[0])
