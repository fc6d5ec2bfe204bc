"""Generators that show several sources by turns: their latents, sizes and samples."""

import math

import pytest
import torch

from regraft.composites.mixed import GREY, MixedLatent, match_size
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.randomness import row_generators
from support.mining import attach_to_several, families_of_four, two_families
from support.toys import rng


class TestLatent:
    def latent(self, p=(0.2, 0.8)):
        return MixedLatent(6, parts=(Latent(3), Latent(5, "uniform")), probabilities=p)

    def test_rows_are_functions_of_seed_and_index(self):
        latent = self.latent()
        whole = latent.at(3, range(50))
        assert torch.equal(whole[17:23], latent.at(3, range(17, 23)))
        assert torch.equal(whole[40:41], latent.at(3, [40]))

    def test_source_frequencies_and_own_latents(self):
        z = self.latent().sample(20_000, rng())
        first = z[:, 0] == 0
        assert first.float().mean().item() == pytest.approx(0.2, abs=4 * 0.4 / math.sqrt(20_000))
        assert (z[first, 4:] == 0).all()
        assert z[~first, 1:].abs().max() <= 1
        assert z[first, 1:4].std().item() == pytest.approx(1, abs=0.05)

    def test_a_source_keeps_its_images_when_the_probabilities_change(self):
        a, b = self.latent((0.5, 0.5)).at(0, range(40)), self.latent((0.9, 0.1)).at(0, range(40))
        same = a[:, 0] == b[:, 0]
        assert 0 < same.sum() < 40
        assert torch.equal(a[same], b[same])

    def test_a_source_of_probability_zero_is_never_drawn(self):
        assert (self.latent((0.0, 1.0)).sample(2000, rng())[:, 0] == 1).all()
        assert (self.latent((1.0, 0.0)).sample(2000, rng())[:, 0] == 0).all()

    def test_row_generators_and_one_source(self):
        latent = self.latent().only(0)
        z = latent.sample(5, row_generators(0, "latent", range(5)))
        assert (z[:, 0] == 0).all()


class TestImages:
    def test_grey_and_size(self):
        colour = torch.rand(2, 3, 8, 8, generator=rng())
        grey = match_size(colour, (8, 8), 1)
        assert torch.allclose(grey[:, 0], sum(weight * colour[:, k] for k, weight in enumerate(GREY)))
        assert torch.equal(match_size(grey, (8, 8), 3), grey.expand(-1, 3, -1, -1))
        # Halving with a triangle filter of support 2 on a constant image keeps it.
        assert torch.allclose(match_size(torch.full((1, 1, 8, 8), 0.3), (4, 6), 1), torch.full((1, 1, 4, 6), 0.3))
        assert match_size(colour, (8, 8), 3) is colour

    def test_resize_is_differentiable(self):
        x = torch.rand(1, 3, 8, 8, generator=rng()).requires_grad_()
        match_size(x, (4, 4), 1).sum().backward()
        assert (x.grad != 0).all()

    def test_samples_do_not_depend_on_the_batch(self):
        families = families_of_four()
        generator = attach_to_several(families).generator.eval()
        gan = GAN(generator)
        whole = gan.sample(12, 5, batch=12)
        for batch in (1, 5):
            assert (gan.sample(12, 5, batch=batch) - whole).abs().max() < 1e-4

    def test_forced_source(self):
        two = two_families()
        generator = attach_to_several(two).generator.eval()
        for source in (0, 1):
            z = generator.only(source).latent.at(0, range(6))
            assert (z[:, 0] == source).all()
            images = generator.part_images(source, z[:, 1 : 1 + generator.mined[source].latent.dim])
            assert torch.equal(generator.only(source)(z), images)
        assert generator.p.tolist() == [0.5, 0.5]
