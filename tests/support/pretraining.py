"""Settings of short pretrainings."""

import pytest

from regraft.core.errors import Interrupted
from regraft.core.gan import tensor_digest
from regraft.verbs.pretrain import pretrain
from support.running import stopping_inside

SMALL = {"dcgan": {"width": 4, "latent_dim": 6}, "autoencoder": {"code_dim": 6, "width": 4, "decoder_width": 4}}
SMALL["alae"] = {"width": 4, "latent_dim": 6, "mapping_layers": 2}


def settings(backbone, **more):
    """Settings of a pretraining of six steps."""
    return {"backbone": backbone, "size": 8, "channels": 1, "steps": 6, "batch": 4, "backbone_settings": SMALL[backbone]} | more


def same_when_resumed(photos, folder, at, **given):
    """A pretraining that is stopped in step ``at``, the first being 0, and resumed makes the source of an unbroken one."""
    whole = pretrain(photos, out=folder / "whole", **given)
    interrupted(photos, out=folder / "broken", at=at, **given)
    assert not (folder / "broken" / "source.json").exists()
    again = pretrain(out=folder / "broken", resume=True)
    for role in ("generator", "critic", "autoencoder"):
        a, b = getattr(whole, role), getattr(again, role)
        assert (a is None) == (b is None)
        if a is not None:
            assert tensor_digest(a) == tensor_digest(b), role


def interrupted(*given, at=3, **settings):
    """Pretrain, and stop in step ``at``, the first being 0."""
    with stopping_inside(at + 1), pytest.raises(Interrupted):
        pretrain(*given, **settings)
