"""What lies beside weights: bookkeeping of any kind refuses no file, and nothing of it ever runs."""

import argparse
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import os
import pathlib
import pickle
import random
import struct
import types
import uuid
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from regraft.core.errors import SourceError
from regraft.files.inert import Placeholder
from regraft.files.nvlabs_pickles import open_archive
from regraft.files.weights import load_torch


class Colour(enum.Enum):
    RED = 1


class Flags(enum.Flag):
    A = 1
    B = 2


class EasyDict(dict):
    def __getattr__(self, name):
        return self[name]


class AttributeDict(dict):
    def __init__(self, **values):
        super().__init__(**values)
        self.__dict__ = self


class History(list):
    pass


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 1


class Holder:
    def __init__(self):
        self.module, self.tensor = nn.Linear(2, 2), torch.zeros(3)


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


Pair = collections.namedtuple("Pair", "a b")


def function():
    """A function by name, which is never called."""
    raise AssertionError("called")


def optimiser():
    return torch.optim.Adam(nn.Linear(2, 2).parameters())


BESIDE = {
    "numbers": lambda: [
        np.float64(3),
        np.float32(2),
        np.int64(3),
        np.bool_(True),
        np.complex64(1j),
        np.datetime64("2020-01-01"),
    ],
    "arrays": lambda: [np.arange(5), np.array(["a"]), np.array([{}, []], object), np.array([1.0], ">f4")],
    "records": lambda: [np.zeros(2, dtype=[("a", "f4")]), np.ma.array([1, 2], mask=[0, 1])],
    "types": lambda: [np.float32, np.dtype("f4"), int, type(None), ..., nn.Linear, function, torch.float16],
    "random states": lambda: [np.random.get_state(), np.random.RandomState(0), np.random.default_rng(0), random.getstate()],
    "torch states": lambda: [torch.get_rng_state(), torch.Generator(), torch.device("cuda:0"), torch.Size([1]), torch.strided],
    "paths": lambda: [pathlib.PurePosixPath("a/b"), pathlib.Path("x"), pathlib.PureWindowsPath("c:/x")],
    "collections": lambda: [collections.defaultdict(list, a=[1]), collections.deque([1], maxlen=2), collections.ChainMap({})],
    "factory that is a function": lambda: collections.defaultdict(function, a=1),
    "namespaces": lambda: [argparse.Namespace(f=function, p=pathlib.Path("x")), types.SimpleNamespace(a=1)],
    "times": lambda: [datetime.datetime.now(datetime.UTC), datetime.timedelta(1), datetime.date.today()],
    "numbers of other kinds": lambda: [uuid.uuid4(), decimal.Decimal("1.5"), 1 + 2j, range(3), slice(1), 1 << 200],
    "enumerations": lambda: [Colour.RED, Flags.A | Flags.B],
    "mappings of others": lambda: [EasyDict(a=1), AttributeDict(a=1, b=AttributeDict(c=2)), EasyDict()],
    "lists of others": lambda: [History([1, 2]), History(), Pair(1, 2), Settings(), Slots(), Holder()],
    "bytes": lambda: [b"abc", bytearray(b"abc"), bytearray(), ValueError("x"), functools.partial(function, 1)],
    "sets": lambda: [frozenset([1]), {1, "a", (1, 2)}, {np.int64(3)}],
    "keys": lambda: {
        np.int64(3): 1,
        pathlib.PurePosixPath("a"): 2,
        (1, "2"): 3,
        None: 4,
        1.5: 5,
        Colour.RED: 6,
        torch.float32: 7,
    },
    "training": lambda: [optimiser(), optimiser().state_dict(), torch.optim.lr_scheduler.StepLR(optimiser(), 1)],
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", BESIDE)
def test_torch_files(tmp_path, kind, legacy):
    content = {"netG": {"w": torch.arange(3.0)}, "beside": BESIDE[kind](), "deep": [{"x": (BESIDE[kind](),)}], "epoch": 3}
    if legacy and kind in ("types", "lists of others"):  # the old container writes modules' source code beside them
        content["beside"], content["deep"] = BESIDE["paths"](), []
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = load_torch(path, {"argparse.Namespace": argparse.Namespace})
    assert torch.equal(found["netG"]["w"], torch.arange(3.0))
    assert found["epoch"] == 3


def test_what_is_plain_enough_keeps_its_value(tmp_path):
    content = {
        "w": torch.ones(1),
        "numbers": [np.float64(0.1), np.float16(2), np.int64(-3), np.uint8(200), np.bool_(True)],
        "default": collections.defaultdict(list, a=[1]),
        "queue": collections.deque([1, 2]),
        "mapping": EasyDict(a=np.int32(4)),
    }
    torch.save(content, tmp_path / "x.pth")
    found = load_torch(tmp_path / "x.pth", {})
    assert found["numbers"] == [0.1, 2, -3, 200, True]
    assert (found["default"], found["queue"], found["mapping"]) == ({"a": [1]}, [1, 2], {"a": 4})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", [k for k in BESIDE if k not in ("torch states", "lists of others", "training")])
def test_plain_pickles(tmp_path, kind, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"beside": BESIDE[kind](), "deep": [{"x": (BESIDE[kind](),)}], "epoch": 3}, protocol))
    with open_archive(path) as archive:
        assert archive.root["epoch"] == 3


