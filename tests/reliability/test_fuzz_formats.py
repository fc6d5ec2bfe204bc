"""Damaged and hostile files: nothing but regraft's own errors, no code of a file, no memory or time beyond the file's size."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch

import regraft
from regraft.core import discover
from regraft.core.errors import RegraftError
from support.fuzz_files import Canary, damaged_source, hostile_files, seeded
from support.fuzz_sources import WRITERS, templates
from support.once import made_once
from support.plugins import find_plugin

CASES = 285  # 15 of each source
# Odd, and large for their size; if they load, then in bounds.
MAY_LOAD = {"tower_G.pth", "pair_G.pth", "pair_D.pth"}
SECONDS = 10.0
SPARE_MB = 512
ROOT = pathlib.Path(__file__).resolve().parents[2]


def load_bounded(files):
    """What came of each file, loaded in a process that has little memory to spare."""
    script = ROOT / "tests" / "reliability" / "load_bounded.py"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]), OMP_NUM_THREADS="1")
    command = [sys.executable, str(script), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(map(json.loads, done.stdout.splitlines()))


def all_writers():
    return [(form, writer) for form, writers in sorted(WRITERS.items()) for writer in writers]


def test_every_format_is_fuzzed():
    assert set(WRITERS) == set(discover.names("formats"))


@pytest.mark.parametrize(("form", "writer"), all_writers(), ids=lambda v: getattr(v, "__name__", v))
def test_undamaged_files_load(form, writer, tmp_path):
    gan = regraft.load(writer(tmp_path))
    assert gan.provenance.format == find_plugin("formats", form).name
    assert gan.sample(2).std() > 0


def complaint(path):
    """What loading a file complains of; None if it loads.  Any other error than regraft's own comes out."""
    try:
        assert regraft.load(path).generator.size[0] > 0
    except RegraftError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """One undamaged source of every kind."""
    return templates(tmp_path_factory.mktemp("valid"))


def test_a_seed_means_the_same_bytes_in_every_process(tmp_path):
    """Else a failure could not be looked at again; hash seeds and addresses differ between the two."""
    code = (
        "import sys, hashlib, pathlib; from support.fuzz_files import *; from support.fuzz_sources import *; "
        "base = pathlib.Path(sys.argv[1]); "
        "junk = [bytearray(int(sys.argv[2])) for _ in range(50)]; "
        "valid = templates(base / 'valid'); digest = hashlib.sha256()\n"
        "for seed in range(60):\n"
        "    damaged_source(valid[seed % len(valid)], seeded(seed), base / str(seed))\n"
        "    for path in sorted(p for p in (base / str(seed)).rglob('*') if p.is_file()): digest.update(path.read_bytes())\n"
        "print(digest.hexdigest())"
    )
    digests = []
    for k in range(2):
        environment = dict(
            os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]), PYTHONHASHSEED=str(k)
        )
        command = [sys.executable, "-c", code, str(tmp_path / str(k)), str(1000 + 77_777 * k)]
        digests.append(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)
    assert digests[0] == digests[1] != ""


@pytest.mark.parametrize("part", range(10))
def test_damaged_files_end_in_clear_errors(valid, tmp_path, part):
    for seed in range(part, CASES, 10):
        folder = tmp_path / f"case{seed}"
        opened, how = damaged_source(valid[seed % len(valid)], seeded(seed), folder)
        message = complaint(opened)
        assert message is None or folder.name in message, f"seed {seed} ({how}): which file? {message}"
        assert message is None or len(message) < 3000, f"seed {seed} ({how}): {message[:500]}"
        shutil.rmtree(folder)
    assert Canary.sung == 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """What came of each hostile file by its name, and the names of all of them."""

    def make(folder):
        files = hostile_files(folder)
        verdicts = {row["file"]: row for row in load_bounded(files)}
        (folder / "verdicts.json").write_text(json.dumps([verdicts, sorted(f.name for f in files)]))

    verdicts, names = json.loads((made_once(tmp_path_factory, "hostile", make) / "verdicts.json").read_text())
    return verdicts, set(names)


def test_hostile_files_are_refused_in_bounds(hostile):
    verdicts, names = hostile
    assert set(verdicts) == names
    for name, row in verdicts.items():
        assert "killed" not in (row["error"] or ""), f"{name}: {row}"
        if name not in MAY_LOAD:
            assert row["error"] in ("SourceError", "ConfigError"), f"{name}: {row}"
            assert name in row["message"], f"{name}: {row['message']}"
        assert row["seconds"] < SECONDS, f"{name}: {row}"
        assert row["grown_mb"] < SPARE_MB + 2 * row["file_mb"], f"{name}: {row}"
        assert row["sung"] == 0, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evil-zip.pth", "more than tensors and plain data"),
        ("evil-legacy.pth", "more than tensors and plain data"),
        ("canary.pth", "GLOBAL fuzz_files.sing"),
        ("bytearray.pth", "GLOBAL builtins.bytearray"),
        ("made-storage.pth", "REDUCE of torch.FloatStorage"),
        ("beyond-record.pth", "storage 0 needs"),
        ("beyond-storage.pth", "goes beyond its storage"),
        ("offset.pth", "goes beyond its storage"),
        ("expanded.pth", "goes beyond its storage"),
        ("negative-stride.pth", "strides"),
        ("hash-bomb.pth", "a tuple as the key"),
        ("bomb.pth", "expand to far more than the file"),
        ("overlap.pth", "overlaps another"),
        ("twice.pth", "two members are called"),
        ("legacy-storage.pth", "goes beyond the end"),
        ("header.safetensors", "a header of"),
        ("laughs.yaml", "no source that regraft knows"),
    ],
)
def test_hostile_files_are_refused_for_what_they_are(hostile, name, words):
    assert words in hostile[0][name]["message"]


def test_loading_takes_little_more_memory_than_the_tensors(tmp_path):
    """A state dict of 200 MB, in the container that torch writes."""
    layers = {"0.weight": torch.randn(12_000, 8), "2.weight": torch.randn(4096, 12_000) * 0.01}
    torch.save(layers, tmp_path / "netG.pth")
    (row,) = load_bounded([tmp_path / "netG.pth"])
    assert row["error"] is None, row
    assert row["grown_mb"] < 1.5 * (tmp_path / "netG.pth").stat().st_size / 1e6, row
    assert row["seconds"] < SECONDS
