"""The Inception program: only the file that FID is defined by runs, and it is given bytes."""

import hashlib

import pytest
import torch

from regraft.core.errors import ConfigError, SourceError
from regraft.evaluation.compare import compare, extractor
from regraft.extractors import _weights, inception
from regraft.extractors.inception import as_bytes
from regraft.files.download import cache_folder
from support.toys import uniform_images


class TestInception:
    def test_another_file_is_not_run(self, program):
        with pytest.raises(SourceError, match="is not the Inception file that FID is defined by"):
            extractor(f"inception:{program}")

    def test_it_is_given_bytes_and_grey_three_times(self, program, monkeypatch):
        monkeypatch.setattr(inception, "SHA256", hashlib.sha256(program.read_bytes()).hexdigest())
        features = extractor(f"inception:{program}")
        grey = torch.tensor([-1.0, -0.5, 0.0, 1.0]).view(4, 1, 1, 1).expand(4, 1, 5, 5)
        assert features(grey)[:, 0].tolist() == [0, 64, 128, 255]
        assert as_bytes(grey).shape == (4, 3, 5, 5)
        found, probabilities = features.with_probabilities(grey)
        weight = dict(_weights.load_torchscript(program).named_parameters())["output.weight"]
        assert torch.allclose(probabilities.float(), (found @ weight.T).softmax(1), atol=1e-6)
        names = {s.name for s in compare(uniform_images(20), uniform_images(20, seed=1), None, features)}
        assert {"FID", "KID", "IS"} <= names

    def test_without_file_the_way_to_it_is_said(self, monkeypatch):
        monkeypatch.setenv("REGRAFT_OFFLINE", "1")
        with pytest.raises(ConfigError, match=r"download https://\S+inception-2015-12-05.pt and put it at"):
            extractor("inception")

    def test_a_file_in_the_cache_is_used(self, program, monkeypatch):
        monkeypatch.setattr(inception, "SHA256", hashlib.sha256(program.read_bytes()).hexdigest())
        place = cache_folder() / "extractors" / "inception-2015-12-05.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(program.read_bytes())
        try:
            assert extractor("inception").name == "inception"
        finally:
            place.unlink()
