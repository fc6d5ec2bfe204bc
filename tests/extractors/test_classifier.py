"""Classifiers from files: damaged ones are refused."""

import pytest
import safetensors.torch
import torch

from regraft.core.errors import SourceError
from regraft.evaluation.compare import extractor
from regraft.verbs.train_classifier import train_classifier


def test_damaged_files_are_refused(photos_by_class, tmp_path):
    train_classifier(photos_by_class, tmp_path / "a", steps=1, size=8, batch=4)
    tensors = safetensors.torch.load_file(tmp_path / "a")
    for change, message in (
        ({"conv1.weight": torch.zeros(64, 32, 5, 5)}, r"b: conv1.weight must be \(64, 32, 3, 3\)"),
        ({"regraft_classifier.size": torch.tensor(100_000)}, "out of range"),
        ({"regraft_classifier.classes": torch.tensor([255], dtype=torch.uint8)}, "damaged size or class names"),
    ):
        safetensors.torch.save_file(tensors | change, tmp_path / "b")
        with pytest.raises(SourceError, match=message):
            extractor(f"classifier:{tmp_path / 'b'}")
    del tensors["linear.bias"]
    safetensors.torch.save_file(tensors, tmp_path / "b")
    with pytest.raises(SourceError, match="without the tensor 'linear.bias'"):
        extractor(f"classifier:{tmp_path / 'b'}")
