"""Diagnosis: round trips and the bound's terms against closed forms."""

import itertools

import numpy as np
import pytest
import torch

import regraft
from regraft.composites.decoded import gaussian_prior
from regraft.core.errors import DataError
from regraft.core.gan import GAN
from regraft.core.networks import Autoencoder
from regraft.data.opening import open_images
from regraft.verbs import diagnose
from support.pictures import save_arrays
from support.toys import toy_gan


class Linear(Autoencoder):
    """Codes are the first numbers of the image, scaled; decoding writes them back."""

    def __init__(self, up=2.0, kept=64):
        super().__init__()
        self.up, self.kept = torch.nn.Parameter(torch.tensor(up)), kept
        self.size, self.channels, self.code_shape, self.mean_code = (8, 8), 1, (kept,), None

    def encode(self, x):
        return x.flatten(1)[:, : self.kept] / self.up

    def decode(self, codes, *, noise="const", rng=None):
        return torch.nn.functional.pad(codes * self.up, (0, 64 - self.kept)).view(-1, 1, 8, 8)


def test_exact_autoencoder(photos):
    autoencoder = Linear()
    facts = diagnose.diagnose(GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), photos, source_images=photos)
    assert facts["reconstruction_distance"] == pytest.approx(0, abs=1e-5)
    assert facts["latent_correlation_generated"] == pytest.approx(1, abs=1e-6)
    assert facts["decoder_lipschitz"] == pytest.approx(2, rel=1e-4)
    assert facts["encoder_lipschitz"] == pytest.approx(0.5, rel=1e-4)
    assert facts["source_target_distance"] == pytest.approx(0, abs=1e-2)
    assert facts["bound_by_target"] == pytest.approx(2 * facts["code_distance"], rel=1e-3)


def test_lost_part_of_an_image_is_seen(photos):
    autoencoder = Linear(kept=32)
    facts = diagnose.diagnose(GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), photos)
    images = open_images(photos).decode((8, 8), 1).tensor()
    assert facts["reconstruction_distance"] == pytest.approx(float(images.flatten(1)[:, 32:].norm(dim=1).mean()), rel=1e-4)
    assert facts["latent_correlation_target"] == pytest.approx(1, abs=1e-6)


def test_the_bound_by_the_source_from_its_terms(tmp_path):
    """The source's images are the target's, brighter by 100 of 255: their laws are that far apart in each of 64 pixels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (64, 8, 8), np.uint8)
    for name, shift in (("target", 0), ("source", 100)):
        save_arrays(tmp_path / name, pixels + np.uint8(shift))
    autoencoder = Linear(kept=32)
    facts = diagnose.diagnose(
        GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), tmp_path / "target", source_images=tmp_path / "source"
    )
    lost = (torch.from_numpy(pixels).float() + 100).flatten(1)[:, 32:] / 127.5 - 1
    assert facts["source_target_distance"] == pytest.approx(8 * 100 / 127.5, rel=0.01)
    assert facts["source_reconstruction_distance"] == pytest.approx(float(lost.norm(dim=1).mean()), rel=1e-4)
    # The decoder stretches by 2, the encoder by a half.
    wanted = 2 * facts["code_distance"] + (1 + 2 * 0.5) * facts["source_target_distance"] + float(lost.norm(dim=1).mean())
    assert facts["bound_by_source"] == pytest.approx(wanted, rel=1e-3)


def test_codes_of_odd_length_and_a_collapsed_encoder_are_warned_about(photos):
    autoencoder = Linear()
    far = gaussian_prior(autoencoder)
    with torch.no_grad():
        far.mind.shift += 100
    facts = diagnose.diagnose(GAN(far, autoencoder=autoencoder), photos)
    assert any("decoding may leave what it knows" in said for said in facts["warnings"])

    class Constant(Linear):
        def encode(self, x):
            return torch.ones(len(x), 64) + 0 * x.flatten(1)

    autoencoder = Constant()
    facts = diagnose.diagnose(GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), photos)
    assert any("the encoder has collapsed" in said for said in facts["warnings"])


def test_images_of_all_class_folders_are_measured(tmp_path):
    for name, value in (("grey", 128), ("white", 255)):
        save_arrays(tmp_path / name, np.full((16, 8, 8), value, np.uint8))
    autoencoder = Linear(kept=32)
    facts = diagnose.diagnose(GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), tmp_path, n=16)
    # Half of an image is lost: of a white one a distance of the root of 32, of a grey one nothing.
    assert 0.2 < facts["reconstruction_distance"] / 32**0.5 < 0.8


def test_transport_of_small_samples_is_that_of_the_best_matching():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 3, generator=rng), torch.randn(6, 3, generator=rng) + 1
    cost = torch.cdist(a, b)
    best = min(sum(float(cost[i, j]) for i, j in enumerate(order)) / 6 for order in itertools.permutations(range(6)))
    assert best - 1e-6 <= diagnose.transport(a, b) <= 1.05 * best
    shifted = torch.randn(100, 4, generator=rng)
    assert diagnose.transport(shifted, shifted + 3) == pytest.approx(6, rel=0.02)


def test_largest_stretch_is_the_norm_of_the_jacobian():
    matrix = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    found = diagnose.lipschitz(lambda x: x @ matrix.T, torch.zeros(20, 4), 0)
    assert found == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=0.02)


def test_a_random_autoencoder_is_warned_about(photos):
    facts = diagnose.diagnose(toy_gan(autoencoder=True), photos)
    assert any("not the game on images" in said for said in facts["warnings"])


def test_too_few_images(photos):
    with pytest.raises(DataError, match="at least 8"):
        diagnose.diagnose(toy_gan(autoencoder=True), open_images(photos).take(0, 3))


def test_what_an_autoencoder_does_not_give_back(photos, tmp_path):
    """Of 64 pixels it keeps half: what is lost is their share of the variance, and the mean image's own grey on top."""
    images = open_images(photos).decode((8, 8), 1).tensor().flatten(1)
    for kept in (64, 32, 1):
        autoencoder = Linear(kept=kept)
        facts = diagnose.diagnose(GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), photos)
        wanted = images[:, kept:].square().sum() / (images - images.mean(0)).square().sum()
        assert facts["reconstruction_unexplained"] == pytest.approx(float(wanted), rel=1e-4, abs=1e-9)
        assert any("worse than their mean image" in said for said in facts["warnings"]) == (wanted >= 1)
        gan, out = GAN(gaussian_prior(autoencoder), autoencoder=autoencoder), tmp_path / str(kept)
        run = regraft.adapt(photos, gan, method="mind2mind", steps=1, batch=4, out=out)
        for said in (run.notes, run.verdict.cautions):
            assert any("worse than their mean image" in sentence for sentence in said) == (wanted >= 1)
        assert ("worse than their mean image" in (out / "verdict.json").read_text()) == (wanted >= 1)
