"""Encoding: once, in order, resumable; codes files; what the authors of Mind2Mind published."""

import dataclasses
import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import regraft
from regraft.core.errors import ConfigError, DataError, MissingCapability, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.data import codes
from regraft.data.images import open_images
from regraft.verbs import encode
from regraft.verbs.load import load, load_adapter
from support.toys import toy_autoencoder, toy_gan


@pytest.fixture
def source():
    return toy_gan(autoencoder=True)


@pytest.fixture
def labelled(tmp_path):
    rng = np.random.default_rng(1)
    for k in range(10):
        place = tmp_path / "labelled" / ("cat" if k % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(place / f"{k}.png")
    return tmp_path / "labelled"


def watched(listed):
    """The same images, and the names of those that are read."""
    seen = []

    def noted(item):
        def read():
            seen.append(item.name)
            return item.read()

        return dataclasses.replace(item, read=read)

    return dataclasses.replace(listed, items=tuple(map(noted, listed.items))), seen


def state_of(folder):
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in folder.iterdir() if p.is_file()}


class TestEncode:
    def test_codes_with_names_labels_statistics_and_origin(self, source, labelled, tmp_path):
        made = encode.encode(source, labelled, tmp_path / "c.safetensors")
        listed = open_images(labelled)
        images = listed.decode((8, 8), 1)
        found = codes.read(tmp_path / "c.safetensors")
        assert found.names == tuple(sorted(i.name for i in listed.items))
        assert found.classes == ("cat", "dog")
        assert torch.equal(found.labels, images.labels)
        assert torch.allclose(found.values, source.autoencoder.encode(images.tensor()), atol=1e-6)
        stored = load_file(tmp_path / "c.safetensors")
        assert torch.allclose(stored["mean"], found.values.mean(0), atol=1e-6)
        assert torch.allclose(stored["std"], found.values.std(0, correction=0), atol=1e-6)
        assert found.record["autoencoder_digest"] == tensor_digest(source.autoencoder)
        assert found.record["image"] == {"height": 8, "width": 8, "channels": 1, "range": [-1, 1]}
        assert json.loads((tmp_path / "c.json").read_text()) == found.record
        assert (made.computed, made.reused) == (10, 0)

    def test_second_time_reads_and_writes_nothing(self, source, photos, tmp_path):
        out = tmp_path / "out" / "c.safetensors"
        encode.encode(source, photos, out)
        before = state_of(out.parent)
        listed, seen = watched(open_images(photos))
        again = encode.encode(source, listed, out)
        assert seen == []
        assert (again.computed, again.reused) == (0, 12)
        assert state_of(out.parent) == before

    def test_touched_files_are_read_and_not_encoded_again(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out)
        copied = shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copy)
        listed, seen = watched(open_images(copied))
        again = encode.encode(source, listed, out)
        assert len(set(seen)) == 12
        assert again.computed == 0

    def test_only_what_is_new_is_encoded(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        first = encode.encode(source, photos, out)
        Image.fromarray(np.full((8, 8), 77, np.uint8)).save(photos / "0000.png")
        (photos / "005.png").unlink()
        listed, seen = watched(open_images(photos))
        second = encode.encode(source, listed, out)
        assert seen == ["0000.png"]
        assert (second.computed, second.codes.n) == (1, 12)
        assert second.codes.names == tuple(sorted(p.name for p in photos.iterdir()))
        old = dict(zip(first.codes.names, first.codes.values))
        assert all(torch.equal(v, old[n]) for n, v in zip(second.codes.names, second.codes.values) if n in old)

    def test_a_stop_half_way_loses_nothing(self, source, photos, tmp_path, monkeypatch):
        whole = encode.encode(source, photos, tmp_path / "whole.safetensors")
        monkeypatch.setattr(encode, "CHUNK", 4)
        listed = open_images(photos)

        def fails():
            raise KeyboardInterrupt

        items = tuple(dataclasses.replace(i, read=fails) if k == 9 else i for k, i in enumerate(listed.items))
        out = tmp_path / "c.safetensors"
        with pytest.raises(KeyboardInterrupt):
            encode.encode(source, dataclasses.replace(listed, items=items), out)
        assert not out.exists()
        # A part that the stop cut short is no obstacle.
        (tmp_path / "c.parts" / "000009.safetensors").write_bytes(b"half")
        again, seen = watched(listed)
        made = encode.encode(source, again, out)
        assert len(seen) == 4
        assert made.reused == 8
        assert torch.equal(made.codes.values, whole.codes.values)
        assert not (tmp_path / "c.parts").exists()

    @pytest.mark.parametrize("more", [False, True])
    def test_a_stop_between_the_two_files_loses_nothing(self, source, photos, tmp_path, monkeypatch, more):
        out = tmp_path / "c.safetensors"
        if more:
            encode.encode(source, photos, out)
            Image.fromarray(np.full((8, 8), 77, np.uint8)).save(photos / "0000.png")

        def stops(path, data):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(codes, "write_json", stops)
            with pytest.raises(KeyboardInterrupt):
                encode.encode(source, photos, out)
        assert codes.read(out).n == 12 + more
        listed, seen = watched(open_images(photos))
        again = encode.encode(source, listed, out)
        assert (seen, again.computed, again.reused) == ([], 0, 12 + more)
        beside = json.loads((tmp_path / "c.json").read_text())
        assert (beside["n"], beside["names"]) == (12 + more, list(again.codes.names))
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("c.")) == ["c.json", "c.safetensors"]

    def test_other_codes_are_not_replaced(self, source, photos, tmp_path):
        out = tmp_path / "out" / "c.safetensors"
        encode.encode(source, photos, out)
        before = state_of(out.parent)
        other = GAN(source.generator, autoencoder=toy_autoencoder(seed=4))
        with pytest.raises(ConfigError, match="codes of another autoencoder.*choose another --out"):
            encode.encode(other, photos, out)
        with pytest.raises(ConfigError, match="fit crop, not pad"):
            encode.encode(source, photos, out, fit="pad")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for k, path in enumerate(sorted(photos.iterdir())):  # of the same names
            Image.fromarray(np.full((8, 8), 9 * k, np.uint8)).save(elsewhere / path.name)
        with pytest.raises(ConfigError, match="codes of other images than .*elsewhere.*choose another --out"):
            encode.encode(source, elsewhere, out)
        shutil.copy(photos / "000.png", elsewhere / "one of them.png")
        assert state_of(out.parent) == before
        assert encode.encode(source, elsewhere, out).reused == 1

    def test_an_unfinished_encoding_is_not_replaced(self, source, photos, labelled, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out)
        (tmp_path / "c.parts").mkdir()
        out.rename(tmp_path / "c.parts" / "000000.safetensors")
        with pytest.raises(ConfigError, match=r"c\.parts: holds codes of other images"):
            encode.encode(source, labelled, out)
        with pytest.raises(ConfigError, match=r"c\.parts: holds codes of another autoencoder"):
            encode.encode(GAN(source.generator, autoencoder=toy_autoencoder(seed=4)), photos, out)
        assert encode.encode(source, photos, out).reused == 12

    @pytest.mark.parametrize("kind", ["zip", "npz"])
    def test_archives(self, source, photos, tmp_path, kind):
        if kind == "zip":
            where = shutil.make_archive(tmp_path / "photos", "zip", photos)
        else:
            where = tmp_path / "photos.npz"
            np.savez_compressed(where, x_train=np.stack([np.array(Image.open(p)) for p in sorted(photos.iterdir())]))
        made = encode.encode(source, where, tmp_path / "c.safetensors")
        folder = encode.encode(source, photos, tmp_path / "f.safetensors")
        assert torch.equal(made.codes.values, folder.codes.values)
        listed, seen = watched(open_images(where))
        assert encode.encode(source, listed, tmp_path / "c.safetensors").computed == 0
        assert seen == []

    def test_batch_size_changes_nothing_but_speed(self, source, photos, tmp_path):
        a = encode.encode(source, photos, tmp_path / "a.safetensors", batch=1)
        b = encode.encode(source, photos, tmp_path / "b.safetensors", batch=64)
        assert (a.codes.values - b.codes.values).abs().max() < 1e-6

    def test_bad_images(self, source, photos, tmp_path):
        (photos / "bad.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"bad\.png"):
            encode.encode(source, photos, tmp_path / "c.safetensors")
        made = encode.encode(source, photos, tmp_path / "c.safetensors", on_bad="skip")
        assert made.codes.n == 12

    def test_images_that_cannot_be_read(self, source, photos, tmp_path):
        """A member of a .zip with damaged bytes fails when it is read, before it is decoded."""
        where = tmp_path / "photos.zip"
        with zipfile.ZipFile(where, "w") as archive:
            for path in sorted(photos.iterdir()):
                archive.write(path, path.name)
        data = bytearray(where.read_bytes())
        data[data.find(b"IDAT") + 8] ^= 255
        where.write_bytes(data)
        with pytest.raises(DataError, match=r"000\.png.*--on-bad skip"):
            encode.encode(source, where, tmp_path / "c.safetensors")
        for _ in range(2):
            made = encode.encode(source, where, tmp_path / "c.safetensors", on_bad="skip")
            assert made.codes.n == 11
            assert "000.png" in made.notes[0]

    def test_an_image_that_became_unreadable_has_no_code(self, source, photos, tmp_path):
        encode.encode(source, photos, tmp_path / "c.safetensors")
        (photos / "003.png").write_bytes(b"nothing")
        made = encode.encode(source, photos, tmp_path / "c.safetensors", on_bad="skip")
        assert "003.png" not in made.codes.names
        assert (made.codes.n, made.computed) == (11, 0)
        assert "003.png" in made.notes[0]

    def test_refusals(self, source, photos, tmp_path):
        with pytest.raises(MissingCapability, match="encode needs autoencoder"):
            encode.encode(toy_gan(), photos, tmp_path / "c.safetensors")
        with pytest.raises(ConfigError, match=r"\.safetensors"):
            encode.encode(source, photos, tmp_path / "c.pt")
        other = regraft.convert(source, tmp_path / "source") / "model.safetensors"
        with pytest.raises(ConfigError, match="no codes file"):
            encode.encode(source, photos, other)


class TestFile:
    def test_damage_is_named(self, source, photos, tmp_path):
        out, damaged = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
        encode.encode(source, photos, out)
        tensors = load_file(out)
        record = json.loads(tensors["record"].numpy().tobytes())
        for change, message in (
            ({"names": ["a"]}, "with 1 names"),
            ({"digest": "0"}, "not those that"),
            ({"format_version": 9}, "format version 9"),
            ({"classes": None}, "TypeError"),
        ):
            text = torch.tensor(list(json.dumps(record | change).encode()), dtype=torch.uint8)
            save_file(tensors | {"record": text}, damaged, {"format": codes.FORMAT})
            with pytest.raises(DataError, match=f"{message}.*encode the images again"):
                codes.read(damaged)
        out.write_bytes(out.read_bytes()[:-8])
        assert not codes.is_codes(out)

    def test_files_of_codes_alone_are_read_with_the_json_beside_them(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        made = encode.encode(source, photos, out)
        tensors = load_file(out)
        del tensors["record"]
        save_file(tensors, out, {"format": codes.FORMAT})
        assert codes.read(out).names == made.codes.names
        assert encode.encode(source, photos, out).computed == 0
        (tmp_path / "c.json").unlink()
        with pytest.raises(DataError, match=r"c\.json.*remove it and encode the images again"):
            codes.read(out)


class TestTraining:
    SMALL = {"steps": 3, "batch": 4, "generator_widths": [8], "critic_widths": [8]}

    def test_from_codes_alone(self, source, labelled, tmp_path):
        folder = regraft.convert(source, tmp_path / "source")
        encode.encode(load(folder), labelled, tmp_path / "c.safetensors")
        shutil.rmtree(labelled)
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
