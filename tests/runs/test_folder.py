"""Run folders: their names stand in one place, and are those that earlier versions wrote."""

import ast
import pathlib

import regraft
from regraft.runs.folder import RunFolder

SOURCE = pathlib.Path(regraft.__file__).parent
NAMES = {
    "settings": "config.yaml",
    "log": "metrics.jsonl",
    "final_samples": "samples/final.png",
    "adapter_tensors": "adapter_model.safetensors",
    "adapter_config": "adapter_config.json",
    "adapter_card": "README.md",
    "scores": "scores.json",
    "verdict": "verdict.json",
    "page": "report.html",
    "record": "state/run.json",
    "checkpoint": "state/last.pt",
    "critic": "state/critic.safetensors",
}


def strings(path):
    """Texts in a file's code, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs]


def test_names_are_those_of_earlier_versions():
    files = RunFolder(pathlib.Path("run"))
    assert {key: getattr(files, key).relative_to("run").as_posix() for key in NAMES} == NAMES
    assert files.step_samples(500) == pathlib.Path("run/samples/step-000500.png")
    assert files.best(500) == pathlib.Path("run/state/best-500.safetensors")


def test_no_other_file_spells_them():
    template = "report.html.j2"
    leaves = {name.rpartition("/")[2] for name in NAMES.values()}
    for path in SOURCE.rglob("*.py"):
        if path not in (SOURCE / "runs" / "folder.py", SOURCE / "files" / "known_records.py"):
            assert not [text for text in strings(path) if text != template and any(leaf in text for leaf in leaves)], path


def test_saved_grids_come_by_step(tmp_path):
    files = RunFolder(tmp_path)
    assert files.sampled_steps() == {}
    files.samples.mkdir()
    for name in ("step-000010.png", "step-000002.png", "step-x.png", "final.png"):
        (files.samples / name).touch()
    assert files.sampled_steps() == {2: files.step_samples(2), 10: files.step_samples(10)}
    assert list(files.sampled_steps()) == [2, 10]
