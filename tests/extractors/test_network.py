"""Extractors from a network's card: what they compute, which programs run, and which mistakes are named."""

import hashlib

import pytest
import safetensors.torch
import torch

from regraft.core.errors import ConfigError, SourceError
from regraft.evaluation.compare import extractor
from support.extractor_files import network_card
from support.toys import uniform_images


class TestNetwork:
    def test_layers_of_a_card_are_what_torch_computes(self, tmp_path):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, padding=1),
            torch.nn.BatchNorm2d(6),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 16, 5),
        ).eval()
        net[1].running_mean.normal_()
        safetensors.torch.save_file(
            {k: v for k, v in net.state_dict().items() if v.is_floating_point()}, tmp_path / "n.safetensors"
        )
        text = """
file: n.safetensors
size: 8
mean: [0.5, 0.4, 0.3]
std: [0.2, 0.3, 0.4]
layers: [{conv: "0", padding: 1}, {norm: "1"}, relu, {pool: 2}, {linear: "5"}]
"""
        features = extractor(network_card(tmp_path, text))
        x = uniform_images(4, 8)
        seen = ((x + 1) / 2 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
        assert torch.allclose(features(x), net(seen), atol=1e-5)
        early = extractor(network_card(tmp_path, text + "layer: 3\n"))
        assert torch.allclose(early(x), net[:3](seen).mean((2, 3)), atol=1e-5)
        assert early.sha256 != features.sha256
        assert features(uniform_images(2, 20, 1)).shape == (2, 5)

    def test_a_program_runs_only_if_the_user_trusts_it(self, tmp_path, program, monkeypatch):
        """Whatever its card says: both may come from one archive."""
        digest = hashlib.sha256(program.read_bytes()).hexdigest()
        card = network_card(tmp_path, f"file: program.pt\nsize: 8\nsha256: {digest}\nlogits: true\n")
        for trusted in (None, "", "1", digest[:16], "f" * 64):
            if trusted is not None:
                monkeypatch.setenv("REGRAFT_TRUST", trusted)
            with pytest.raises(SourceError, match=f"is a program, which may read and write.*REGRAFT_TRUST={digest}"):
                extractor(card)
        monkeypatch.setenv("REGRAFT_TRUST", f"{'f' * 64}, {digest}")
        features = extractor(card)
        assert features(uniform_images(3)).shape == (3, 4)
        assert features.with_probabilities(uniform_images(3))[1].sum(1).tolist() == pytest.approx([1, 1, 1])
        assert extractor(network_card(tmp_path, "file: program.pt\nsize: 8\n"))(uniform_images(3)).shape == (3, 4)
        with pytest.raises(SourceError, match="its card .* says"):
            extractor(network_card(tmp_path, f"file: program.pt\nsize: 8\nsha256: {'f' * 64}\n"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file: n.safetensors\nsize: 8\n", "write the network's layers into its card"),
            ("file: n.safetensors\nsize: 8\nlayers: [{conv: gone}]\n", "holds no tensor gone.weight; it has c.weight"),
            ("file: n.safetensors\nsize: 8\nlayers: [{conv: c, pool: 2}]\n", "this one is conv and pool"),
            ("file: n.safetensors\nsize: 8\nlayers: [{linear: c}]\n", "does not run on one image of 8 pixels"),
            ("file: gone.safetensors\nsize: 8\n", "cannot be read"),
            ("file: n.safetensors\nsise: 8\n", "sise"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, text, message):
        safetensors.torch.save_file({"c.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "n.safetensors")
        with pytest.raises((SourceError, ConfigError), match=message):
            extractor(network_card(tmp_path, text))

    def test_files_are_needed(self):
        for name in ("network", "mobilenet_v1", "classifier"):
            with pytest.raises(ConfigError, match=f"--extractor {name}:"):
                extractor(name)
