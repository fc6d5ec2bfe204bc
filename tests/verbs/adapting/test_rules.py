"""Runs that began with earlier rules for images go on with these; the verdict of a run with duplicates says so."""

import json
import shutil

import pytest

import regraft
from regraft.core.jobs import AdaptJob
from regraft.data import rules
from regraft.runs.folder import open_run, rules_of
from regraft.runs.training_images import training_images
from regraft.verbs.adapting.prepare import prepare
from support.pictures import save_images
from support.running import FAST
from support.toys import strokes, toy_gan

SETTINGS = FAST | {"method": "freezed"}


@pytest.fixture
def doubled(tmp_path):
    """Fifteen pictures, each of them twice."""
    folder = tmp_path / "doubled"
    save_images(folder, strokes(15, 0, 8))
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / f"copy-{path.name}")
    return folder


@pytest.mark.parametrize("version", [rules.FIRST, rules.NEWEST])
def test_a_run_keeps_the_rules_that_it_began_with(doubled, source_folder, tmp_path, version):
    out = tmp_path / "run"
    job = AdaptJob(images=str(doubled), sources=(str(source_folder),), out=str(out), held_out=4, **SETTINGS)
    prepared = prepare(job, version=version)
    open_run(out, prepared.job, prepared.identity, resume=False)
    assert rules_of(out) == version
    run = regraft.adapt(out=out, resume=True)
    data = json.loads((out / "adapter_config.json").read_text())["data"]
    assert data["digest"] == prepared.train.digest
    assert data.get("rules", rules.FIRST) == version
    assert len(training_images(out)) == prepared.train.n
    assert any("stay together" in note for note in run.notes) == (version == rules.NEWEST)


def test_no_picture_is_on_both_sides_and_the_verdict_says_so(doubled):
    job = AdaptJob(images=str(doubled), held_out=4, **SETTINGS)
    new, old = (prepare(job, [toy_gan()], version=version) for version in (rules.NEWEST, rules.FIRST))
    digests = [{p.numpy().tobytes() for p in part.pixels} for part in (new.train, new.held)]
    assert not digests[0] & digests[1]
    assert new.held.n == 4
    assert {p.numpy().tobytes() for p in old.train.pixels} & {p.numpy().tobytes() for p in old.held.pixels}


def test_the_verdict_has_a_caution(doubled, source_folder, tmp_path):
    run = regraft.adapt(doubled, source_folder, out=tmp_path / "run", **SETTINGS)
    assert any("of the 30 target images show what another one shows" in caution for caution in run.verdict.cautions)
