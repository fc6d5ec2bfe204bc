"""Ways to damage containers of images: their bytes, what they hold packed, and the lengths that they state."""

import bz2
import gzip
import io
import lzma
import shutil
import struct
import tarfile
import zipfile

from regraft.core.errors import RegraftError
from regraft.data.opening import open_images
from support.fuzz_files import LENGTHS, mutate

PACKERS = {
    "gz": (gzip.decompress, gzip.compress),
    "bz2": (bz2.decompress, bz2.compress),
    "xz": (lzma.decompress, lzma.compress),
}


def damaged_container(template, rng, folder):
    """A copy of a data set with one of its files damaged; returns what to open and how it was damaged."""
    _, source, opened = template
    shutil.copytree(source, folder)
    victim = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    content = victim.read_bytes()
    inner = _inner(victim.name, content, rng) if rng.random() < 0.5 else None
    if inner is not None:
        made, how = inner
    else:
        made, how = content, ""
        for _ in range(rng.choice([1, 1, 1, 3])):
            made, step = mutate(made, rng) if rng.random() < 0.8 else lengths_changed(made, rng)
            how += ("+" if how else "") + step
    victim.write_bytes(made)
    return folder / opened, f"{victim.name}: {how}"


def lengths_changed(content, rng):
    """Replace numbers that could be sizes of something in the file, wherever they stand in its first or last bytes."""
    data = bytearray(content)
    if len(data) < 8:
        return bytes(data), "short"
    for _ in range(rng.choice([1, 2, 4])):
        width, order = rng.choice([1, 2, 4, 8]), rng.choice("<>")
        near = min(len(data) - width, rng.choice([16, 128, 1024]))
        at = rng.randrange(max(1, near)) if rng.random() < 0.6 else len(data) - width - rng.randrange(max(1, near))
        value = rng.choice([*LENGTHS, len(data), rng.randrange(1 << 16)]) % (1 << (8 * width))
        data[at : at + width] = value.to_bytes(width, "little" if order == "<" else "big")
    return bytes(data), "lengths"


def _inner(name, content, rng):
    """Damage what a file holds, in a sound container; None if it is no container of that kind."""
    suffix = name.rpartition(".")[2]
    if suffix in PACKERS:
        unpack, pack = PACKERS[suffix]
        inner, how = _tar(unpack(content), rng) if ".tar." in name else mutate(unpack(content), rng)
        return pack(inner), f"inside {how}"
    if suffix in ("zip", "npz", "pt"):
        return _zip(content, rng)
    if suffix == "tar":
        return _tar(content, rng)
    return None


def _zip(content, rng):
    """Rewrite a zip archive with one of its files damaged, or named oddly."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    k = rng.randrange(len(entries))
    name, data = entries[k]
    if rng.random() < 0.2:
        entries[k] = (rng.choice(["../../x.png", "/x.png", "", "a" * 300, name.upper(), "x.npy", "\u202e.png"]), data)
        how = "name"
    else:
        data, how = mutate(data, rng)
        entries[k] = (name, data)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for entry, data in entries:
            archive.writestr(zipfile.ZipInfo(entry), data)
    return made.getvalue(), f"inside {name}: {how}"


def _tar(content, rng):
    """Change a header of a tar archive and correct its sum, or damage one of its files."""
    data = bytearray(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
    member = rng.choice(members)
    start = member.offset
    if rng.random() < 0.4:
        piece, how = mutate(bytes(data[member.offset_data : member.offset_data + member.size]), rng)
        piece = piece[: member.size].ljust(member.size, b"\0")
        data[member.offset_data : member.offset_data + member.size] = piece
        return bytes(data), f"{member.name}: {how}"
    field, width, values = rng.choice(
        [
            (124, 12, [b"77777777777\0", b"00000000000\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"x" * 12]),
            (156, 1, [b"1", b"2", b"5", b"x", b"g", b"L", b"K", b"S", b"V", b"\0"]),
            (157, 100, [b"../../../etc/passwd", b"/", member.name.encode()]),
            (0, 100, [b"../../x.png", b"/x.png", b"", b"\xff\xfe.png", b"a" * 100]),
        ]
    )
    value = rng.choice(values)
    data[start + field : start + field + width] = value[:width].ljust(width, b"\0")
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    return bytes(data), f"header of {member.name}: {field}={value[:12]!r}"


def outcome(opened, folder):
    """What came of opening and reading a set: read, refused, or an error that is none of regraft's own (raised)."""
    try:
        open_images(opened).decode((8, 8), 3, on_bad="skip")
    except RegraftError as error:
        message = str(error)
        return "refused" if folder in message and len(message) < 3000 else f"unclear: {message[:300]}"
    return "loaded"


def arrow_bomb(path):
    """An Arrow file whose few compressed bytes say that they hold 4 GB."""
    import pyarrow
    import pyarrow.feather

    rows = pyarrow.table({"image": pyarrow.array([b"x" * 100_000])})
    pyarrow.feather.write_feather(rows, path, compression="zstd")
    content = path.read_bytes()
    assert content.count(struct.pack("<q", 100_000)) > 0
    path.write_bytes(content.replace(struct.pack("<q", 100_000), struct.pack("<q", 4 << 30)))
    return path
