"""Batch norms use what was said and write nothing while training; calibration measures what it should."""

import copy

import torch

from regraft.composites.decoded import DecodedGenerator, Mind, MindConfig
from regraft.core import norms
from regraft.core.gan import GAN, tensor_digest
from support.toys import toy_autoencoder, toy_gan


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


def test_calibration_runs_what_lies_behind_the_last_norm_once():
    """A decoder behind a small generator would cost more than training it."""
    autoencoder = toy_autoencoder()
    norms.freeze_statistics(autoencoder)
    generator = DecodedGenerator(Mind(MindConfig(code_dim=6, widths=(5, 4), norm="batch")), autoencoder)
    mind, other = generator.mind, copy.deepcopy(generator)
    norms.set_training(generator, "batch")
    before, decoded = tensor_digest(autoencoder), []
    generator.decoding.register_forward_pre_hook(lambda module, inputs: decoded.append(len(inputs[0])))
    norms.calibrate(generator, n=512, batch=64)
    assert decoded == [64]
    assert tensor_digest(autoencoder) == before
    found = []
    for batch in range(8):
        x = other.mind.layers[0](other.latent.at(0, range(64 * batch, 64 * batch + 64)))
        found.append((x.mean(0), x.var(0)))
    first = next(norms.batch_norms(mind))
    assert torch.allclose(first.running_mean, torch.stack([m for m, _ in found]).mean(0), atol=1e-5)
    assert torch.allclose(first.running_var, torch.stack([v for _, v in found]).mean(0), atol=1e-5)


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
