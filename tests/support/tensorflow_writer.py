"""TensorFlow checkpoints written by hand, small enough to read: tables, bundles (V2) and single files (V1)."""

import struct

import numpy as np

MAGIC = bytes.fromhex("57fb808b247547db")


def number(n):
    """A varint."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(k, value):
    """A protocol buffer's field: a number or bytes."""
    return number(k << 3) + number(value) if isinstance(value, int) else number(k << 3 | 2) + number(len(value)) + value


def crc(data):
    """Masked CRC-32C, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def literal(data):
    """A snappy stream of literals and, for runs of one byte, copies."""
    out = bytearray(number(len(data)))
    at = 0
    while at < len(data):
        run = 1
        while at + run < len(data) and run < 61 and data[at + run] == data[at]:
            run += 1
        if run > 8:
            out += bytes([0, data[at], (run - 2) << 2 | 2, 1, 0])  # one literal, then a copy from one byte back
            at += run
        else:
            piece = data[at : at + 200]
            stop = next((k for k in range(len(piece) - 9) if len(set(piece[k : k + 9])) == 1), len(piece))
            piece = piece[: max(stop, 1)]
            out += bytes([60 << 2, len(piece) - 1]) + piece
            at += len(piece)
    return bytes(out)


def pairs(entries, restart=16):
    """A block: keys by what they share with the one before."""
    out, before, restarts = bytearray(), b"", []
    for k, (key, value) in enumerate(entries):
        shared = 0
        if k % restart == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + b"".join(struct.pack("<I", r) for r in restarts) + struct.pack("<I", len(restarts))


def table(entries, per_block=5, snappy=False):
    """A whole table of sorted entries."""
    out, index = bytearray(), []

    def block(content, compress=False):
        content, kind = (literal(content), 1) if compress else (content, 0)
        handle = number(len(out)) + number(len(content))
        out.extend(content + bytes([kind]) + struct.pack("<I", crc(content + bytes([kind]))))
        return handle

    entries = sorted(entries)
    for start in range(0, len(entries), per_block):
        part = entries[start : start + per_block]
        index.append((part[-1][0], block(pairs(part), snappy)))
    footer = block(pairs([])) + block(pairs(index, restart=1))
    return bytes(out) + footer + bytes(40 - len(footer)) + MAGIC


def shape(array):
    return b"".join(field(2, field(1, int(n))) for n in array.shape)


def write_bundle(prefix, tensors, shards=1, **options):
    """``prefix.index`` and its data files."""
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    for k, (name, array) in enumerate(tensors.items()):
        kinds = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}
        content, shard = array.tobytes(), k % shards
        entry = field(1, kinds[str(array.dtype)]) + field(2, shape(array)) + (field(3, shard) if shard else b"")
        entry += (field(4, len(data[shard])) if data[shard] else b"") + field(5, len(content))
        entries.append(
            (name.encode(), entry + number(6 << 3 | 5) + struct.pack("<I", crc(content) if len(content) < 1 << 17 else 0))
        )
        data[shard] += content
    for k, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{k:05d}-of-{shards:05d}").write_bytes(content)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(table(entries, **options))
    return index


def write_single(path, tensors, **options):
    """A V1 file."""
    names = sorted(tensors)
    full = {n: field(4, b"".join(field(1, b"") for _ in tensors[n].shape)) for n in names}
    meta = [field(1, field(1, n.encode()) + field(2, shape(tensors[n])) + field(3, 1) + full[n]) for n in names]
    entries = [(b"", field(1, b"".join(meta)))]
    for n in names:
        content = field(1, 1) + field(5, np.ascontiguousarray(tensors[n], "<f4").tobytes())
        entries.append((b"\0\1" + n.encode(), field(2, field(1, n.encode()) + field(3, content))))
    path.write_bytes(table(entries, **options))
    return path
