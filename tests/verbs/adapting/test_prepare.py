"""Pieces of an adaptation that the verbs do not show by themselves."""

import dataclasses

import pytest
import torch

import regraft
from regraft.core.errors import DataError, OutOfMemory
from regraft.core.jobs import AdaptJob
from regraft.data.images import open_images
from regraft.verbs.adapting import prepare
from regraft.verbs.adapting.assemble import parts_that_fit
from support.toys import toy_gan


@pytest.fixture
def prepared(photos):
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


def test_batch_auto_is_resolved_in_the_settings(photos):
    prepared = prepare.prepare(AdaptJob(images=str(photos), method="transfergan", steps=5, batch="auto"), [toy_gan()])
    assert prepared.job.accumulate == 1
    assert any("fits in memory" in note for note in prepared.notes)
    assert prepare.prepare(prepared.job, [toy_gan()]).job == prepared.job


def test_the_split_is_the_seeds_and_keeps_the_order(photos):
    def split(seed):
        made = prepare.prepare(AdaptJob(images=str(photos), method="untouched", seed=seed), [toy_gan()])
        return made.train.names, made.held.names

    train, held = split(0)
    assert split(0) == (train, held)
    assert list(train) == sorted(train)
    assert set(train) | set(held) == {f"{k:03d}.png" for k in range(12)}
    assert len({split(seed)[1] for seed in range(8)}) > 1


@pytest.mark.parametrize("n", [3, 4, 5, 12])
def test_the_least_images_are_those_that_check_names(photos, n):
    listed = open_images(photos).take(0, n)
    enough = not any("cannot be adapted to" in said for said in regraft.check(listed)["advice"])
    assert enough == (n >= 4)
    job = AdaptJob(images=str(photos), method="transfergan", steps=1, batch=2)
    if not enough:
        with pytest.raises(DataError, match="at least 4 are needed"):
            prepare.prepare(job, [toy_gan()], listed)
        return
    prepared = prepare.prepare(job, [toy_gan()], listed)
    assert prepared.train.n >= 3
    assert any("no scores" in note for note in prepared.notes) == (prepared.held.n == 1) == (n == 4)


def test_four_images_make_a_run_with_a_verdict_and_a_page(photos, source_folder, tmp_path):
    for path in sorted(photos.iterdir())[4:]:
        path.unlink()
    run = regraft.adapt(photos, source_folder, method="transfergan", out=tmp_path / "run", steps=2, batch=2, evaluate_every=1)
    assert run.verdict is not None
    assert run.scores == ()
    assert (tmp_path / "run" / "report.html").is_file()
