"""pytorch_GAN_zoo, mimicry and StudioGAN: what regraft computes equals what the authors' code computed."""

import numpy as np
import pytest
import torch

import regraft
from support.recorded import recorded_arrays

FILES = {
    "progan_zoo_64": ("celebaHQ_s4_i80000.pth", "progan", "img_avgG", "wgan"),
    "mimicry_sngan32": ("netG_100_steps.pth", "sngan", "img", "hinge"),
    "mimicry_wgangp32": ("netG_100_steps.pth", "sngan", "img", "wgan"),
    "studiogan_sngan32": ("", "sngan", "img", "hinge"),
}


def relative(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("name", FILES)
def test_images_and_scores_equal_the_authors(shared, name):
    file, backbone, images, loss = FILES[name]
    folder = shared / "reference" / name
    gan = regraft.load(folder / file)
    recorded = recorded_arrays(folder)
    assert gan.generator.describe().kind == backbone
    assert gan.objective.loss == loss
    made = gan.generator(recorded["z"])
    assert made.std() > 0.1
    assert (made - recorded[images]).abs().max() < 1e-5
    assert relative(gan.critic(recorded["real"]), recorded["d_real"].flatten()) < 1e-5
    assert relative(gan.critic(recorded[images]), recorded["d_fake"].flatten()) < 1e-5


@pytest.mark.parametrize("n", [6, 3, 1])
def test_progan_groups_images_as_the_authors(shared, n):
    folder = shared / "reference" / "progan_zoo_64"
    recorded = np.load(folder / "io.npz")
    critic = regraft.load(folder / "celebaHQ_s4_i80000.pth").critic
    scores = critic(torch.from_numpy(recorded["real"][:n]))
    assert relative(scores, torch.from_numpy(recorded[f"d_real_n{n}"]).flatten()) < 1e-5


@pytest.mark.parametrize("path", ["mimicry_sngan32", "mimicry_sngan32/netD_100_steps.pth"])
def test_mimicry_by_folder_or_by_its_critic(shared, path):
    whole = regraft.load(shared / "reference" / "mimicry_sngan32" / "netG_100_steps.pth")
    again = regraft.load(shared / "reference" / path)
    assert torch.equal(whole.sample(2), again.sample(2))
    assert again.critic is not None


def test_studiogan_prefers_the_averaged_generator(shared):
    folder = shared / "reference" / "studiogan_sngan32"
    averaged = regraft.load(folder).sample(2)
    assert torch.equal(averaged, regraft.load(folder / "model=G_ema-best-weights-step=100.pth").sample(2))
    plain = regraft.load(folder / "model=G-best-weights-step=100.pth")
    assert plain.critic is not None
    assert any("not the averaged one" in note for note in plain.provenance.assumptions)
