"""Features that are kept beside the user's cache."""

import safetensors.torch
import torch

from regraft.evaluation.compare import extractor
from regraft.extractors import _cache
from support.toys import uniform_images


class TestCache:
    def test_features_are_kept_by_content(self, tmp_path):
        made = []

        def make():
            made.append(1)
            return torch.ones(3, 2), torch.zeros(3)

        x = uniform_images(3)
        for _ in range(2):
            first, second = _cache.load_or_compute(tmp_path, "both", "a" * 64, x, make)
            assert torch.equal(first, torch.ones(3, 2))
            assert torch.equal(second, torch.zeros(3))
        assert len(made) == 1
        for what, digest, pictures in (("features", "a" * 64, x), ("both", "b" * 64, x), ("both", "a" * 64, x.flip(0))):
            _cache.load_or_compute(tmp_path, what, digest, pictures, make)
        assert len(made) == 4

    def test_a_damaged_file_is_made_anew(self, tmp_path):
        x = uniform_images(3)
        _cache.load_or_compute(tmp_path, "f", "a" * 64, x, lambda: (torch.ones(3, 2),))
        (path,) = tmp_path.iterdir()
        path.write_bytes(b"damaged")
        assert torch.equal(
            _cache.load_or_compute(tmp_path, "f", "a" * 64, x, lambda: (torch.zeros(3, 2),))[0], torch.zeros(3, 2)
        )

    def test_only_costly_extractors_are_cached_and_only_if_asked(self, tmp_path):
        safetensors.torch.save_file({"c.weight": torch.randn(2, 3, 3, 3)}, tmp_path / "n.safetensors")
        (tmp_path / "c.yaml").write_text("file: n.safetensors\nsize: 8\nlayers: [{conv: c}]\n")
        name = f"network:{tmp_path / 'c.yaml'}"
        assert extractor(name).cache is None
        assert extractor("random_conv", cache=True).cache is None
        cached = extractor(name, cache=True)
        assert torch.equal(cached(uniform_images(3)), extractor(name)(uniform_images(3)))
        assert torch.equal(cached(uniform_images(3)), extractor(name)(uniform_images(3)))
        assert any(cached.cache.iterdir())
