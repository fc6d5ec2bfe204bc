"""The GPU check runs from end to end on a CPU at tiny sizes, keeps what it measured, and survives a section that breaks."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import regraft
from support.toys import toy_gan

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = ROOT / "tools" / "gpu_check.py"
spec = importlib.util.spec_from_file_location("gpu_check", PATH)
gpu_check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu_check)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder of one reference checkpoint, recorded from itself."""
    gan = toy_gan(autoencoder=True)
    folder = tmp_path_factory.mktemp("reference") / "toy"
    regraft.convert(gan, folder)
    z = gan.generator.latent.at(0, range(4))
    with torch.no_grad():
        images = gan.generator(z)
        np.savez(folder / "io.npz", z=z.numpy(), img=images.numpy(), d_fake=gan.critic(images).numpy())
    (folder / "about.json").write_text(json.dumps({"family": "toy"}))
    return folder.parent


def check(out, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PATH), "--device", "cpu", "--tiny", "--out", str(out), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done, json.loads((out / "gpu.json").read_text())["sections"], (out / "gpu.md").read_text()


@pytest.mark.slow
def test_every_section_runs_and_is_in_the_table(reference, tmp_path):
    done, sections, page = check(tmp_path, "--reference", reference, "--limit", 240)
    assert done.returncode == 0, done.stderr
    assert list(sections) == list(gpu_check.SECTIONS)
    results = {name: [row["result"] for row in rows] for name, rows in sections.items()}
    assert results.pop("peer") == ["not run: no checkout of the authors' code (--peer FOLDER)"]
    for name, found in results.items():
        assert found, name
        assert set(found) == {"ok"}, (name, sections[name])
    assert all(title in page for title in gpu_check.TITLES.values())
    families = {row["what"]: row for row in sections["families"]}
    assert families["toy: outputs"]["image_error"] == 0
    assert families["toy: transfergan, bfloat16"]["reload_error"] == 0
    exact = [row for row in sections["resume"] if "deterministic" in row["what"]]
    assert exact
    assert all(row["resumed_difference"] == 0 for row in exact)
    speed = [row for row in sections["speed"] if "ms_step" in row]
    assert speed
    assert all(row["ms_step"] > 0 and row["images_s"] > 0 for row in speed)
    assert len(sections["waiting"][0]["operators"]) == 10
    assert (tmp_path / "gpu" / "source.png").is_file()
    assert regraft.load(tmp_path / "gpu" / "stylegan2-64").generator.size == (16, 16)


def test_a_broken_section_stops_no_other(reference, tmp_path):
    """One reference with recorded outputs that are wrong, and one that cannot be read."""
    for name in ("wrong", "unreadable"):
        folder = tmp_path / "reference" / name
        regraft.convert(toy_gan(), folder)
        np.savez(folder / "io.npz", z=np.zeros((2, 6), np.float32), img=np.ones((2, 1, 8, 8), np.float32))
        (folder / "about.json").write_text("{}")
    (tmp_path / "reference" / "unreadable" / "model.safetensors").write_bytes(b"no tensors")
    arguments = ("--reference", tmp_path / "reference", "--only", "families", "waiting", "--limit", 120)
    done, sections, _ = check(tmp_path / "out", *arguments)
    assert done.returncode == 1
    rows = {row["what"]: row["result"] for row in sections["families"]}
    assert rows["wrong: outputs"].startswith("**off**")
    assert rows["unreadable: outputs"] == "not readable"
    assert {row["result"] for row in sections["waiting"]} == {"ok"}


def test_a_section_ends_with_its_time(tmp_path, monkeypatch):
    """The process of a section that hangs is ended, and its rows so far stay."""
    monkeypatch.setattr(gpu_check, "GRACE", 0.0)
    given = gpu_check.options().parse_args(["--device", "cpu", "--tiny"])
    (tmp_path / "speed.jsonl").write_text("")
    rows = gpu_check.supervise("speed", 0.5, tmp_path, given, lambda rows: None)
    assert rows[-1]["result"] == "**stopped**"
    page = gpu_check.page({"device": "cpu", "torch": "2", "cuda": None, "command": "x", "commit": None}, {"speed": rows})
    assert "**stopped**: it did not end within 0 s" in page


def test_unknown_sections_are_named():
    with pytest.raises(SystemExit, match="typing: no such section; there are: families"):
        gpu_check.main(["--only", "typing", "--device", "cpu"])
