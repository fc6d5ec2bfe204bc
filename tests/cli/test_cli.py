"""The command line as a user meets it: help, options, errors without traceback, exit codes, JSON."""

import json
import subprocess
import sys

import pytest

from regraft.cli.app import run as cli


def call(capsys, *arguments):
    code = cli([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


FAST = ["--steps", 4, "--batch", 4, "--evaluate-every", 2]


@pytest.fixture
def made(capsys, photos, source_folder, tmp_path):
    code, out, err = call(capsys, "adapt", photos, "-s", source_folder, "--method", "freezed", "--out", tmp_path / "run", *FAST)
    assert code == 0, err
    return tmp_path / "run", out, err


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


def test_adapt_prints_numbers_and_the_next_step(made):
    folder, out, err = made
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


def test_an_unfinished_run_says_how_to_go_on(capsys, made, photos, tmp_path):
    folder = made[0]
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


def test_facts_are_shown_readably(capsys, source_folder, photos, tmp_path):
    code, out, err = call(capsys, "inspect", source_folder)
    assert code == 0, err
    assert "noncommercial: unknown" in out
    assert max(len(line) for line in out.splitlines() if line.startswith(("objective", "recipe", "  "))) <= 110
    (tmp_path / "two").mkdir()
    for name in ("000.png", "001.png"):
        (tmp_path / "two" / name).write_bytes((photos / name).read_bytes())
    code, out, err = call(capsys, "check", tmp_path / "two")
    assert code == 0, err
    assert "Nothing can be said of near-duplicates and images unlike all others" in out
    assert "about 32 pixels" in out


def test_debug_shows_where(photos, source_folder):
    from regraft.core.errors import ConfigError

    with pytest.raises(ConfigError):
        cli(["adapt", str(photos), "-s", str(source_folder), "--method", "magic", "--debug"])


def test_sample_inspect_convert_evaluate(capsys, made, photos, tmp_path):
    folder = made[0]
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


def test_resume_by_name(capsys, made):
    folder = made[0]
    code, out, err = call(capsys, "adapt", "--resume", folder)
    assert code == 0, err
    assert "frechet" in out


def test_more_steps_in_a_new_folder(capsys, made, tmp_path):
    code, out, err = call(capsys, "adapt", "--resume", made[0], "--more", 2, "--out", tmp_path / "more", "--json")
    assert code == 0, err
    assert json.loads(out)["folder"] == str(tmp_path / "more")
    log = [json.loads(line) for line in (tmp_path / "more" / "metrics.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (made[0] / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == before[-1]["step"] + 2


def test_encode_diagnose_and_pretrain(capsys, photos, tmp_path):
    small = ["--set", "backbone_settings.code_dim=6", "--set", "backbone_settings.width=4"]
    code, out, err = call(
        capsys,
        "pretrain",
        photos,
        "--backbone",
        "autoencoder",
        "--size",
        8,
        "--channels",
        1,
        "--out",
        tmp_path / "ae",
        "--steps",
        3,
        "--batch",
        4,
        *small,
    )
    assert code == 0, err
    assert f"regraft inspect {tmp_path / 'ae'}" in out
    for expected in ((12, 0), (0, 12)):
        code, out, err = call(capsys, "encode", tmp_path / "ae", photos, "--out", tmp_path / "c.safetensors", "--json")
        assert code == 0, err
        facts = json.loads(out)
        assert (facts["encoded"], facts["reused"]) == expected
    run = ["adapt", tmp_path / "c.safetensors", "-s", tmp_path / "ae", "--out", tmp_path / "run", "--steps", 2, "--batch", 4]
    code, out, err = call(capsys, *run)
    assert code == 0, err
    assert call(capsys, "sample", tmp_path / "run", "--out", tmp_path / "grid.png", "--n", 4, "--psi", 0.5)[0] == 0
    code, out, err = call(capsys, "diagnose", tmp_path / "run", photos, "-s", tmp_path / "ae", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 12
    out = call(capsys, "diagnose", tmp_path / "run", photos, "-s", tmp_path / "ae")[1]
    assert "target images decoded again, mean squared error" in out
    assert "_" not in out.replace("P_T", "").replace("E_T", "").split("warning")[0]
    plan = call(capsys, "adapt", photos, "-s", tmp_path / "ae", "--dry-run", "--out", tmp_path / "auto", "--json")[1]
    assert json.loads(plan)["method"] == "mind2mind"
    code, _, err = call(capsys, "encode", tmp_path / "ae", photos, "--out", tmp_path / "d.safetensors", "--fit", "squeeze")
    assert code == 2
    assert "crop, pad, stretch" in err
