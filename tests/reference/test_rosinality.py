"""rosinality's StyleGAN2 agrees with what its authors' code computed."""

import pytest
import torch

import regraft
from support.recorded import recorded_arrays


@pytest.fixture(scope="module")
def recorded(shared):
    """The loaded checkpoint, and what its authors' code computed."""
    folder = shared / "reference" / "rosinality_narrow64"
    if not folder.is_dir():
        pytest.skip("needs the recorded outputs of rosinality_narrow64")
    gan = regraft.load(folder / "550000.pt")
    io = recorded_arrays(folder)
    # The training file holds no mean style; the recording used one of its own.
    gan.generator.mapping.w_avg.copy_(io["latent_avg"])
    return gan, io


def furthest(a, b):
    return (a - b).abs().max().item()


def test_images(recorded):
    gan, io = recorded
    g, z = gan.generator, io["z"]
    assert furthest(g.mapping(z)[:, 0], io["w"]) < 1e-6
    assert furthest(g(z), io["img_const"]) < 1e-5
    assert furthest(g(z, noise="none"), io["img_zeronoise"]) < 1e-5
    assert furthest(g(z, psi=0.5), io["img_trunc05"]) < 1e-5


def test_mixed_styles(recorded):
    gan, io = recorded
    w = gan.generator.mapping(io["z"]).clone()
    w[:, 3:] = gan.generator.mapping(io["z2"])[:, 3:]
    assert furthest(gan.generator.synthesis(w, "const", None), io["img_mix_at3"]) < 1e-5


def test_scores(recorded):
    """Batches of 8 and 4 in groups of 4, and of 3 and 1 in one group."""
    gan, io = recorded
    for images, scores in (
        (io["real"], io["d_real"]),
        (io["img_const"], io["d_fake"]),
        (io["real"][:3], io["d_real_n3"]),
        (io["real"][:1], io["d_real_n1"]),
    ):
        assert torch.allclose(gan.critic(images), scores[:, 0], rtol=1e-3, atol=1e-6)


def test_what_the_file_does_not_say_is_said(shared):
    gan = regraft.load(shared / "reference" / "rosinality_narrow64" / "550000.pt")
    said = regraft.inspect(gan)
    assert said["backbone"] == "stylegan2"
    assert said["format"] == "rosinality"
    assert any("mean style" in sentence for sentence in said["assumptions"])
