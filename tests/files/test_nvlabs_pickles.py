"""Hostile and damaged pickles: one clear error, nothing run, time and memory in proportion to the file."""

import io
import os
import pickle
import resource
import struct
import time

import numpy as np
import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from regraft.files import pickle_machine as _pickle_machine
from regraft.files.nvlabs_pickles import open_archive
from support.nvlabs_files import Module, dumped, nvlabs_modules, tree

RECONSTRUCT = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def read(tmp_path):
    """Read bytes, or an object as a pickle of a protocol, and get what it holds."""

    def run(content, protocol=3, then=None):
        path = tmp_path / "x.pkl"
        path.write_bytes(content if isinstance(content, bytes) else dumped(content, protocol))
        with open_archive(path) as archive:
            return archive.root if then is None else then(archive)

    return run


def four():
    """A storage of four numbers, as tensors pickle theirs."""
    return torch.storage.TypedStorage(wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True)


def tensor_of(archive):
    return archive.tensor(archive.root, "it")


def module_bytes(tmp_path):
    torch.manual_seed(0)
    tensors = {"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3)}
    return dumped({"G_ema": tree(tensors, "Generator", {"z_dim": 4}, filters=False), "D": None})


class TestCodeIsNotRun:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @pytest.mark.parametrize("place", ["root", "state", "kwargs", "key"])
    def test_calls(self, tmp_path, read, protocol, place):
        marker = tmp_path / "ran"
        evil = Call(os.system, f"touch {marker}")
        content = {
            "root": evil,
            "state": {"G_ema": Module("Generator", {"_parameters": {"a": evil}})},
            "kwargs": {"G_ema": Module("Generator", {"_init_kwargs": {"z_dim": evil}})},
            "key": {"G_ema": Module("Generator", {}), "augment_pipe": evil},
        }[place]
        with pytest.raises(SourceError, match=r"x\.pkl: refused, because it names (posix|nt)\.system"):
            read(content, protocol)
        with pytest.raises(SourceError):
            regraft.load(tmp_path / "x.pkl")
        assert not marker.exists()

    @pytest.mark.parametrize(
        "name",
        [
            "builtins\neval",
            "builtins\ngetattr",
            "torch\nload",
            "torch.utils\nFoo",
            "collections\nOrderedDict.fromkeys",
            "torch_utils.persistence\nexec",
            "numpy\nload",
            "copyreg\n_reconstructor",
            "builtins\nset.update",
        ],
    )
    def test_other_names(self, read, name):
        with pytest.raises(SourceError, match="refused, because it names"):
            read(b"\x80\x03c" + name.encode() + b"\n)R.")

    def test_embedded_source_is_dropped(self, tmp_path, read):
        marker = tmp_path / "ran"
        source = f"import os; os.system('touch {marker}')"
        record = read({"G_ema": Module("Generator", {"_parameters": {}}, source)})["G_ema"]
        assert record.class_name == "Generator"
        assert "source" not in repr(record)
        assert "touch" not in repr(record)
        assert not marker.exists()

    def test_nested_stream(self, tmp_path, read):
        """torch's own function for storages would run a full unpickler on these bytes."""
        marker = tmp_path / "ran"
        inner = io.BytesIO()
        torch.save(Call(os.system, f"touch {marker}"), inner, _use_new_zipfile_serialization=False)
        storage = Call(torch.storage._load_from_bytes, inner.getvalue())
        content = Call(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})
        with pytest.raises(SourceError, match=r"refused, because it names (posix|nt)\.system"):
            read(content, then=tensor_of)
        assert not marker.exists()

    def test_things_that_are_no_callables(self, read):
        for content, message in (
            (b"\x80\x03X\x01\x00\x00\x00a)R.", "calls a str"),
            (b"\x80\x03ccollections\nOrderedDict\n)R)R.", "calls a dict"),
            (b"\x80\x03ccollections\nOrderedDict\n}b.", "gives state to a Maker"),
            (b"\x80\x03cnumpy\nndarray\n)R.", "array type that is called"),
            (b"\x80\x03ccollections\nOrderedDict\nccollections\nOrderedDict\n\x85R.", "made from arguments"),
            (b"\x80\x03]}b.", "gives state to a list"),
            (b"\x80\x03U\x01aQ.", "opcode 0x55"),
            (b"\x80\x03)Q.", "persistent reference"),
            (b"\x80\x03\x82\x01.", "opcode 0x82"),
            (b"\x80\x03I1\n.", "opcode 0x49"),
            (b"\x80\x01N.", "protocol 1"),
            (b"\x80\x03})Ns.", "dict key of type tuple"),
        ):
            with pytest.raises(SourceError, match=message):
                read(content)


