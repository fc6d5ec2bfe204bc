"""Putting a run together: how many parts a batch is computed in."""

import dataclasses

import pytest
import torch

from regraft.core.errors import OutOfMemory
from regraft.core.jobs import AdaptJob
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import parts_that_fit
from support.toys import toy_gan


@pytest.fixture
def prepared(photos):
    """An adaptation to photos that is prepared and not yet put together."""
    return prepare.prepare(AdaptJob(images=str(photos), method="transfergan", steps=5, batch=8), [toy_gan()])


def limited(prepared, most):
    """The same, on a device that has memory for ``most`` images at a time."""

    class Limited(type(prepared)):
        def attach(self):
            whole = super().attach()

            def narrow(update):
                def loss(batch, rng):
                    if len(batch) > most:
                        raise torch.OutOfMemoryError("CUDA out of memory")
                    return update.loss(batch, rng)

                return dataclasses.replace(update, loss=loss)

            phases = [dataclasses.replace(p, updates=[narrow(u) for u in p.updates]) for p in whole.phases]
            return dataclasses.replace(whole, phases=phases)

    return Limited(**{f.name: getattr(prepared, f.name) for f in dataclasses.fields(prepared)})


@pytest.mark.parametrize(("most", "parts"), [(8, 1), (4, 2), (3, 4), (1, 8)])
def test_batch_auto_finds_how_many_parts_fit(prepared, most, parts):
    assert parts_that_fit(limited(prepared, most)) == parts


def test_batch_auto_gives_up_where_one_image_does_not_fit(prepared):
    with pytest.raises(OutOfMemory, match="--batch"):
        parts_that_fit(limited(prepared, 0))
