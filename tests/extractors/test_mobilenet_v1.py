"""MobileNet features from a file."""

import pytest
import safetensors.torch
import torch

import regraft
from regraft.core.errors import SourceError
from regraft.evaluation.compare import extractor


class TestMobileNet:
    def test_real_weights_tell_kinds_of_photographs_apart(self, shared):
        features = extractor(f"mobilenet_v1:{shared / 'data' / 'weights' / 'mobilenet_v1_imagenet_features.safetensors'}")
        sets = [
            features(regraft.open_images(shared / "data" / name).take(0, 16).decode((128, 128), 3).tensor())
            for name in ("afhq_cat_128.zip", "flowers_128.zip")
        ]
        assert sets[0].shape == (16, 1024)
        means = torch.stack([s[:8].mean(0) for s in sets])
        nearest = [torch.cdist(s[8:], means).argmin(1).tolist() for s in sets]
        assert nearest == [[0] * 8, [1] * 8]

    def test_another_network_is_refused(self, tmp_path):
        safetensors.torch.save_file({"conv1.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "m.safetensors")
        with pytest.raises(SourceError, match=r"conv1.weight must be \(32, 3, 3, 3\), it is \(8, 3, 3, 3\)"):
            extractor(f"mobilenet_v1:{tmp_path / 'm.safetensors'}")
