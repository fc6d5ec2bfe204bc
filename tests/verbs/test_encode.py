"""Encoding images: once, in order, resumable."""

import dataclasses
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import regraft
from regraft.core.errors import ConfigError, DataError, MissingCapability
from regraft.core.gan import GAN, tensor_digest
from regraft.data import codes
from regraft.data.opening import open_images
from regraft.verbs import encode
from support.pictures import save_arrays
from support.toys import toy_autoencoder, toy_gan


@pytest.fixture
def cats_and_dogs(tmp_path):
    """Folders ``cat`` and ``dog`` of five random pictures each."""
    rng = np.random.default_rng(1)
    for name in ("cat", "dog"):
        save_arrays(tmp_path / "labelled" / name, rng.integers(0, 255, (5, 8, 8), np.uint8))
    return tmp_path / "labelled"


def noting_reads(listed):
    """The same images, and the names of those that are read."""
    seen = []

    def noted(item):
        def read():
            seen.append(item.name)
            return item.read()

        return dataclasses.replace(item, read=read)

    return dataclasses.replace(listed, items=tuple(map(noted, listed.items))), seen


def files_of(folder):
    """Times, numbers and bytes of the files in a folder."""
    return {p.name: (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in folder.iterdir() if p.is_file()}


class TestEncode:
    def test_codes_with_names_labels_statistics_and_origin(self, source, cats_and_dogs, tmp_path):
        made = encode.encode(source, cats_and_dogs, tmp_path / "c.safetensors")
        listed = open_images(cats_and_dogs)
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
        before = files_of(out.parent)
        listed, seen = noting_reads(open_images(photos))
        again = encode.encode(source, listed, out)
        assert seen == []
        assert (again.computed, again.reused) == (0, 12)
        assert files_of(out.parent) == before

    def test_touched_files_are_read_and_not_encoded_again(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out)
        copied = shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copy)
        listed, seen = noting_reads(open_images(copied))
        again = encode.encode(source, listed, out)
        assert len(set(seen)) == 12
        assert again.computed == 0

    def test_only_what_is_new_is_encoded(self, source, photos, tmp_path):
        out = tmp_path / "c.safetensors"
        first = encode.encode(source, photos, out)
        Image.fromarray(np.full((8, 8), 77, np.uint8)).save(photos / "0000.png")
        (photos / "005.png").unlink()
        listed, seen = noting_reads(open_images(photos))
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
        again, seen = noting_reads(listed)
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
        listed, seen = noting_reads(open_images(photos))
        again = encode.encode(source, listed, out)
        assert (seen, again.computed, again.reused) == ([], 0, 12 + more)
        beside = json.loads((tmp_path / "c.json").read_text())
        assert (beside["n"], beside["names"]) == (12 + more, list(again.codes.names))
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("c.")) == ["c.json", "c.safetensors"]

    def test_other_codes_are_not_replaced(self, source, photos, tmp_path):
        out = tmp_path / "out" / "c.safetensors"
        encode.encode(source, photos, out)
        before = files_of(out.parent)
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
        assert files_of(out.parent) == before
        assert encode.encode(source, elsewhere, out).reused == 1

    def test_an_unfinished_encoding_is_not_replaced(self, source, photos, cats_and_dogs, tmp_path):
        out = tmp_path / "c.safetensors"
        encode.encode(source, photos, out)
        (tmp_path / "c.parts").mkdir()
        out.rename(tmp_path / "c.parts" / "000000.safetensors")
        with pytest.raises(ConfigError, match=r"c\.parts: holds codes of other images"):
            encode.encode(source, cats_and_dogs, out)
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
        listed, seen = noting_reads(open_images(where))
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
