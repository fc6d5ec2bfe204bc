"""The conformance tool can tell right from wrong: a source against itself, and against itself with one thing changed."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
import torch

import regraft
from support.toys import toy_gan

PATH = pathlib.Path(__file__).resolve().parents[2] / "tools" / "conformance.py"
spec = importlib.util.spec_from_file_location("conformance", PATH)
conformance = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conformance)


@pytest.fixture
def reference(tmp_path):
    """A reference folder of a toy, recorded from itself."""
    gan = toy_gan()
    folder = tmp_path / "toy"
    regraft.convert(gan, folder)
    z, real = gan.generator.latent.at(0, range(4)), torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        images = gan.generator(z)
        arrays = {
            "z": z[:, :, None, None],
            "img": images,
            "real": real,
            "d_real": gan.critic(real)[:, None],
            "d_real_n3": gan.critic(real[:3]),
            "d_fake": gan.critic(images),
            "img_psi05": gan.generator(z, psi=0.5),
            "img_netG": images,
        }
    (folder / "about.json").write_text(json.dumps({"family": "toy"}))
    return folder, {k: v.numpy() for k, v in arrays.items()}


def judged(folder, arrays):
    np.savez(folder / "io.npz", **arrays)
    summary, rows = conformance.judged(folder)
    return summary, {row.setting: row.verdict for row in rows}


def test_a_source_agrees_with_itself(reference):
    summary, verdicts = judged(*reference)
    assert summary["verdict"] == "ok"
    assert verdicts.pop("img_netG").startswith("not compared")
    assert verdicts == dict.fromkeys(("img", "d_real", "d_real_n3", "d_fake", "img_psi05"), "ok")


@pytest.mark.parametrize(
    ("name", "change", "off"),
    [
        ("img_psi05", lambda x: x + 2e-4, {"img_psi05"}),
        ("d_real", lambda x: x * 1.002, {"d_real"}),
        ("d_real", lambda x: x * np.nan, {"d_real"}),
        ("img", lambda x: x[:, :, :4], {"img", "d_fake"}),
        ("z", lambda x: x[::-1].copy(), {"img", "img_psi05"}),
        ("real", lambda x: x + 0.01, {"d_real", "d_real_n3"}),
    ],
)
def test_a_difference_is_seen_where_it_is(reference, name, change, off):
    folder, arrays = reference
    if name == "img":  # a wrong shape; scores of the recorded images are not asked for
        arrays.pop("d_fake")
        off = {"img"}
    summary, verdicts = judged(folder, arrays | {name: change(arrays[name])})
    assert summary["verdict"] == "**off**"
    assert {k for k, v in verdicts.items() if v == "**off**"} == off


def test_what_cannot_be_read_is_said(reference, capsys, monkeypatch):
    folder, arrays = reference
    (folder / "source.json").unlink()
    (folder / "model.safetensors").write_bytes(b"nothing")
    summary, verdicts = judged(folder, arrays)
    assert summary["verdict"] == "unreadable"
    assert "model.safetensors" in summary["note"]
    assert not verdicts
    out = folder.parent / "page.md"
    monkeypatch.setattr("sys.argv", ["conformance", "--reference", str(folder.parent), "--out", str(out)])
    assert conformance.main() == 0
    assert "| toy | toy |  |  |  | unreadable |" in out.read_text()
