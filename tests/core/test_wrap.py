"""Any torch module pair serves as a source."""

import pytest
import torch
from torch import nn

import regraft
from regraft.core.errors import MissingCapability, SourceError
from support.plugins import find_plugin


def spatial_generator():
    return nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()
    )


def flat_generator():
    return nn.Sequential(nn.Linear(5, 8 * 8), nn.Unflatten(1, (1, 8, 8)))


def critic(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())


def test_latents_with_and_without_space():
    gan = regraft.GAN(spatial_generator(), critic(), regraft.Latent(5))
    assert gan.generator.size == (8, 8)
    assert gan.generator.channels == 3
    assert gan.sample(3).shape == (3, 3, 8, 8)
    assert regraft.GAN(flat_generator(), latent=regraft.Latent(5)).sample(2).shape == (2, 1, 8, 8)


def test_a_final_sigmoid_is_left_out_and_the_module_is_not_changed():
    module = critic()
    gan = regraft.GAN(spatial_generator(), module, regraft.Latent(5))
    x = torch.randn(4, 3, 8, 8)
    assert gan.critic(x).shape == (4,)
    assert torch.allclose(torch.sigmoid(gan.critic(x)), module(x)[:, 0], atol=1e-6)
    assert isinstance(module[-1], nn.Sigmoid)


def test_probing_changes_no_statistics():
    module = spatial_generator().train()
    before = module[1].running_mean.clone()
    regraft.GAN(module, latent=regraft.Latent(5))
    assert torch.equal(before, module[1].running_mean)
    assert module[1].num_batches_tracked == 0
    assert module.training


def test_what_does_not_fit_is_said():
    with pytest.raises(SourceError, match="needs latent="):
        regraft.GAN(spatial_generator())
    with pytest.raises(SourceError, match="does not make images .* from latents of 7 numbers"):
        regraft.GAN(spatial_generator(), latent=regraft.Latent(7))
    with pytest.raises(SourceError, match="must give one number per image"):
        regraft.GAN(spatial_generator(), nn.Flatten(), regraft.Latent(5))
    with pytest.raises(SourceError, match="does not score images"):
        regraft.GAN(spatial_generator(), critic(channels=1), regraft.Latent(5))


def test_a_module_source_adapts_and_cannot_be_converted(photos, tmp_path):
    gan = regraft.GAN(flat_generator(), critic(1), regraft.Latent(5))
    run = regraft.adapt(photos, gan, method="transfergan", out=tmp_path / "run", steps=3, batch=4, evaluate_every=0)
    again = regraft.load_adapter(tmp_path / "run", sources=[gan])
    assert torch.equal(run.gan.sample(4, 1), again.sample(4, 1))
    with pytest.raises(MissingCapability, match="handed over as a Python module"):
        regraft.convert(again, tmp_path / "whole")


def test_scratch_draws_a_module_anew():
    from regraft.core.randomness import generator_at
    from support.toys import toy_images

    gan = regraft.GAN(flat_generator(), critic(1), regraft.Latent(5))
    method = find_plugin("methods", "scratch")
    a, b = (method.attach([gan], toy_images(), method.Config(steps=1), generator_at(seed, "init")).generator for seed in (0, 0))
    assert torch.equal(a.module[0].weight, b.module[0].weight)
    assert not torch.equal(a.module[0].weight, gan.generator.module[0].weight)
