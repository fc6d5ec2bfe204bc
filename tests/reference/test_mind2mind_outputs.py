"""Mind2Mind on an ALAE checkpoint of the authors' code: its codes, and nothing of it changed by training on them."""

import numpy as np
import pytest
import torch

import regraft
from regraft.core.gan import tensor_digest
from regraft.data import codes
from support.recorded import recorded_arrays


@pytest.fixture(scope="module")
def path(shared):
    """The authors' checkpoint."""
    return shared / "reference" / "alae_mnist32" / "model_final.pth"


def test_codes_are_those_of_the_authors_encoder(path):
    recorded = recorded_arrays(path.parent)
    autoencoder = regraft.load(path).autoencoder
    found = codes.encode_images(autoencoder, recorded["real"])
    assert (found - recorded["E_real"][:, 0]).abs().max() < 1e-5
    assert (autoencoder.decode(recorded["w"]) - recorded["img_nonoise"]).abs().max() < 1e-5


def test_train_convert_and_sample(path, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x_train=rng.integers(0, 255, (12, 32, 32), dtype=np.uint8))
    gan = regraft.load(path)
    before = [tensor_digest(n) for n in (gan.generator, gan.critic, gan.autoencoder)]
    run = regraft.adapt(tmp_path / "images.npz", gan, method="mind2mind", steps=3, batch=4, write=False)
    assert before == [tensor_digest(n) for n in (gan.generator, gan.critic, gan.autoencoder)]
    assert tensor_digest(run.gan.generator.autoencoder) == before[2]
    dim = gan.autoencoder.code_shape[0]
    assert run.gan.generator.mind.config.widths == (dim // 4, dim // 2, dim)
    converted = regraft.load(regraft.convert(run.gan, tmp_path / "whole"))
    assert torch.equal(converted.sample(3, 1), run.gan.sample(3, 1))
    assert torch.equal(converted.autoencoder.decode(torch.zeros(1, dim)), gan.autoencoder.decode(torch.zeros(1, dim)))
