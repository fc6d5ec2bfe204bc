"""A target with unequal classes is trained, measured and sampled in its own shares."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.core.config import Objective, Recipe
from regraft.core.errors import AdapterError
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.networks import Generator
from regraft.data.images import Images
from regraft.methods._adversarial import Game
from regraft.metrics.frechet import frechet_distance
from regraft.training.updates import class_shares
from support.toys import toy_gan, toy_images

SHARES = (0.1, 0.9)


class Perfect(Generator):
    """Draws images of two classes exactly as the real ones are: noise around another grey in each."""

    latent, n_classes, size, channels = Latent(12), 2, (2, 2), 3

    def forward(self, z, y=None, *, psi=1.0, noise="const", rng=None):
        return (0.05 * z).reshape(-1, 3, 2, 2) + torch.where(y == 0, -0.6, 0.6)[:, None, None, None]


def test_a_perfect_generator_of_a_10_90_target_is_near_it():
    """Drawn in equal shares it would be as far off as a bad one."""
    real = GAN(Perfect(), class_shares=SHARES).sample(2000, 1).flatten(1)
    near, far = (
        float(frechet_distance(real, GAN(Perfect(), class_shares=shares).sample(1000, 0).flatten(1)))
        for shares in (SHARES, None)
    )
    assert near < 0.02
    assert far > 1


def test_classes_are_drawn_in_shares_and_alike_for_any_batch():
    gan = GAN(Perfect(), class_shares=SHARES)
    labels = gan.classes_at(4000, 3)
    assert abs(float((labels == 1).float().mean()) - 0.9) < 0.02
    assert torch.equal(labels[100:164], gan.classes_at(64, 3, first=100))
    assert abs(float((GAN(Perfect()).classes_at(4000, 3) == 1).float().mean()) - 0.5) < 0.03


def test_shares_are_those_of_the_labels():
    generator = toy_gan(n_classes=2).generator
    images = toy_images(labels=[0, 1, 1, 1])
    assert class_shares(images, generator) == (0.25, 0.75)
    assert class_shares(toy_images(labels=[0, 1]), generator) is None
    assert class_shares(toy_images(labels=[0, 1, 1]), generator) is None
    assert class_shares(Images(images.pixels), generator) is None
    assert class_shares(images, toy_gan().generator) is None
    assert class_shares(images, toy_gan(n_classes=3).generator) is None


def test_training_draws_in_shares():
    gan = toy_gan(n_classes=2)
    game = Game(gan.generator, gan.critic, Objective(), Recipe(), class_shares=SHARES)
    rng = torch.Generator().manual_seed(0)
    _, y = game.fake(2000, rng, torch.device("cpu"))
    assert abs(float((y == 1).float().mean()) - 0.9) < 0.03
    equal = Game(gan.generator, gan.critic, Objective(), Recipe())
    _, y = equal.fake(2000, rng, torch.device("cpu"))
    assert abs(float((y == 1).float().mean()) - 0.5) < 0.04


@pytest.fixture
def unequal(tmp_path):
    """Twelve bars and forty blobs in class folders."""
    rng = np.random.default_rng(0)
    for name, n in (("bars", 12), ("blobs", 40)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(n):
            array = np.zeros((8, 8), np.uint8)
            array[slice(0, 8) if name == "bars" else slice(2, 6), 1 + k % 4 : 3 + k % 4] = rng.integers(120, 255)
            Image.fromarray(array).save(tmp_path / "photos" / name / f"{k:03d}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("method", ["transfergan", "freezed", "scratch"])
def test_a_run_keeps_the_shares(method, unequal, tmp_path):
    run = regraft.adapt(unequal, toy_gan(), method=method, steps=2, batch=4, labels=True, out=tmp_path / "run")
    shares = run.gan.class_shares
    assert sum(shares) == pytest.approx(1)
    assert 0.18 < shares[0] < 0.28
    loaded = regraft.load_adapter(tmp_path / "run", sources=[toy_gan()])
    assert loaded.class_shares == pytest.approx(shares)
    assert torch.equal(loaded.sample(6, 1), run.gan.sample(6, 1))
    converted = regraft.load(regraft.convert(tmp_path / "run", tmp_path / "alone", sources=[toy_gan()]))
    assert converted.class_shares == pytest.approx(shares)
    labels = [path.parent.name for path in sampled(tmp_path / "run", tmp_path / "samples", 200)]
    assert 0.1 < labels.count("bars") / 200 < 0.36


def sampled(run, out, n):
    """Sample as a user does; returns the files."""
    regraft.sample(run, out, sources=[toy_gan()], n=n)
    return list(out.rglob("*.png"))


def test_shares_that_are_none_are_refused(unequal, tmp_path):
    regraft.adapt(unequal, toy_gan(), method="transfergan", steps=1, batch=4, labels=True, out=tmp_path / "run")
    path = tmp_path / "run" / "adapter_config.json"
    for wrong in ([0.5], [0.2, 0.2], [2, -1], ["a", "b"], 3, [True, False]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"class_shares": wrong}))
        with pytest.raises(AdapterError, match="class_shares must be 2 numbers from 0 to 1"):
            regraft.load_adapter(tmp_path / "run", sources=[toy_gan()])
