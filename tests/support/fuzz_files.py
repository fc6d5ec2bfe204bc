"""Ways to damage files, and files made to do harm: material for the fuzz tests."""

import argparse
import io
import json
import pickle
import random
import re
import shutil
import struct
import zipfile

import numpy as np
import torch

from regraft.files.containers import LEGACY, ZIP
from regraft.formats import _table
from regraft.formats.base import STUBS, BaseConfig
from support.nvlabs_files import Network, dumped, nvlabs_modules
from support.tensorflow_writer import table
from support.torch_writer import legacy_bytes
from support.zoo_files import zoo_modules


class Canary:
    """Counts what a pickle would call if anything of it were run."""

    sung = 0


def sing(*args):
    """Count a call."""
    Canary.sung += 1
    return args


class Evil:
    """Pickles to a call of the canary."""

    def __reduce__(self):
        return (sing, ("boo",))


EVIL_GLOBALS = [b"fuzz_files\nsing\n", b"os\nsystem\n", b"builtins\neval\n", b"torch\nload\n", b"builtins\nbytearray\n"]
LENGTHS = [0, 1, 127, 255, 256, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]


def mutate(content, rng, other=b""):
    """Damage bytes in one of the ways that disks, networks and enemies do; says how."""
    data = bytearray(content)
    how = rng.choice(["flips", "cut", "splice", "length", "swap", "insert", "text", "global", "repeat", "numbers"])
    if not data:
        return b"\x80", "empty"
    at = rng.randrange(len(data))
    if how == "flips":
        for _ in range(rng.choice([1, 1, 3, 20])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "splice":
        source = other or content
        start = rng.randrange(len(source))
        piece = source[start : start + rng.choice([4, 64, 1024])]
        data[at : at + len(piece)] = piece
    elif how == "length":
        width, order = rng.choice([2, 4, 8]), rng.choice(["little", "big"])
        value = rng.choice(LENGTHS) % (1 << (8 * width))
        data[at : at + width] = value.to_bytes(width, order)
    elif how == "swap":
        end = min(len(data), at + rng.choice([2, 16, 256]))
        data[at:end] = data[at:end][::-1]
    elif how == "insert":
        data[at:at] = rng.randbytes(rng.choice([1, 8, 100]))
    elif how == "text":
        names = [
            n for n in (b"weight", b"bias", b"running_mean", b"layers", b"main", b"kernel", b"outputs", b"shape") if n in data
        ]
        if names:
            data = bytearray(bytes(data).replace(rng.choice(names), rng.choice([b"weighs", b"", b"\xff\xfe", b"a" * 300]), 1))
    elif how == "global":
        place = bytes(data).find(b"c")
        data[place:place] = b"c" + rng.choice(EVIL_GLOBALS) + rng.choice([b")R", b"(X\x02\x00\x00\x00hitR", b""])
    elif how == "repeat":
        piece = bytes(data[at : at + 64])
        data[at:at] = piece * rng.choice([2, 50])
    else:
        digits = [i for i, b in enumerate(data[:20000]) if 48 <= b <= 57]
        for i in rng.sample(digits, min(len(digits), rng.choice([1, 5]))):
            data[i] = rng.choice(b"0123456789-.eE")
    return bytes(data), how


def mutate_json(content, rng):
    """Change the meaning of a JSON: rename, drop, retype and blow up values."""
    tree = json.loads(content)
    spots = []

    def collect(node):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            spots.append((node, key))
            collect(value)

    collect(tree)
    for _ in range(rng.choice([1, 1, 2, 5])):
        node, key = rng.choice(spots)
        if isinstance(node, list) and key >= len(node):
            continue
        if isinstance(node, dict) and rng.random() < 0.3:
            node[f"{key}{rng.choice(['', 's', '.', '__class__'])}"] = node.pop(key, None)
        else:
            node[key] = rng.choice(STRANGE)
    return json.dumps(tree).encode()


def mutate_pickled(content, rng):
    """Rewrite a torch or NVlabs file in a sound container: tensors of other names, shapes, types and orders, other settings."""
    ours = content[:4] == ZIP or content[: len(LEGACY)] == LEGACY
    if ours:
        with torch.serialization.safe_globals(list(STUBS.values())):
            loaded = torch.load(io.BytesIO(content), weights_only=True)
    else:
        with nvlabs_modules():
            loaded = pickle.loads(content)  # noqa: S301 - what was written here
    for _ in range(rng.choice([1, 1, 2, 5])):
        table = rng.choice(list(_tables(loaded)))
        changed = _changed(dict(table), rng)
        table.clear()
        table.update(changed)
    if not ours:
        return dumped(loaded, rng.choice([3, 4, 5]))
    with zoo_modules():
        if rng.random() < 0.3:
            return legacy_bytes(loaded)
        made = io.BytesIO()
        torch.save(loaded, made)
        return made.getvalue()


def _tables(node, depth=0):
    """Every dict with something in it, also those that are an object's fields."""
    if depth > 20 or isinstance(node, torch.Tensor):
        return
    if isinstance(node, dict) and node:
        yield node
    if isinstance(node, Network | argparse.Namespace | BaseConfig):
        yield vars(node)
    for value in node if isinstance(node, list | tuple) else (node if isinstance(node, dict) else vars_of(node)).values():
        yield from _tables(value, depth + 1)


def vars_of(node):
    """An object's fields; none for plain data."""
    return getattr(node, "__dict__", {})


STRANGE = [None, -1, 0, 1 << 40, 1e308, "", "x" * 50, [], {}, [[]], True, [1] * 40, float("nan"), -(1 << 63)]


def _changed(loaded, rng):
    """A dict with one entry changed."""
    names = list(loaded)
    name = rng.choice(names)
    value = loaded[name]
    if not isinstance(value, torch.Tensor):
        if isinstance(value, list) and value and rng.random() < 0.8:
            k = rng.randrange(len(value))
            return {**loaded, name: [*value[:k], *_changed_item(value[k], rng), *value[k + 1 :]]}
        if rng.random() < 0.3:
            return {(f"{k}x" if k == name else k): v for k, v in loaded.items()}
        return {**loaded, name: rng.choice([*STRANGE, 3, {"a": {"b": torch.zeros(2)}}, torch.zeros(3)])}
    options = {
        "drop": lambda: {k: v for k, v in loaded.items() if k != name},
        "rename": lambda: {(f"{k}x" if k == name else k): v for k, v in loaded.items()},
        "shape": lambda: {**loaded, name: torch.zeros([rng.choice([0, 1, 2, 3, 7, 50]) for _ in range(rng.randrange(5))])},
        "type": lambda: {**loaded, name: value.to(rng.choice([torch.float16, torch.int32, torch.bool, torch.complex64]))},
        "nan": lambda: {**loaded, name: torch.full_like(value, float("nan")) if value.is_floating_point() else value},
        "none": lambda: {**loaded, name: rng.choice([None, "weights", 3, [value]])},
        "expand": lambda: {**loaded, name: torch.zeros(1).expand(rng.choice([4, 1 << 20]))},
        "shuffle": lambda: dict(rng.sample(list(loaded.items()), len(loaded))),
        "many": lambda: {**loaded, **{f"{name}.{k}": value for k in range(rng.choice([1, 40]))}},
        "flat": lambda: {**loaded, name: value.flatten()},
        "key": lambda: {**loaded, 3: value},
    }
    return options[rng.choice(list(options))]()


def _changed_item(item, rng):
    """What takes a list's item's place."""
    if not isinstance(item, tuple) or len(item) != 2:
        return rng.choice([[], [item] * 2, [rng.choice(STRANGE)]])
    name, value = item
    shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(5))]
    arrays = [
        np.zeros(shape, "f4"),
        np.zeros(shape, "i8"),
        np.ones(3, object),
        np.zeros(3, "U5"),
        np.float32(2),
        rng.choice(STRANGE),
    ]
    return rng.choice([[], [item] * 2, [(f"{name}x", value)], [(rng.choice(STRANGE), value)], [(name, rng.choice(arrays))]])


