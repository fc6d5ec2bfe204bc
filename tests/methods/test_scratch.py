"""Training new networks from images alone."""

import pytest

import regraft
from regraft.core.errors import ConfigError
from support.pretraining import SMALL


def test_the_game_of_a_new_gan_is_kept(photos):
    run = regraft.adapt(
        photos,
        method="scratch",
        size=8,
        channels=1,
        backbone_settings=SMALL["dcgan"],
        objective="hinge",
        steps=2,
        batch=4,
        write=False,
    )
    assert run.gan.objective.loss == "hinge"


@pytest.mark.parametrize("backbone", ["dcgan", "stylegan2", "stylegan3"])
def test_a_new_gan_needs_a_size(backbone, photos):
    with pytest.raises(ConfigError, match="needs size="):
        regraft.adapt(photos, method="scratch", backbone=backbone, write=False)
