"""Sources in regraft's own format."""

import json

import pytest
import torch

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import tensor_digest
from regraft.core.networks import evaluating
from support.toys import toy_gan


class TestOwnFormat:
    def test_conversion_is_bit_identical(self, tmp_path, gan):
        folder = regraft.convert(gan, tmp_path / "out")
        again = regraft.load(folder)
        assert tensor_digest(again.generator) == tensor_digest(gan.generator)
        assert tensor_digest(again.critic) == tensor_digest(gan.critic)
        assert torch.equal(again.sample(4, 2), gan.sample(4, 2))
        assert again.objective == gan.objective
        assert again.recipe == gan.recipe
        assert not any(p.requires_grad for p in again.generator.parameters())
        assert not again.generator.training
        second = regraft.convert(folder, tmp_path / "second")
        assert (second / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()

    def test_conditional_and_mlp(self, tmp_path):
        for k, source in enumerate((toy_gan(n_classes=3), toy_gan("mlp", n_classes=3), toy_gan("mlp"))):
            again = regraft.load(regraft.convert(source, tmp_path / str(k)))
            assert torch.equal(again.sample(4, 2), source.sample(4, 2))

    def test_half_precision_is_held_as_float32(self, tmp_path, gan):
        from safetensors.torch import load_file, save_file

        folder = regraft.convert(gan, tmp_path / "out")
        tensors = load_file(folder / "model.safetensors")
        halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        save_file(halves, folder / "model.safetensors")
        again = regraft.load(folder)
        assert all(p.dtype == torch.float32 for p in again.generator.parameters())
        with evaluating(again.generator), torch.no_grad():
            assert torch.allclose(again.sample(4, 2), gan.sample(4, 2), atol=0.02)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.update(format="other"), "not a regraft source"),
            (lambda r: r.update(format_version=9), "source format 9"),
            (lambda r: r.pop("generator"), "belongs to no network"),
            (lambda r: r["generator"].update(kind="dcgn"), "no backbone called dcgn; did you mean dcgan"),
            (lambda r: r["generator"]["config"].update(surprise=1), "no setting called surprise"),
            (lambda r: r["generator"]["config"]["layers"][0].update(outputs=5), "cannot take|do not fit"),
            (lambda r: r["generator"]["config"]["layers"][0].update(kernel=[10**9, 4]), "kernel"),
            (lambda r: r.update(recipe={"batch": "x"}), "batch"),
        ],
    )
    def test_a_changed_record_is_a_clear_error(self, tmp_path, gan, change, message):
        folder = regraft.convert(gan, tmp_path / "out")
        record = json.loads((folder / "source.json").read_text())
        change(record)
        (folder / "source.json").write_text(json.dumps(record))
        with pytest.raises((SourceError, ConfigError), match=message):
            regraft.load(folder)

    def test_damaged_tensors(self, tmp_path, gan):
        folder = regraft.convert(gan, tmp_path / "out")
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[:-20])
        with pytest.raises(SourceError, match="damaged or missing"):
            regraft.load(folder)

    def test_nothing_is_overwritten(self, tmp_path, gan):
        (tmp_path / "out").mkdir()
        with pytest.raises(ConfigError, match="nothing is overwritten"):
            regraft.convert(gan, tmp_path / "out")
