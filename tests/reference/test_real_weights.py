"""Real weights: home-made files found on the internet load, sample, and agree with their authors' outputs."""

import numpy as np
import pytest
import torch

import regraft
from regraft.extractors.classifier import class_logits

PAIRS = {
    "mnist_dcgan": ("dcgan", (28, 28), 1, 100, "normal", "leaky_relu"),
    "mnist_gan_mlp": ("mlp", (28, 28), 1, 64, "normal", "relu"),
    "celeba32_dcgan_a": ("dcgan", (32, 32), 3, 100, "normal", "leaky_relu"),
    "celeba32_dcgan_b": ("dcgan", (32, 32), 3, 100, "uniform", "relu"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_load_without_a_card(shared, name):
    """Latent and activation are known from the repositories; regraft must find them in the file."""
    backbone, size, channels, dim, distribution, activation = PAIRS[name]
    gan = regraft.load(shared / "data" / "weights" / f"{name}_G.pth")
    assert regraft.inspect(gan)["backbone"] == backbone
    assert (gan.generator.size, gan.generator.channels) == (size, channels)
    assert (gan.generator.latent.dim, gan.generator.latent.distribution) == (dim, distribution)
    assert gan.generator.config.layers[0].activation == activation
    assert gan.critic is not None
    images = gan.sample(64, 0)
    assert images.std() > 0.3
    scores = gan.critic(images)
    assert torch.isfinite(scores).all()
    assert scores.std() > 0


def test_mnist_dcgan_makes_all_ten_digits(shared):
    weights = shared / "data" / "weights"
    images = regraft.load(weights / "mnist_dcgan_G.pth").sample(500, 0)
    classes = class_logits(weights / "mnist_classifier_lenet.pth", images).argmax(1)
    assert set(classes.tolist()) == set(range(10))


def test_lenet_knows_mnist(shared):
    """The figure of the data's README: 99.1 % on the test set."""
    images = regraft.open_images(f"{shared / 'data' / 'mnist_28.npz'}:x_test").take(0, 2000).decode((32, 32), 1)
    logits = class_logits(shared / "data" / "weights" / "mnist_classifier_lenet.pth", images.tensor())
    assert (logits.argmax(1) == images.labels).float().mean() > 0.98


def test_resnet_knows_cifar(shared):
    """The figure of the data's README: 82.1 % on these JPEG copies."""
    listed = regraft.open_images(shared / "data" / "cifar10_32.zip", split="test")
    assert len(listed) == 1000
    assert listed.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    decoded = listed.decode((32, 32), 3)
    images, labels = decoded.tensor(), decoded.labels
    logits = class_logits(shared / "data" / "weights" / "cifar10_resnet20.safetensors", images)
    assert (logits.argmax(1) == labels).float().mean().item() == pytest.approx(0.821, abs=0.005)


def test_csinva_dcgan_equals_its_author(shared):
    """Recorded outputs of the author's own code, for generator and critic (whose score is taken before the sigmoid)."""
    folder = shared / "reference" / "dcgan_mnist28"
    gan = regraft.load(folder / "netG_epoch_99.pth")
    recorded = np.load(folder / "io.npz")
    z = torch.from_numpy(recorded["z"]).flatten(1)
    assert gan.generator.size == (28, 28)
    assert (gan.generator(z) - torch.from_numpy(recorded["img"])).abs().max() < 1e-6
    real = torch.from_numpy(recorded["real"])
    assert torch.allclose(gan.critic(real), torch.from_numpy(recorded["d_real_logit"]), atol=1e-5)