class TestTensors:
    def rebuilt(self, storage, offset=0, size=(4,), stride=(1,)):
        return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})

    def test_values_and_strides(self, read):
        x = torch.arange(24.0).reshape(2, 3, 4)
        for value in (x, x.permute(2, 0, 1), x[1, :, ::2], x[0, 0, 0], x.double(), x.half(), x.long(), x > 3, x[:0]):
            found = read(value, then=tensor_of)
            assert torch.equal(found, value.float() if value.is_floating_point() else value)
            assert found.is_contiguous()

    @pytest.mark.parametrize(
        ("offset", "size", "stride"),
        [
            (0, (1000,), (1,)),
            (1, (4,), (1,)),
            (0, (4,), (2,)),
            (0, (1000,), (0,)),
            (0, (2, 3), (1, 1)),
            (2**62, (1,), (1,)),
            (0, (2**40, 2**40), (0, 0)),
            (0, (5,), (1,)),
            (0, (2,), (2**62,)),
        ],
    )
    def test_reaching_beyond_the_storage(self, read, offset, size, stride):
        with pytest.raises(SourceError, match="reaches beyond|no short tuple"):
            read(self.rebuilt(four(), offset, size, stride), then=tensor_of)

    @pytest.mark.parametrize(
        ("offset", "size", "stride"),
        [
            (-1, (1,), (1,)),
            (0, (-4,), (1,)),
            (0, (4,), (-1,)),
            (0, (4,), (1, 1)),
            (0, [4], (1,)),
            (0, (1,) * 9, (1,) * 9),
            (0.0, (4,), (1,)),
            (True, (4,), (1,)),
            (None, (4,), (1,)),
        ],
    )
    def test_no_sizes(self, read, offset, size, stride):
        with pytest.raises(SourceError, match="no short tuple|proper storage"):
            read(self.rebuilt(four(), offset, size, stride), then=tensor_of)

    def test_storage_of_another_size_than_said(self, read):
        inner = io.BytesIO()
        torch.save(four(), inner, _use_new_zipfile_serialization=False)
        good = inner.getvalue()
        claim = good.replace(b"K\x04N", b"\x8a\x05\x00\x00\x00\x00\x10N")
        assert claim != good
        for content in (
            claim,
            good[:-4],
            good + b"1234",
            good[:-24] + struct.pack("<q", 2**40) + good[-16:],
            b"",
            b"\x80\x02N.",
        ):
            with pytest.raises(SourceError, match="storage|damaged"):
                read(self.rebuilt(Call(torch.storage._load_from_bytes, content)), then=tensor_of)

    def test_one_storage_many_times(self, read):
        """Memory is bounded by the file although each tensor alone is fine."""
        big = torch.zeros(1 << 20)

        def use(archive):
            for k in range(100):
                archive.tensor(archive.root[0], str(k))

        with pytest.raises(SourceError, match="larger than the file"):
            read([big], then=use)


