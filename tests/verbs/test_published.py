"""What the authors of Mind2Mind published: pickled codes and checkpoints of their MindGANs."""

import io
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

import regraft
from regraft.core.errors import ConfigError, DataError, SourceError
from regraft.data import codes
from regraft.verbs import encode
from regraft.verbs.load import load_adapter


class Evil:
    def __reduce__(self):
        return (__import__("os").getenv, ("HOME",))


class TestPublished:
    def folder(self, tmp_path, values):
        place = tmp_path / "Encoded_from_FFHQ"
        place.mkdir()
        for k, value in enumerate(values):
            (place / f"{9 - k:05d}").write_bytes(pickle.dumps(value, protocol=3 + k % 3))
        return place

    def test_pickled_codes(self, source, tmp_path):
        values = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
        made = encode.encode(source, self.folder(tmp_path, values), tmp_path / "c.safetensors")
        assert made.codes.names == tuple(f"{k:05d}" for k in range(5, 10))
        assert torch.equal(made.codes.values, torch.from_numpy(values[::-1].copy()))
        assert "imported from pickles" in made.notes[0]
        again = encode.encode(source, tmp_path / "Encoded_from_FFHQ", tmp_path / "c.safetensors")
        assert (again.reused, again.notes) == (5, ())
        assert torch.equal(codes.read(tmp_path / "c.safetensors").values, made.codes.values)

    def test_other_codes_are_not_replaced(self, source, photos, tmp_path):
        out, folder = tmp_path / "c.safetensors", self.folder(tmp_path, np.eye(6, dtype=np.float32))
        encode.encode(source, photos, tmp_path / "images.safetensors")
        with pytest.raises(ConfigError, match="codes of images, not imported ones"):
            encode.encode(source, folder, tmp_path / "images.safetensors")
        encode.encode(source, folder, out)
        with pytest.raises(ConfigError, match="codes imported from pickles"):
            encode.encode(source, photos, out)
        (folder / "00100").write_bytes(pickle.dumps(np.ones(6, np.float32)))
        assert encode.encode(source, folder, out).codes.n == 7
        shutil.rmtree(folder)
        with pytest.raises(ConfigError, match="codes of other images"):
            encode.encode(source, self.folder(tmp_path, np.zeros((5, 6), np.float32)), out)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (Evil(), "Encoded_from"),
            (np.zeros(5, np.float32), "5 numbers|first has 5"),
            (np.full(6, np.nan), "finite"),
            ("x", "tensor"),
        ],
    )
    def test_other_pickles_are_refused(self, source, tmp_path, bad, message):
        with pytest.raises(DataError, match=message):
            encode.encode(source, self.folder(tmp_path, [np.zeros(6, np.float32), bad]), tmp_path / "c.safetensors")

    def checkpoint(self, tmp_path, widths=(4, 7), code=6, **settings):
        """A checkpoint as the authors' trainer writes it."""
        rng = torch.Generator().manual_seed(0)

        def net(sizes):
            return {
                f"model.{2 * k}.{leaf}": torch.randn(shape, generator=rng)
                for k, (a, b) in enumerate(zip(sizes[:-1], sizes[1:]))
                for leaf, shape in (("weight", (b, a)), ("bias", (b,)))
            }

        state = {
            "Time": np.array([1.5, 2.5]),
            "Critic": net([code, 5, 1]),
            "Generator": net([3, *widths, code]),
            "Critic loss": [0.1],
            "Generator loss": [0.2],
            "optims": [{"state": {}}, {"state": {}}],
        }
        torch.save(state, tmp_path / "model299.pth")
        text = {"z_dim": 3, "hidden_generator_c": list(widths), "hidden_critic_c": [5], "lr": 1e-3} | settings
        (tmp_path / "parameters.json").write_text(json.dumps(text))
        return tmp_path / "model299.pth", state["Generator"]

    def test_mindgan(self, source, tmp_path):
        path, g = self.checkpoint(tmp_path)
        folder = regraft.convert(source, tmp_path / "source")
        gan = load_adapter(path, [folder])
        assert (gan.generator.latent.distribution, gan.generator.latent.dim) == ("uniform", 3)
        x = z = gan.generator.latent.at(0, range(4))
        for k in range(3):
            x = x @ g[f"model.{2 * k}.weight"].T + g[f"model.{2 * k}.bias"]
            x = torch.relu(x) if k < 2 else x
        assert torch.allclose(gan.generator.mind(z), x, atol=1e-6)
        # This toy's codes are bounded, an ALAE's are not.
        assert torch.allclose(gan.generator(z), source.autoencoder.decode(x.clamp(-1, 1)), atol=1e-5)
        converted = regraft.load(regraft.convert(path, tmp_path / "out", sources=[folder]))
        assert torch.equal(converted.sample(3, 0), gan.sample(3, 0))
        with pytest.raises(SourceError, match="name the ALAE"):
            regraft.load(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"widths": (4, 7), "hidden_generator_c": [4]}, "its layers are"),
            ({"code": 5}, "codes of 5 numbers, and toy decodes 6"),
            ({"z_dim": "3"}, "not the settings"),
        ],
    )
    def test_mindgans_that_do_not_fit(self, source, tmp_path, change, message):
        path, _ = self.checkpoint(tmp_path, **change)
        with pytest.raises(SourceError, match=message):
            load_adapter(path, [source])

    def test_code_in_a_checkpoint_is_not_run(self, source, tmp_path):
        path, _ = self.checkpoint(tmp_path)
        buffer = io.BytesIO()
        torch.save({"Generator": {}, "Critic": {}, "Time": Evil()}, buffer)
        path.write_bytes(buffer.getvalue())
        with pytest.raises(Exception, match="refused|adapter"):
            load_adapter(path, [source])
