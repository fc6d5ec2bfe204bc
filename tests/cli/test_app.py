"""The command line as a user meets it: help, options, errors without traceback, exit codes, JSON."""

import json
import subprocess
import sys

import pytest

from regraft.cli.app import run as cli
from support.commands import FAST, call


def test_help_answers_without_torch():
    code = "import sys; from regraft.cli.app import run; run(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("adapt", "sample", "evaluate", "convert", "inspect", "demo"):
        assert verb in done.stdout


def test_every_verb_has_help(capsys):
    for verb in ("adapt", "sample", "evaluate", "convert", "inspect", "demo"):
        code, out, _ = call(capsys, verb, "--help")
        assert code == 0
        assert "Usage" in out


def test_version(capsys):
    import regraft

    assert call(capsys, "--version")[1].strip() == f"regraft {regraft.__version__}"


def test_adapt_prints_numbers_and_the_next_step(finished):
    folder, out, err = finished
    assert "frechet[random_conv]" in out
    assert "lower is better" in out
    assert f"regraft sample {folder}" in out
    assert "step 4/4" in err
    assert "\x1b" not in out + err, "plain lines where there is no terminal"


def test_adapt_as_json(capsys, photos, source_folder, tmp_path):
    arguments = ["adapt", photos, "-s", source_folder, "--method", "transfergan", "--out", tmp_path / "r", "--json", *FAST]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    result = json.loads(out)
    assert result["folder"] == str(tmp_path / "r")
    assert {s["name"] for s in result["scores"]} >= {"frechet[random_conv]"}


def test_dry_run_writes_nothing(capsys, photos, source_folder, tmp_path):
    arguments = ["adapt", photos, "-s", source_folder, "--out", tmp_path / "r", "--dry-run", "--json", "--steps", 8]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    plan = json.loads(out)
    assert plan["method"] == "freezed"
    assert plan["phases"][0]["steps"] == 8
    assert 0 < plan["trained_values"] < plan["all_values"]
    parts = plan["trained_by_module"]
    assert set(parts) == {"generator", "critic"}
    assert sum(parts.values()) == plan["trained_values"]
    assert any("method freezed" in note for note in plan["notes"])
    assert not (tmp_path / "r").exists()


def test_set_and_config(capsys, photos, source_folder, tmp_path):
    (tmp_path / "job.yaml").write_text(
        f"images: {photos}\nsources: [{source_folder}]\nmethod: freezed\nsettings: {{freeze: 0}}\nsteps: 3\nseed: 4\n"
    )
    arguments = ["adapt", "--config", tmp_path / "job.yaml", "--out", tmp_path / "r", "--set", "recipe.batch=3"]
    arguments += ["--set", "objective.penalty_weight=2", "--seed", 5, "--dry-run", "--json"]
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    plan = json.loads(out)
    assert plan["settings"]["freeze"] == 0
    assert plan["batch"] == 3
    assert plan["objective"]["penalty_weight"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["adapt", "missing-folder", "-s", "SOURCE"], 2, "there is no such file or folder of images"),
        (["adapt", "PHOTOS", "-s", "missing.pkl"], 2, "there is no such file or folder, and no bundled source"),
        (["adapt", "PHOTOS", "-s", "SOURCE", "--method", "magic"], 2, "no method called magic"),
        (["adapt", "PHOTOS", "-s", "SOURCE", "--set", "steps"], 2, "write key=value"),
        (["adapt", "PHOTOS", "-s", "SOURCE", "--set", "stesp=1"], 2, "did you mean steps"),
        (["adapt", "PHOTOS", "-s", "SOURCE", "--batch", "many"], 2, "write a number, or auto"),
        (["adapt", "PHOTOS", "-s", "SOURCE", "--fit", "squash"], 2, "squash"),
        (["adapt", "--nonsense"], 2, "--nonsense"),
        (["adapt", "--resume", "nowhere"], 2, "config.yaml"),
        (["adapt", "PHOTOS", "--resume", "nowhere"], 2, "leave images, --source"),
        (["adapt", "--resume", "nowhere", "--more", "5"], 2, "--more STEPS and --out NEW, together"),
        (["adapt", "--resume", "nowhere", "--dry-run"], 2, "--dry-run out"),
        (["pretrain", "--resume", "nowhere", "--size", "8"], 2, "--channels and --set out"),
        (["pretrain", "--resume", "nowhere", "--more", "8"], 2, "--more STEPS and --out NEW, together"),
        (["adapt", "--resume", "nowhere", "--out", "x", "--seed", "5"], 2, "--more STEPS and --out NEW, together"),
        (["sample", "SOURCE"], 2, "--out"),
        (["nonsense"], 2, "nonsense"),
        (["evaluate", "PHOTOS", "PHOTOS", "--metrics", "fid"], 2, "no metric called fid"),
        (["inspect", "PHOTOS/000.png"], 2, "a PNG picture"),
    ],
)
def test_mistakes_end_in_one_line(capsys, monkeypatch, photos, source_folder, tmp_path, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    named = [a.replace("PHOTOS", str(photos)).replace("SOURCE", str(source_folder)) for a in arguments]
    got, out, err = call(capsys, *named)
    assert got == code, err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["adapt", "adapt --dry-run", "pretrain"])
