"""Pictures of a report page."""

import numpy as np
from PIL import Image

from regraft.core.gan import GAN
from regraft.verbs.report.images import embed, walk
from regraft.verbs.report.subject import read


def test_the_walk_stays_in_one_source(mixed, monkeypatch):
    """A source's number is no place on the way from one latent to the next."""
    subject, walked = read(mixed), []
    drawn = subject.gan.generator.latent.at(subject.job.seed, range(3))[:, 0].tolist()
    assert len(set(drawn)) == 2, "this seed's first latents are of both sources"
    at = GAN.at
    monkeypatch.setattr(GAN, "at", lambda gan, z, *more, **named: walked.append(z) or at(gan, z, *more, **named))
    assert len(walk(subject, 96)) == 16
    assert set(walked[0][:, 0].tolist()) == {float(np.argmax(subject.record["findings"]["p"]))}
    assert len(walked[0][:, 1:].unique(dim=0)) == 16


def test_large_pictures_are_made_small():
    picture = Image.frombytes("RGB", (2000, 1000), np.random.default_rng(0).bytes(6_000_000))
    made = embed(picture, 512)
    assert (made["width"], made["height"]) == (512, 256)
    assert len(made["uri"]) < 200_000
    assert picture.size == (2000, 1000)
