"""A TransferGAN checkpoint in both of TensorFlow's containers equals what the authors' code made of it."""

import numpy as np
import pytest
import torch

import regraft
from regraft.core.gan import tensor_digest
from regraft.formats import _tensorflow
from support.recorded import recorded_arrays

CONTAINERS = ["wgan-gp.model.index", "v1_wgan-gp.model"]


@pytest.fixture(scope="module")
def folder(shared):
    """A folder with a checkpoint in both containers."""
    return shared / "reference" / "transfergan_uncond"


@pytest.fixture(scope="module")
def recorded(folder):
    """What the authors' code computed, by name."""
    return recorded_arrays(folder)


@pytest.fixture(scope="module")
def gan(folder):
    """The loaded checkpoint."""
    return regraft.load(folder / "wgan-gp.model")


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_tensor_is_read_exactly(folder, name):
    checkpoint = _tensorflow.open_checkpoint(folder / name)
    found = checkpoint.tensors(list(checkpoint.headers))
    wanted = np.load(folder / "params.npz")
    assert set(found) == set(wanted.files)
    for key in wanted.files:
        assert np.array_equal(found[key].numpy(), wanted[key]), key


def test_generator_and_critic(gan, recorded):
    z = recorded["z"]
    assert (gan.generator(z) - recorded["img"]).abs().max() < 1e-5
    assert (gan.generator(z[:1]) - recorded["img_batch_of_1"]).abs().max() < 1e-5
    for images, scores in ((recorded["real"], recorded["d_real"]), (recorded["img"], recorded["d_fake"])):
        assert torch.allclose(gan.critic(images), scores, rtol=1e-5, atol=1e-5)


def test_samples_do_not_depend_on_their_batch(gan, recorded):
    apart, together = gan.sample(8, 0, batch=3), gan.sample(8, 0, batch=8)
    assert (apart - together).abs().max() < 1e-4
    assert (gan.at(recorded["z"]) - recorded["img"]).abs().mean() < 0.5
    assert gan.provenance.assumptions


@pytest.mark.parametrize("name", ["v1_wgan-gp.model", "wgan-gp.model.data-00000-of-00001", ""])
def test_all_ways_to_name_it_give_the_same_source(gan, folder, name):
    other = regraft.load(folder / name)
    assert tensor_digest(other.generator, other.critic) == tensor_digest(gan.generator, gan.critic)
