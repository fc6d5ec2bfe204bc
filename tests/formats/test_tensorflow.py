"""TensorFlow's containers: what is written is read, and what is not one is refused quickly, whatever its bytes say."""

import random
import time

import numpy as np
import pytest

from regraft.core.errors import SourceError
from regraft.formats import _table, _tensorflow
from support.tensorflow_writer import field, table, write_bundle, write_single


def weights(n=23, seed=0):
    rng = np.random.default_rng(seed)
    made = {f"Generator.Layer{k}/Generator.Layer{k}.W": rng.normal(size=(k % 4 + 1, 3)).astype("f4") for k in range(n)}
    return made | {"Generator.scalar": np.array(2.5, "f4"), "Generator.zeros": np.zeros((40, 7), "f4")}


def read(path):
    checkpoint = _tensorflow.open_checkpoint(path)
    return checkpoint.tensors(list(checkpoint.headers))


def assert_equal(found, wanted):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        assert np.array_equal(found[name].numpy(), array), name


@pytest.mark.parametrize("snappy", [False, True])
@pytest.mark.parametrize("per_block", [1, 5, 100])
def test_both_containers(tmp_path, snappy, per_block):
    wanted = weights()
    assert_equal(read(write_bundle(tmp_path / "m", wanted, 3, per_block=per_block, snappy=snappy)), wanted)
    assert_equal(read(write_single(tmp_path / "v1", wanted, per_block=per_block, snappy=snappy)), wanted)


def test_a_folder_means_its_checkpoint(tmp_path):
    first = write_bundle(tmp_path / "a", weights())
    assert _tensorflow.table_of(tmp_path) == first
    second = write_bundle(tmp_path / "b", weights())
    with pytest.raises(SourceError, match=r"several .*a\.index, b\.index"):
        _tensorflow.table_of(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/b"\nall_model_checkpoint_paths: "a"\n')
    assert _tensorflow.table_of(tmp_path) == second


def bad_bundles():
    """Entries of an index that are well-formed and lie."""
    head = (b"", field(1, 1))
    tensor = field(1, 1) + field(2, field(2, field(1, 2))) + field(5, 8)
    huge = field(1, 1) + field(2, field(2, field(1, 1 << 30)) * 2) + field(5, 1 << 62)
    yield "more than there is", [head, (b"a", huge)], "overlap|cut short"
    yield "shape and bytes", [head, (b"a", tensor.replace(field(5, 8), field(5, 4)))], "bytes for the shape"
    yield "outside", [head, (b"a", tensor + field(4, 1 << 40))], "outside"
    yield "other shard", [head, (b"a", tensor + field(3, 7))], "data file 7 of 1"
    yield "other type", [head, (b"a", field(1, 2) + tensor[2:])], "type 2"
    yield "pieces", [head, (b"a", tensor + field(7, b""))], "pieces"
    yield "big-endian", [(b"", field(1, 1) + field(2, 1)), (b"a", tensor)], "big-endian"
    yield "a million shards", [(b"", field(1, 1 << 20)), (b"a", tensor)], "data files"
    yield "no header", [(b"a", tensor)], "header"
    yield "unknown sides", [head, (b"a", field(1, 1) + field(2, field(2, field(1, (1 << 64) - 1))))], "shape"
    yield "many sides", [head, (b"a", field(1, 1) + field(2, field(2, field(1, 1)) * 9))], "shape"
    yield "wrong checksum", [head, (b"a", tensor)], "checksum"
    yield "not a message", [head, (b"a", b"\xff\xff\xff")], "cut short"
    yield "endless number", [head, (b"a", b"\x08" + b"\xff" * 12)], "does not end"


@pytest.mark.parametrize(("entries", "message"), [b[1:] for b in bad_bundles()], ids=[b[0] for b in bad_bundles()])
def test_lying_indices_are_refused(tmp_path, entries, message):
    (tmp_path / "m.index").write_bytes(table(entries))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(8))
    with pytest.raises(SourceError, match=message):
        read(tmp_path / "m.index")


@pytest.mark.parametrize("checked", [True, False], ids=["small", "too large for checksums"])
@pytest.mark.parametrize("container", ["bundle", "single"])
def test_damaged_files_give_source_errors_only(tmp_path, container, checked, monkeypatch):
    """Bytes changed or cut off anywhere: read as something, or refused; never another exception, never slow."""
    if not checked:
        monkeypatch.setattr(_table, "CHECKED_BLOCK", -1)
        monkeypatch.setattr(_tensorflow, "CHECKED_TENSOR", -1)
    write = write_bundle if container == "bundle" else write_single
    path = write(tmp_path / "m", weights(6), snappy=True)
    original = path.read_bytes()
    rng = random.Random(0)
    begun, refused = time.perf_counter(), 0
    for _ in range(400):
        content = bytearray(original)
        for _ in range(rng.choice([1, 1, 3])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if rng.random() < 0.2:
            content = content[: rng.randrange(len(content))]
        path.write_bytes(content)
        try:
            read(path)
        except SourceError:
            refused += 1
    assert refused > (330 if checked else 100)
    assert time.perf_counter() - begun < 10


def test_a_missing_or_short_data_file_is_named(tmp_path):
    index = write_bundle(tmp_path / "m", weights(), 2)
    data = tmp_path / "m.data-00001-of-00002"
    content = data.read_bytes()
    data.write_bytes(content[:-40])
    with pytest.raises(SourceError, match=r"overlap|m\.data-00001-of-00002"):
        read(index)
    data.unlink()
    with pytest.raises(SourceError, match=r"m\.data-00001-of-00002 is not beside it"):
        read(index)
