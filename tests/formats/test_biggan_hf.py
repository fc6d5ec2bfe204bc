"""BigGAN files of Hugging Face: names, truncations, settings."""

import json

import pytest
import torch

import regraft
from regraft.core.build import build
from regraft.core.errors import ConfigError, SourceError
from regraft.core.networks import Description
from support.biggan_files import hugging_face, rng


class TestHuggingFace:
    def test_downloaded_names_and_old_files_without_v(self, tmp_path):
        hugging_face(tmp_path / "a")
        rng.manual_seed(0)
        hugging_face(tmp_path / "b", drop=("weight_v",), prefix="biggan-deep-128-")
        a = regraft.load(tmp_path / "a")
        for name in (".", "biggan-deep-128-config.json", "biggan-deep-128-pytorch_model.bin"):
            b = regraft.load(tmp_path / "b" / name)
            assert (a.sample(3) - b.sample(3)).abs().max() < 1e-5
            assert any("made anew" in note for note in b.provenance.assumptions)
        assert b.provenance.name == "biggan-deep-128"

    def test_psi_chooses_rows_of_statistics(self, tmp_path):
        """Published: psi 0.5 of 6 rows lies between rows 2 and 3; fraction and rest are exchanged."""
        t = hugging_face(tmp_path / "a")
        published = regraft.load(tmp_path / "a").generator
        corrected = build(Description("biggan_deep", "generator", published.describe().config | {"interpolation": "corrected"}))
        corrected.load_state_dict(published.state_dict())
        corrected.eval()
        rows, norm = t["generator.bn.running_means"], published.exit.norm
        seen = []
        with torch.no_grad():
            for generator in (published, corrected):
                hook = generator.exit.norm.register_forward_hook(lambda m, i, o: seen.append((i[0], o)))
                for psi in (0.45, 0.6, 1.0):
                    generator(torch.zeros(1, 6), torch.tensor([0]), psi=psi)
                hook.remove()
        mixes = [(2, 0.25), (2, 1 - 1e-16), (5, 1), (2, 0.75), (3, 1), (5, 1)]
        for (x, out), (low, share) in zip(seen, mixes):
            mean = rows[low] * share + rows[min(low + 1, 5)] * (1 - share)
            var = t["generator.bn.running_vars"]
            var = var[low] * share + var[min(low + 1, 5)] * (1 - share)
            wanted = (x - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
            wanted = wanted * norm.weight[:, None, None] + norm.bias[:, None, None]
            assert torch.allclose(out, wanted, atol=1e-5)
        with pytest.raises(ConfigError, match="between 0 and 1"):
            published(torch.zeros(1, 6), torch.tensor([0]), psi=1.2)

    @pytest.mark.parametrize(
        "change",
        [
            {"n_stats": 7},
            {"output_dim": 32},
            {"layers": [[False, 4, 4], [True, 4, 2]]},
            {"layers": "many"},
            {"z_dim": 5},
            {"layers": [[False, 4, 4], [True, 4, 3], [True, 3, 1]]},
            {"channel_width": 8},
            {"attention_layer_position": 1},
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, tmp_path, change):
        hugging_face(tmp_path / "a")
        config = json.loads((tmp_path / "a" / "config.json").read_text()) | change
        (tmp_path / "a" / "config.json").write_text(json.dumps(config))
        with pytest.raises(SourceError):
            regraft.load(tmp_path / "a")

    def test_missing_tensors_and_settings_are_refused(self, tmp_path):
        for k, ending in enumerate(("conv_1.weight_orig", "running_vars", "weight_u", "snconv1x1_g.weight_orig", "bn.weight")):
            hugging_face(tmp_path / str(k), drop=(ending,))
            with pytest.raises(SourceError, match="missing"):
                regraft.load(tmp_path / str(k))
        hugging_face(tmp_path / "a")
        (tmp_path / "a" / "config.json").unlink()
        with pytest.raises(SourceError, match="belongs beside the weights"):
            regraft.load(tmp_path / "a")