class TestArrays:
    def test_values(self, read):
        for value in (
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.random.rand(3, 4)),
            np.float32(3.5)[None],
            np.array(7.0),
        ):
            for protocol in (3, 4, 5):
                found = read(value, protocol, then=tensor_of)
                assert np.allclose(found.numpy(), value)
        big_endian = np.arange(5, dtype=">f4")
        assert read(big_endian, then=tensor_of).tolist() == [0, 1, 2, 3, 4]

    def test_scalars(self, read):
        for value in (np.float64(0.25), np.int64(-7), np.bool_(True), np.float16(2)):
            for protocol in (3, 4):
                assert read(value, protocol) == value

    @pytest.mark.parametrize("value", [np.array([{}, []], object), np.array(["a"]), np.zeros(2, "V8"), np.zeros(2, "c8")])
    def test_other_kinds(self, read, value):
        with pytest.raises(SourceError, match="only numbers are read"):
            read(value)

    def test_size_and_bytes_must_agree(self, read):
        good = dumped(np.zeros(3, "u1"))
        assert good.count(b"K\x03\x85") == 1
        with pytest.raises(SourceError, match=r"array of shape \(4,\) and type uint8 holds 3 bytes"):
            read(good.replace(b"K\x03\x85", b"K\x04\x85"))
        with pytest.raises(SourceError, match="no short tuple|holds 3 bytes"):
            read(good.replace(b"K\x03\x85", b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85"))


def bombs():
    """Small files that ask for much."""
    n = 200_000
    yield "deep lists", b"\x80\x03" + b"]" * n + b"a" * (n - 1) + b"."
    yield "deep tuples", b"\x80\x03)" + b"\x85" * n + b"."
    yield "deep marks", b"\x80\x03" + b"(" * n + b"."
    yield "doubling tuples", b"\x80\x03)" + b"2\x86" * n + b"."
    yield "doubling keys", b"\x80\x03})" + b"2\x86" * 100 + b"Ns."
    yield "doubling sets", b"\x80\x03cbuiltins\nset\n)" + b"2\x86" * 100 + b"\x85\x85R."
    yield "memo index", b"\x80\x03Nr\xff\xff\xff\xff."
    yield "long integer", b"\x80\x03\x8b\xff\xff\xff\x7f."
    yield "long integer there", b"\x80\x03\x8b" + struct.pack("<I", n) + b"\x01" * n + b"."
    yield "string", b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00."
    yield "bytes", b"\x80\x03B\xff\xff\xff\xffabc."
    yield "bytearray", b"\x80\x05\x96" + b"\xff" * 7 + b"\x00abc."
    yield "frame", b"\x80\x04\x95" + b"\xff" * 8 + b"N"
    yield "many sets", b"\x80\x04" + b"\x8f" * 3_000_000 + b"."
    yield "many calls", b"\x80\x03ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 800_000 + b"."
    yield (
        "sets of a long list",
        b"\x80\x03cbuiltins\nset\nq\x00](" + b"X\x01\x00\x00\x00a" * n + b"eq\x01" + b"h\x00h\x01\x85R" * n,
    )
    yield (
        "states of a long dict",
        b"\x80\x03}(" + b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(n)) + b"u" + b"2b" * n,
    )
    yield "long name", b"\x80\x03c" + b"a" * n + b"\nb\n."
    yield "no end", b"\x80\x03" + b"N0" * n
    yield "empty stack", b"\x80\x03R"
    yield "self", b"\x80\x03]q\x00h\x00a" + b"."


@pytest.mark.parametrize(("name", "content"), list(bombs()), ids=[name for name, _ in bombs()])
def test_bombs(tmp_path, name, content):
    """Without NVlabs' marker nothing of a file is read at all, so it is put in front."""
    content = content[:2] + RECONSTRUCT + b"0" + content[2:]
    (tmp_path / "x.pkl").write_bytes(content)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(SourceError, match=r"x\.pkl: ") as caught:
        regraft.load(tmp_path / "x.pkl")
    assert len(str(caught.value)) < 600
    assert time.process_time() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (512 << 10) + 2 * len(content) // 1024


def test_shared_modules_do_not_multiply(tmp_path):
    """A tree of 2^30 modules in 60 records, and one that holds itself."""
    inner = Module("Part", {"_parameters": {}, "_buffers": {}, "_modules": {}})
    for _ in range(30):
        inner = Module("Part", {"_parameters": {}, "_buffers": {}, "_modules": {"a": inner, "b": inner}})
    (tmp_path / "x.pkl").write_bytes(dumped({"G_ema": inner}))
    with pytest.raises(SourceError, match="more than 2000 modules or 8 levels"):
        regraft.load(tmp_path / "x.pkl")


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path, keep):
    content = module_bytes(tmp_path)
    (tmp_path / "x.pkl").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SourceError, match=r"x\.pkl"):
        regraft.load(tmp_path / "x.pkl")


def test_mutations(tmp_path):
    """Whatever single bytes are changed: it loads as far as it is sound, or there is one clear error."""
    content = module_bytes(tmp_path)
    rng = np.random.default_rng(0)
    path = tmp_path / "x.pkl"
    messages = []
    for _ in range(600):
        changed = bytearray(content)
        for place in rng.integers(2, len(content), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            with open_archive(path) as archive:
                state = archive.root["G_ema"].state["_modules"]["fc"].state
                for name in ("weight", "bias"):
                    archive.tensor(state["_parameters"][name], name)
        except SourceError as error:
            messages.append(str(error))
    assert all(message.startswith(str(path)) for message in messages)
    assert 50 < len(messages) < 600


def test_limits_are_far_above_real_files():
    """A network of 1024 px takes some 50,000 opcodes and 10,000 calls."""
    assert _pickle_machine.MAX_OPCODES >= 20 * 50_000
    assert _pickle_machine.MAX_CALLS >= 20 * 10_000


def test_plain_pickles_of_others_are_not_claimed(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"G_ema": 3}))
    with pytest.raises(SourceError, match="a pickle, no source that regraft knows"):
        regraft.load(tmp_path / "x.pkl")


def test_modules_stay_unimported(tmp_path):
    import sys

    with nvlabs_modules():
        pass
    path = tmp_path / "x.pkl"
    path.write_bytes(module_bytes(tmp_path))
    with open_archive(path) as archive:
        assert archive.root["D"] is None
    assert "torch_utils" not in sys.modules
    assert "dnnlib" not in sys.modules
