"""Tiny valid files of every format, and ways to damage them: material for the fuzz tests.

``WRITERS`` maps a format's name (its file in ``regraft/formats``) to a function that writes one source of random weights into
an empty folder and returns what to open.  A new format adds its writer here; ``test_fuzz_formats.py`` insists on it.
"""

import io
import json
import pathlib
import pickle
import random
import re
import shutil
import struct
import zipfile

import torch
import yaml

import regraft
from conftest import toy_gan


def dcgan_tensors(role):
    """A small DCGAN under the names that an ``nn.Sequential`` gives."""
    network = getattr(toy_gan(size=16, width=4, latent_dim=6), role)
    made = {}
    for name, value in network.state_dict().items():
        _, index, part, leaf = name.split(".")
        made[f"main.{3 * int(index) + (part == 'norm')}.{leaf}"] = value
    return made


def legacy_bytes(value):
    """torch's container before 1.6, with storages numbered in order.

    torch's own writer names and sorts them by their addresses, so that no two processes would write the same bytes.
    """
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, torch.storage.TypedStorage):
                return None
            key, _ = storages.setdefault(item._untyped_storage._cdata, (str(len(storages)), item))
            return "storage", getattr(torch, item._pickle_storage_type()), key, "cpu", item._size(), None

    made = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    for head in (
        torch.serialization.MAGIC_NUMBER,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes},
    ):
        pickle.dump(head, made, 2)
    Pickler(made, 2).dump(value)
    pickle.dump([key for key, _ in storages.values()], made, 2)
    for _, storage in storages.values():
        made.write(struct.pack("<q", storage._size()) + bytes(storage._untyped_storage.tolist()))
    return made.getvalue()


def write_native(folder):
    return regraft.convert(toy_gan(n_classes=3), folder / "source")


def write_card(folder):
    torch.save(dcgan_tensors("generator"), folder / "g.bin")
    (folder / "d.bin").write_bytes(legacy_bytes({"netD": dcgan_tensors("critic"), "epoch": 3}))
    card = {
        "regraft_card": 1, "name": "fuzz", "generator": "g.bin", "critic": {"file": "d.bin", "key": "netD", "slope": 0.2},
        "latent": {"distribution": "normal"}, "size": [16, 16], "licence": "MIT",
    }  # fmt: skip
    (folder / "source.yaml").write_text(yaml.safe_dump(card))
    return folder


def write_state_dict(folder):
    torch.save(dcgan_tensors("generator"), folder / "netG.pth")
    torch.save(dcgan_tensors("critic"), folder / "netD.pth")
    return folder / "netG.pth"


def write_legacy(folder):
    nested = {"netG": dcgan_tensors("generator"), "netD": dcgan_tensors("critic"), "step": 7}
    (folder / "both.pth").write_bytes(legacy_bytes(nested))
    return folder / "both.pth"


def write_safetensors(folder):
    from safetensors.torch import save_file

    save_file(dcgan_tensors("generator"), folder / "generator.safetensors")
    save_file(dcgan_tensors("critic"), folder / "discriminator.safetensors")
    return folder / "generator.safetensors"


WRITERS = {
    "native": [write_native],
    "card": [write_card],
    "state_dict": [write_state_dict, write_legacy, write_safetensors],
}


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
        strange = [None, -1, 0, 1 << 40, 1e308, "", "x" * 50, [], {}, [[]], True, [1] * 40, float("nan"), -(1 << 63)]
        if isinstance(node, dict) and rng.random() < 0.3:
            node[f"{key}{rng.choice(['', 's', '.', '__class__'])}"] = node.pop(key, None)
        else:
            node[key] = rng.choice(strange)
    return json.dumps(tree).encode()


def mutate_pickled(content, rng):
    """Rewrite a torch file's tensors: other names, shapes, types and orders, in a sound container."""
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    changed = _changed(loaded, rng)
    if rng.random() < 0.3:
        return legacy_bytes(changed)
    made = io.BytesIO()
    torch.save(changed, made)
    return made.getvalue()


def _changed(loaded, rng):
    if not isinstance(loaded, dict) or not loaded:
        return [loaded]
    names = list(loaded)
    name = rng.choice(names)
    value = loaded[name]
    if isinstance(value, dict) and rng.random() < 0.8:
        return {**loaded, name: _changed(value, rng)}
    if not isinstance(value, torch.Tensor):
        return {**loaded, name: rng.choice([{}, None, "x", 3, {"a": {"b": torch.zeros(2)}}])}
    options = {
        "drop": lambda: {k: v for k, v in loaded.items() if k != name},
        "rename": lambda: {(k + "x" if k == name else k): v for k, v in loaded.items()},
        "shape": lambda: {**loaded, name: torch.zeros([rng.choice([0, 1, 2, 3, 7, 512]) for _ in range(rng.randrange(5))])},
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


def templates(folder):
    """Every writer's source once, as (format, folder, what to open in it)."""
    made = []
    for form, writers in sorted(WRITERS.items()):
        for writer in writers:
            own = folder / writer.__name__
            own.mkdir(parents=True)
            made.append((form, own, pathlib.Path(writer(own)).relative_to(own)))
    return made


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
    elif victim.suffix in (".pth", ".bin") and kind < 0.4:
        made, how = mutate_pickled(content, rng), "tensors"
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