def mutate_table(path, rng):
    """Damage entries of a TensorFlow table that is itself sound, checksums included."""
    entries = [(bytes(key), bytes(value)) for key, value in _table.entries(path)]
    for _ in range(rng.choice([1, 1, 3])):
        k = rng.randrange(len(entries))
        key, value = entries[k]
        if rng.random() < 0.2:
            key = mutate(key, rng, rng.choice(entries)[0])[0]
        else:
            value = mutate(value, rng, rng.choice(entries)[1])[0]
        entries[k] = key, value
    return table(dict(entries).items(), snappy=rng.random() < 0.3)


def hostile_files(folder):
    """Files made to run code or to take memory or time, by name; each must be refused."""
    evil = {"weight": Evil()}
    torch.save(evil, folder / "evil-zip.pth")
    torch.save(evil, folder / "evil-legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(_tower(14), folder / "tower_G.pth")
    torch.save(_tower(11, kernels=(4, 3)), folder / "pair_G.pth")
    torch.save(_tower(24, norm=False), folder / "pair_D.pth")
    torch.save({f"{k}.weight": torch.zeros(1, 1, 3, 3) for k in range(5000)}, folder / "thousands_G.pth")
    (folder / "evil.pkl").write_bytes(pickle.dumps(evil))
    for name, payload in _hostile_pickles().items():
        with zipfile.ZipFile(folder / f"{name}.pth", "w") as archive:
            archive.writestr("x/data.pkl", payload)
            archive.writestr("x/data/0", b"\0" * 64)
            archive.writestr("x/version", b"3\n")
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", _tensor_pickle(numel=1 << 25, size=[1 << 25]))
        with archive.open("x/data/0", "w", force_zip64=True) as member:
            for _ in range(1 << 7):
                member.write(bytes(1 << 20))
    _overlapping(folder / "overlap.pth")
    with zipfile.ZipFile(folder / "many.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/version", b"3\n")
        for k in range(20_000):
            archive.writestr(f"x/data/{k}", b"")
    with zipfile.ZipFile(folder / "twice.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("X/DATA.PKL", pickle.dumps(evil, 2))
    legacy = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    content = legacy.getvalue()
    longer, found = re.subn(rb"(cpuq.)K\x03", lambda hit: hit[1] + b"J\xff\xff\xff\x7f", content)
    assert found == 1
    (folder / "legacy-storage.pth").write_bytes(longer)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (folder / "long.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", (1 << 27) - 1) + b"{" + b" " * 100)
    deep = b'{"a":' + b"[" * 200_000
    (folder / "deep.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    laughs = "regraft_card: 1\na: &a [x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 8)}]\n" for k in range(20))
    (folder / "laughs.yaml").write_text(laughs + "generator: g.bin\n")
    (folder / "deep.yaml").write_text("regraft_card: 1\ngenerator: " + "[" * 100_000)
    (folder / "object.yaml").write_text("regraft_card: 1\ngenerator: !!python/object/apply:fuzz_files.sing [1]\n")
    (folder / "long.yaml").write_text("regraft_card: 1\n" + "x: 1\n" * 1_000_000)
    for name, record in {"json-deep": "[" * 300_000, "json-long": "[" + "{}," * 2_000_000 + "{}]"}.items():
        (folder / name).mkdir()
        (folder / name / "source.json").write_text(record)
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _tower(layers, norm=True, kernels=(4,)):
    """Many layers of one channel: a small file that describes large images, and leaves much to search for."""
    made = {}
    for k in range(layers):
        side = kernels[k % len(kernels)]
        made[f"{3 * k}.weight"] = torch.randn(6 if k == 0 and norm else 1, 1, side, side)
        if norm and k < layers - 1:
            made |= {f"{3 * k + 1}.{leaf}": torch.ones(1) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return made


def _tensor_pickle(numel=16, size=(16,), stride=(1,), offset=0, kind=b"ctorch\nFloatStorage\n"):
    def number(n):
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    storage = b"(X\x07\x00\x00\x00storage" + kind + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(numel) + b"tQ"
    shape, strides = (b"(" + b"".join(map(number, n)) + b"t" for n in (size, stride))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + shape + strides
    return b"\x80\x02}X\x06\x00\x00\x00weight" + tensor + b"\x89ccollections\nOrderedDict\n)RtRs."


def _hostile_pickles():
    nested = b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
    return {
        "beyond-record": _tensor_pickle(numel=1 << 30, size=[1 << 30]),
        "beyond-storage": _tensor_pickle(size=[1000]),
        "offset": _tensor_pickle(offset=17),
        "negative-stride": _tensor_pickle(stride=[-1]),
        "expanded": _tensor_pickle(size=[1 << 34], stride=[0]),
        "huge-storage": _tensor_pickle(numel=1 << 60, size=[4]),
        "made-storage": b"\x80\x02ctorch\nFloatStorage\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        "bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        "sparse": b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.",
        "hash-bomb": nested,
        "memo": b"\x80\x02}r\xff\xff\xff\xff.",
        "long-string": b"\x80\x02X\xff\xff\xff\xff.",
        "endless": b"\x80\x02" + b"}0" * 10,
        "marks": b"\x80\x02" + b"(" * 2_100_000 + b".",
        "system": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00trueq\x00\x85R.",
        "canary": b"\x80\x02cfuzz_files\nsing\n)R.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\nctorch\nload\nX\x08\x00\x00\x00__call__\x86R.",
    }


def _overlapping(path):
    """Two names for the same bytes, as in bombs whose members share their content."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/data/0", b"\0" * 4096)
        info = archive.getinfo("x/data/0")
        for k in range(1, 50):
            twin = zipfile.ZipInfo(f"x/data/{k}")
            twin.header_offset, twin.file_size, twin.compress_size, twin.CRC = info.header_offset, 4096, 4096, info.CRC
            archive.filelist.append(twin)


def damaged_source(template, rng, folder):
    """A copy of a template with one of its files damaged; returns what to open and how it was damaged."""
    _, source, opened = template
    shutil.copytree(source, folder)
    opened = folder / opened
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    victim = rng.choice(files)
    content = victim.read_bytes()
    kind = rng.random()
    if victim.suffix == ".json" and kind < 0.7:
        made, how = mutate_json(content, rng), "json"
    elif victim.suffix in (".pth", ".pt", ".bin", ".pkl") and kind < 0.4:
        made, how = mutate_pickled(content, rng), "tensors"
    elif kind < 0.6 and _table.is_table(victim):
        made, how = mutate_table(victim, rng), "table"
    else:
        made, how = content, ""
        for _ in range(rng.choice([1, 1, 1, 3])):
            made, step = mutate(made, rng, rng.choice(files).read_bytes())
            how += ("+" if how else "") + step
    victim.write_bytes(made)
    return opened, f"{victim.name}: {how}"


def seeded(seed):
    """A generator of random choices that is the same on every machine."""
    return random.Random(f"fuzz {seed}")
