"""Batch norms use what was said and write nothing while training; calibration measures what it should."""

import copy

import torch

from conftest import toy_gan
from regraft import norms
from regraft.gan import GAN, tensor_digest


def test_running_mode_is_the_evaluation_form(gan):
    z = gan.generator.latent.at(0, range(8))
    copied = copy.deepcopy(gan.generator)
    norms.set_training(copied, "running")
    assert copied.training
    assert torch.equal(copied(z), gan.generator(z))


def test_batch_mode_uses_and_keeps_nothing(gan):
    z = gan.generator.latent.at(0, range(8))
    copied = copy.deepcopy(gan.generator)
    norms.set_training(copied, "batch")
    before = tensor_digest(copied)
    assert not torch.allclose(copied(z), gan.generator(z))
    assert not torch.allclose(copied(z)[:4], copied(z[:4]))
    assert tensor_digest(copied) == before


def test_calibration_makes_stored_statistics_agree_with_batches(gan):
    generator = copy.deepcopy(gan.generator)
    norms.set_training(generator, "batch")
    z = generator.latent.at(9, range(4096))
    with torch.no_grad():
        wanted = generator(z)
    norms.calibrate(generator, n=4096, batch=512)
    made = GAN(generator).at(z, batch=4096)
    assert (made - wanted).abs().mean() < 0.02
    assert norms.uses_batch_statistics(generator), "the training mode is put back"


def test_calibration_is_deterministic_and_touches_statistics_only(gan):
    a, b = copy.deepcopy(gan.generator), copy.deepcopy(gan.generator)
    norms.calibrate(a)
    norms.calibrate(b)
    assert tensor_digest(a) == tensor_digest(b)
    for name, value in gan.generator.named_parameters():
        assert torch.equal(value, dict(a.named_parameters())[name])


def test_calibration_of_a_conditional_generator():
    generator = copy.deepcopy(toy_gan(n_classes=3).generator)
    before = generator.norms[0].norm.running_mean.clone()
    norms.calibrate(generator)
    assert not torch.equal(before, generator.norms[0].norm.running_mean)


def test_rebasing_changes_statistics_but_no_image():
    gan = toy_gan()
    generator = copy.deepcopy(gan.generator)
    assert norms.can_rebase(generator)
    before = GAN(generator).sample(8, 1)
    means = [norm.running_mean.clone() for norm in norms.batch_norms(generator)]
    norms.rebase(generator)
    assert (GAN(generator).sample(8, 1) - before).abs().max() < 1e-4
    assert all((norm.running_mean - m).abs().max() > 1e-2 for norm, m in zip(norms.batch_norms(generator), means, strict=True))
    # Now batch statistics agree with stored ones: large batches give nearly the same images on either.
    z = generator.latent.at(2, range(512))
    norms.set_training(generator, "batch")
    assert (generator(z) - gan.generator(z)).abs().mean() < 0.05


def test_class_norms_cannot_be_rebased():
    assert not norms.can_rebase(toy_gan(n_classes=3).generator)
