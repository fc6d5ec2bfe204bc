"""Commands that make and look into sources: pretrain, encode, diagnose."""

import json

from support.commands import call


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
    assert "'crop', 'pad', 'stretch'" in err