def test_numpy_of_both_names_is_known(tmp_path):
    """NumPy 2 calls its insides numpy._core, NumPy 1 numpy.core; files of both are about."""
    for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        content = pickle.dumps({"a": np.float64(2), "b": np.arange(3)}, 3).replace(old, new)
        (tmp_path / "x.pkl").write_bytes(content)
        with open_archive(tmp_path / "x.pkl") as archive:
            assert archive.root["a"] == 2
            assert archive.tensor(archive.root["b"], "b").tolist() == [0, 1, 2]


class Call:
    """Pickles as a call, with state, items and pairs to follow."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


RAN = []


def run(*arguments):
    """What no file may call."""
    RAN.append(arguments)
    return Ran()


class Ran:
    def __setstate__(self, state):
        RAN.append(state)

    def __setitem__(self, key, value):
        RAN.append(key)

    def extend(self, items):
        RAN.append(items)

    append = extend

    def __hash__(self):
        RAN.append("hash")
        return 0


def again():
    evil = Call(run, (1,))
    return [evil, evil, {"x": (evil,)}]


HOSTILE = {
    "call": lambda: Call(run, ("boo",)),
    "call with state": lambda: Call(run, (), {"a": 1}),
    "call with a state that is no mapping": lambda: Call(run, (), (1, Call(run, ()))),
    "call with items": lambda: Call(run, (), None, iter([1, Call(run, ())])),
    "call with pairs": lambda: Call(run, (), None, None, iter([("a", Call(run, ()))])),
    "class with __setstate__": lambda: Call(Ran, (), {"__class__": run, "__setstate__": run}),
    "nested": lambda: Call(run, (Call(run, (Call(run, ()),)),)),
    "memoised": again,
    "in NumPy's place": lambda: Call(np.dtype, (Call(run, ()), run, run)),
    "in an array's place": lambda: Call(np.float64(1).__reduce__()[0], (np.dtype("f8"), Call(run, ()))),
    "in a path": lambda: Call(pathlib.PurePosixPath, (Call(run, ()), "x")),
    "factory": lambda: Call(collections.defaultdict, (run,), None, None, iter([("a", 1)])),
    "factory that a call made": lambda: Call(collections.defaultdict, (Call(run, ()),)),
    "namespace": lambda: argparse.Namespace(a=Call(run, ()), __setstate__=run, __dict__={"x": run}),
    "key": lambda: {Call(run, ()): 1},
    "set": lambda: {1: Call(set, ([Call(run, ())],))},
    "attribute": lambda: Call(getattr, (run, "__call__")),
    "partial": lambda: Call(functools.partial, (run, 1)),
    "state of a container": lambda: Call(collections.OrderedDict, (), {"__reduce__": run}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_beside_weights_runs(tmp_path, kind):
    RAN.clear()
    made = HOSTILE[kind]()
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth"
        torch.save({"netG": {"w": torch.ones(2)}, "beside": made}, path, _use_new_zipfile_serialization=not legacy)
        loaded_or_refused(lambda: load_torch(path, {"argparse.Namespace": argparse.Namespace}))  # noqa: B023
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"beside": made}, protocol))
        loaded_or_refused(lambda: open_archive(path).__enter__())  # noqa: B023
    assert not RAN


def loaded_or_refused(read):
    with contextlib.suppress(SourceError):
        read()


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, open, __import__, torch.load, pickle.loads, print, os.remove, setattr, struct.unpack]
)
def test_what_acts_is_refused_wherever_it_stands(tmp_path, function):
    beside = Call(function, ("touch ran",))
    torch.save({"netG": {"w": torch.ones(2)}, "deep": [(beside,)]}, tmp_path / "x.pth")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"deep": [(beside,)]}))
    if function is struct.unpack:  # unknown, and not among what acts: passed over, and not called with these arguments
        assert isinstance(load_torch(tmp_path / "x.pth", {})["deep"][0][0], Placeholder)
        return
    with pytest.raises(SourceError, match=r"refused, .* \(GLOBAL "):
        load_torch(tmp_path / "x.pth", {})
    with pytest.raises(SourceError, match="refused, because it names"), open_archive(tmp_path / "x.pkl"):
        pass


def test_unknown_types_in_place_of_weights_are_refused(tmp_path):
    for content in (Holder(), nn.Linear(2, 2), {"weight": Call(run, ())}, [Settings()]):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(SourceError, match="refused, because it holds more than tensors and plain data"):
            load_torch(tmp_path / "x.pth", {})


def test_what_torch_would_call_by_itself_is_never_passed_over(tmp_path):
    """torch's own list of callables comes before stand-ins, so each of its names must be refused or looked at here."""
    from torch._weights_only_unpickler import _get_allowed_globals

    for name in _get_allowed_globals():
        module, _, last = name.rpartition(".")
        for arguments in (b")", b"X\x01\x00\x00\x00a\x85", b"J\xff\xff\xff\x7f\x85", b"]]\x86"):
            data = b"\x80\x02}(X\x01\x00\x00\x00xc" + f"{module}\n{last}\n".encode() + arguments + b"Ru."
            with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
                archive.writestr("x/data.pkl", data)
            try:
                found = load_torch(tmp_path / "x.pth", {})["x"]
            except SourceError:
                continue
            assert isinstance(found, torch.Size | torch.device | bytearray | dict | set | complex | torch.layout), name
            assert not isinstance(found, bytearray) or len(found) == 0
