"""Every extractor found on disk keeps its contract."""

import hashlib

import pytest
import safetensors.torch
import torch

from regraft.core import discover
from regraft.extractors.base import Features
from support.extractor_files import write_mobilenet
from support.plugins import find_plugin
from support.toys import save_program, toy_gan, uniform_images


class Imitation(torch.nn.Module):
    """What the Inception program promises: bytes of any size in, features or probabilities out."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 20, 3, 2)
        self.output = torch.nn.Linear(20, 7)

    def forward(self, img: torch.Tensor, return_features: bool = False):
        x = torch.relu(self.layer(img.float() / 128 - 1)).mean((2, 3))
        return x if return_features else torch.softmax(self.output(x), 1)


@pytest.mark.parametrize("name", discover.names("extractors"))
class TestEveryExtractor:
    def made(self, name, tmp_path, monkeypatch) -> Features:
        extractor = find_plugin("extractors", name)
        assert extractor.summary
        weights = None
        torch.manual_seed(0)
        if name == "inception":
            weights = tmp_path / "inception.pt"
            if not weights.exists():
                save_program(Imitation(), weights)
            monkeypatch.setattr("regraft.extractors.inception.SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
        if name == "mobilenet_v1":
            weights = write_mobilenet(tmp_path / "mobilenet.safetensors")
        if name == "network":
            safetensors.torch.save_file({"c.weight": torch.randn(8, 3, 3, 3)}, tmp_path / "n.safetensors")
            weights = tmp_path / "card.yaml"
            weights.write_text("file: n.safetensors\nsize: 12\nlayers:\n- conv: c\n- relu\n")
        if name == "classifier":
            shapes = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5)}
            tensors = {f"convnet.{k}.weight": torch.randn(s) * 0.1 for k, s in shapes.items()}
            tensors |= {f"convnet.{k}.bias": torch.zeros(s[0]) for k, s in shapes.items()}
            for k, s in {"f6": (84, 120), "f7": (10, 84)}.items():
                tensors |= {f"fc.{k}.weight": torch.randn(s) * 0.1, f"fc.{k}.bias": torch.zeros(s[0])}
            weights = tmp_path / "lenet.pth"
            torch.save(tensors, weights)
        return extractor.make(weights, toy_gan(size=16, channels=3))

    def test_features_are_rows_and_do_not_depend_on_the_batch(self, name, tmp_path, monkeypatch):
        features = self.made(name, tmp_path, monkeypatch)
        assert len(features.sha256) == 64
        x = uniform_images(9, seed=0)
        whole = features(x)
        assert whole.dim() == 2
        assert whole.shape[0] == 9
        assert whole.dtype == torch.float32
        assert torch.allclose(whole, features(x, batch=2), atol=1e-5)
        assert whole.std(0).max() > 0

    def test_twice_made_is_the_same(self, name, tmp_path, monkeypatch):
        a, b = self.made(name, tmp_path, monkeypatch), self.made(name, tmp_path, monkeypatch)
        assert a.sha256 == b.sha256
        assert torch.equal(a(uniform_images(3, seed=0)), b(uniform_images(3, seed=0)))
