"""Weights from files that anybody may have made: every reader of them looks at the container first."""

import struct
import time
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from regraft.core.errors import SourceError
from regraft.core.gan import GAN
from regraft.evaluation.compare import extractor
from regraft.extractors.classifier import read_classifier
from regraft.files.weights import load_torch, read_state_dict
from regraft.methods._perceptual import perception
from regraft.verbs._published import is_mindgan, open_mindgan
from support.toys import toy_autoencoder, toy_gan


def bomb(path):
    """128 MiB of zeros in a few hundred kB, which torch would expand."""
    torch.save({"convnet.c1.weight": torch.zeros(1 << 25)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def expanded(path):
    """Half of one number in a file of a kB, which would be 4 GiB in single precision."""
    torch.save({"convnet.c1.weight": torch.zeros(1, dtype=torch.float16).expand(1 << 30)}, path)


@pytest.mark.parametrize(
    ("make", "message"), [(bomb, "expand to far more than the file"), (expanded, "goes beyond its storage")]
)
@pytest.mark.parametrize(
    "read",
    [
        lambda path: extractor(f"classifier:{path}"),
        lambda path: extractor(f"mobilenet_v1:{path}"),
        lambda path: perception(str(path), None),
        lambda path: open_mindgan(path, GAN(toy_gan().generator, autoencoder=toy_autoencoder())),
    ],
    ids=["classifier", "mobilenet", "perceptual", "mindgan"],
)
def test_what_would_take_far_more_memory_than_its_size_is_refused(tmp_path, read, make, message):
    path = tmp_path / "x.pth"
    make(path)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(SourceError, match=f"x.pth.*{message}"):
        read(path)


def test_a_hostile_checkpoint_is_no_mindgan(tmp_path):
    bomb(tmp_path / "x.pth")
    (tmp_path / "parameters.json").write_text("{}")
    assert not is_mindgan(tmp_path / "x.pth")


def test_both_containers_hold_the_same_tensors(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(2).half(), "n": torch.tensor(3)}
    torch.save(tensors, tmp_path / "zip.pth")
    torch.save(tensors, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors")
    for name in ("zip.pth", "legacy.pth", "x.safetensors"):
        found = read_state_dict(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in tensors.items())
        assert {v.dtype for v in read_classifier(tmp_path / name).values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("content", "message"),
    [({"a": [1]}, "must hold a state dict"), (torch.zeros(2), "must hold a state dict"), (None, "no torch")],
)
def test_what_is_no_state_dict(tmp_path, content, message):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x04N.") if content is None else torch.save(content, path)
    with pytest.raises(SourceError, match=f"x.pth: .*{message}"):
        read_state_dict(path)
    with pytest.raises(SourceError, match="gone.pth: cannot be read"):
        read_state_dict(tmp_path / "gone.pth")


class TestNumPyBeside:
    """Arrays that lie beside tensors are passed over; numbers are numbers."""

    def test_arrays_and_numbers(self, tmp_path):
        path = tmp_path / "x.pth"
        torch.save({"w": torch.ones(2), "times": np.arange(300.0), "losses": [np.float64(0.5), np.float32(1)]}, path)
        found = load_torch(path, {})
        assert torch.equal(found["w"], torch.ones(2))
        assert found["losses"] == [0.5, 1]
        assert repr(found["times"]).endswith("not read>")

    @pytest.mark.parametrize(
        ("text", "codec", "times", "message"),
        [("a" * (1 << 20), "latin1", 200, "would take 209715200 bytes"), ("a", "rot13", 1, "REDUCE of _codecs.encode")],
    )
    def test_bytes_made_over_and_over(self, tmp_path, text, codec, times, message):
        def string(s):
            return b"X" + struct.pack("<I", len(s)) + s.encode()

        call = b"c_codecs\nencode\nh\0" + string(codec) + b"\x86Ra"
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\x02]" + string(text) + b"q\x00a" + call * times + b".")
        with pytest.raises(SourceError, match=message):
            load_torch(tmp_path / "x.pth", {})


def test_a_size_that_is_endless_when_written_out(tmp_path):
    """2^100 elements in a few hundred bytes, which an error must not try to show."""
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s  # noqa: E731
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x04tQ"
    endless = b")q\x00" + b"".join(b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) for k in range(100))
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + endless + b")tR.")
    begin = time.process_time()
    with pytest.raises(SourceError, match=r"x\.pth: .*a tensor of size") as caught:
        load_torch(tmp_path / "x.pth", {})
    assert time.process_time() - begin < 5
    assert len(str(caught.value)) < 600
