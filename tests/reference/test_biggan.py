"""BigGAN: recorded images and scores of the authors' code."""

import pytest
import torch

import regraft
from regraft.core.networks import ClassCode
from support.recorded import recorded_arrays


def test_ajbrock_generator_and_critic(shared):
    folder = shared / "reference" / "biggan_hier64_mybn"
    gan, io = regraft.load(folder), recorded_arrays(folder)
    assert (gan.generator.size, gan.generator.n_classes, gan.generator.latent.dim) == ((64, 64), 5, 100)
    assert any("epsilons assumed" in note for note in gan.provenance.assumptions)
    images = gan.generator(io["z"], io["y"])
    assert (images - io["img_ema"]).abs().max() < 1e-5
    assert torch.equal(gan.generator.embed(io["y"]).vector, io["shared_y"])
    mixed = gan.generator(io["z"], ClassCode(io["shared_mix"]))
    assert (mixed - io["img_mix"]).abs().max() < 1e-5
    for name, x in (("d_real", io["real"]), ("d_fake", io["img_ema"])):
        assert torch.allclose(gan.critic(x, io["y"]), io[name][:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("psi", [0.02, 0.41, 0.58, 1.0])
def test_hugging_face_generator_at_every_truncation(shared, psi):
    folder = shared / "reference" / "biggan_hf_deep128"
    gan, io = regraft.load(folder), recorded_arrays(folder)
    assert gan.critic is None
    assert gan.generator.latent.bound == 2
    assert torch.equal(gan.generator.embed(io["y"]).vector, io["embed"])
    for y in (io["y"].argmax(1), gan.generator.embed(io["y"])):
        assert (gan.generator(io["z"], y, psi=psi) - io[f"img_t{psi}"]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["biggan_hier64_mybn", "biggan_hf_deep128"])
def test_conversion_is_bit_identical(shared, tmp_path, name):
    gan = regraft.load(shared / "reference" / name)
    again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
    for psi in (1.0, 0.41):
        assert torch.equal(gan.sample(2, 0, psi=psi), again.sample(2, 0, psi=psi))
    if gan.critic is not None:
        assert torch.equal(gan.critic(gan.sample(2)), again.critic(gan.sample(2)))
