"""The state of a run: the best generator alone is kept, and nothing is written without a folder."""

import torch

from regraft.runs.store import RunStore


def test_only_the_best_generator_of_the_state_is_kept(tmp_path):
    store = RunStore(tmp_path)
    for step in (3, 6):
        store.save_best(step, {"w": torch.full((2,), float(step))})
    store.save_state({"position": {"best_step": 6}})
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["best-6.safetensors", "last.pt"]
    assert store.load_best(6)["w"].tolist() == [6.0, 6.0]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = RunStore(None)
    store.log({"step": 1})
    store.save_state({"position": {"best_step": None}})
    store.save_best(1, {"w": torch.ones(1)})
    assert store.load_state() is None
    assert store.load_best(1)["w"].item() == 1
    assert list(tmp_path.iterdir()) == []
