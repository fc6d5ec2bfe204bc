"""Pieces of an adaptation that the verbs do not show by themselves."""

import pytest

import regraft
from regraft.core.errors import DataError
from regraft.core.jobs import AdaptJob
from regraft.data.opening import open_images
from regraft.verbs.adapting import prepare
from support.toys import toy_gan


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
