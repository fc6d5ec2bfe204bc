"""Adapting to codes in place of images."""

import json
import shutil

import pytest
import torch

import regraft
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import GAN
from regraft.data import codes
from regraft.verbs import encode
from regraft.verbs.load import load, load_adapter
from support.toys import toy_autoencoder


class TestCodesAsTarget:
    SMALL = {"steps": 3, "batch": 4, "generator_widths": [8], "critic_widths": [8]}

    def test_from_codes_alone(self, source, photos_by_class, tmp_path):
        folder = regraft.convert(source, tmp_path / "source")
        encode.encode(load(folder), photos_by_class, tmp_path / "c.safetensors")
        shutil.rmtree(photos_by_class)
        made = regraft.adapt(tmp_path / "c.safetensors", folder, out=tmp_path / "run", labels=True, **self.SMALL)
        assert made.gan.generator.n_classes == 2
        assert made.scores == ()
        assert torch.equal(load_adapter(made.folder).sample(3, 0), made.gan.sample(3, 0))
        with pytest.raises(ConfigError, match="only mind2mind"):
            regraft.adapt(tmp_path / "c.safetensors", folder, method="freezed", write=False)
        with pytest.raises(ConfigError, match="encode the images with this source"):
            other = GAN(source.generator, autoencoder=toy_autoencoder(seed=4))
            regraft.adapt(tmp_path / "c.safetensors", other, write=False, **self.SMALL)

    def test_what_codes_do_not_allow_is_named_at_once(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out, fit="pad")
        wrong = {"held_out": 5, "evaluate_every": 2, "flip": "on", "fit": "crop"}
        with pytest.raises(ConfigError) as caught:
            regraft.adapt(out, source, write=False, **wrong, **self.SMALL)
        said = str(caught.value)
        assert all(part in said for part in ("--held-out 5", "--evaluate-every 2", "--flip on", "--fit crop", "--fit pad"))
        for images in (out, photos):
            with pytest.raises(DataError, match="--take 13, and there are only 12 images"):
                regraft.adapt(images, source, method="mind2mind", write=False, take=13, **self.SMALL)
        with pytest.raises(DataError, match="no class cat; there are: no classes"):
            regraft.adapt(out, source, write=False, only_class="cat", **self.SMALL)
        with pytest.raises(ConfigError, match="no labels"):
            regraft.adapt(out, source, write=False, labels=True, **self.SMALL)
        made = regraft.adapt(out, source, out=tmp_path / "run", fit="pad", held_out=0, take=6, **self.SMALL)
        assert json.loads((made.folder / "adapter_config.json").read_text())["data"]["n"] == 6
        assert regraft.adapt(resume=True, out=made.folder, sources=[source]).step == 3

    def test_settings_follow_the_codes(self, source, photos, tmp_path):
        """The fit need not be said again, and a resumed run finds it as it was."""
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out, fit="pad")
        made = regraft.adapt(out, source, out=tmp_path / "run", **self.SMALL)
        assert "fit: pad" in (made.folder / "config.yaml").read_text()
        assert regraft.adapt(resume=True, out=made.folder, sources=[source]).step == 3

    def test_classes(self, source, photos_by_class, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos_by_class, out)
        learned = regraft.adapt(out, source, write=False, **self.SMALL)
        assert learned.gan.generator.n_classes == 2
        assert any("bars, blobs" in note for note in learned.notes)
        assert regraft.adapt(out, source, write=False, labels=False, **self.SMALL).gan.generator.n_classes == 0
        one = regraft.adapt(out, source, out=tmp_path / "run", only_class="blobs", **self.SMALL)
        assert one.gan.generator.n_classes == 0
        blobs = codes.read(out).values[12:]
        assert json.loads((one.folder / "adapter_config.json").read_text())["data"]["digest"] == codes.Codes(blobs).digest