@pytest.mark.parametrize(("name", "message"), [("file", "is a file"), ("file/run", "is a file"), ("full", "is not empty")])
def test_out_is_checked_before_images_and_sources(capsys, tmp_path, verb, name, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    rest = ["--size", 8] if verb == "pretrain" else ["-s", "no-such-source"]
    code, _, err = call(capsys, *verb.split(), "no-such-images", "--out", tmp_path / name, *rest)
    assert code == 2
    assert message in err
    assert "choose another --out" in err


def test_exit_codes_are_explained(capsys):
    assert "2 what was given is wrong" in " ".join(call(capsys, "--help")[1].split())


def test_an_unfinished_run_says_how_to_go_on(capsys, finished, photos, tmp_path):
    folder = finished[0]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()
    for verb in (["sample", folder, "--out", tmp_path / "s"], ["evaluate", folder, photos], ["report", folder]):
        code, _, err = call(capsys, *verb)
        assert code == 2
        assert f"not finished; go on with: regraft adapt --resume {folder}" in err
    code, _, err = call(capsys, "adapt", "--resume", folder)
    assert code == 0, err
    assert "nothing is trained again" not in err
    code, _, err = call(capsys, "adapt", "--resume", folder)
    assert code == 0, err
    assert f"nothing is trained again; its results are in {folder}" in err
    code, _, err = call(capsys, "report", folder, "--out", tmp_path / "none" / "page.html")
    assert code == 2
    assert "there is no folder" in err
    assert not (tmp_path / "none").exists()


def test_pictures_of_other_kinds_are_no_folders(capsys, source_folder, tmp_path):
    code, _, err = call(capsys, "sample", source_folder, "--out", tmp_path / "x.jpg")
    assert code == 2
    assert "a grid is written as .png" in err
    assert not (tmp_path / "x.jpg").exists()


def test_a_set_against_itself_is_said(capsys, photos):
    code, _, err = call(capsys, "evaluate", photos, photos, "--metrics", "mean_variance")
    assert code == 0, err
    assert "the same set" in err


def test_the_card_names_a_licence_of_the_hub_and_its_sources(capsys, photos, tmp_path):
    run = ["adapt", photos, "-s", "digits-low", "--method", "transfergan", "--out", tmp_path / "r"]
    code, _, err = call(capsys, *run, "--steps", 1, "--batch", 4)
    assert code == 0, err
    assert "kmmd to targets [critic+random_conv] " in err
    assert "frechet to targets [critic] " in err
    card = (tmp_path / "r" / "README.md").read_text()
    assert "\nlicense: apache-2.0\n" in card
    assert "license_name" not in card


def test_debug_shows_where(photos, source_folder):
    from regraft.core.errors import ConfigError

    with pytest.raises(ConfigError):
        cli(["adapt", str(photos), "-s", str(source_folder), "--method", "magic", "--debug"])


def test_sample_inspect_convert_evaluate(capsys, finished, photos, tmp_path):
    folder = finished[0]
    code, out, _ = call(capsys, "sample", folder, "--n", 3, "--out", tmp_path / "samples", "--psi", 0.7, "--grid")
    assert code == 0
    assert len(list((tmp_path / "samples").iterdir())) == 4
    code, out, _ = call(capsys, "sample", folder, "--out", tmp_path / "walk.gif", "--interpolate", "--keys", 2, "--frames", 2)
    assert code == 0
    code, out, _ = call(capsys, "inspect", folder, "--json", "--grid", tmp_path / "grid.png")
    assert code == 0
    assert json.loads(out)["format"] == "adapter"
    assert (tmp_path / "grid.png").is_file()
    code, out, _ = call(capsys, "convert", folder, tmp_path / "whole")
    assert code == 0
    code, out, _ = call(capsys, "evaluate", tmp_path / "whole", photos, "--n", 10, "--metrics", "frechet, kmmd", "--json")
    assert code == 0
    assert [s["name"] for s in json.loads(out)] == ["frechet[random_conv]", "kmmd[random_conv]", "kmmd_unbiased[random_conv]"]
    code, out, _ = call(capsys, "evaluate", tmp_path / "samples", photos, "--metrics", "mean_variance")
    assert code == 0
    assert "mv_ratio_pixel" in out


def test_resume_by_name(capsys, finished):
    folder = finished[0]
    code, out, err = call(capsys, "adapt", "--resume", folder)
    assert code == 0, err
    assert "frechet" in out


def test_more_steps_in_a_new_folder(capsys, finished, tmp_path):
    code, out, err = call(capsys, "adapt", "--resume", finished[0], "--more", 2, "--out", tmp_path / "more", "--json")
    assert code == 0, err
    assert json.loads(out)["folder"] == str(tmp_path / "more")
    log = [json.loads(line) for line in (tmp_path / "more" / "metrics.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == before[-1]["step"] + 2


def test_the_table_shows_interval_and_what_real_images_score(photos_by_class, tmp_path, capsys):
    assert cli(["evaluate", str(photos_by_class), str(photos_by_class), "--metrics", "kid,precision_recall"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "95 % interval" in lines[0]
    assert "real images" in lines[0]
    assert " to " in lines[1]
    assert "(n 12)" in lines[1]
