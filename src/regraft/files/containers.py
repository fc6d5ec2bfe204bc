"""Check the containers of ``torch.save`` and safetensors before a library opens them: nothing may be larger than the file.

A reader that believes a declared size can be made to allocate anything.  Both readers of a zip file, Python's and torch's,
must also see the same members, so only archives that end in their directory, as torch writes them, are taken.
"""

import contextlib
import dataclasses
import io
import mmap
import pathlib
import struct
import zipfile
from collections.abc import Collection, Iterator

import safetensors.torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.files.byte_reader import Reader
from regraft.files.torch_pickles import MAX_PICKLE, MAX_TENSORS, PickleChecker, Totals

ZIP = b"PK\x03\x04"
# Pickle protocol 2 holding torch's magic number as a long integer.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
MAX_DIRECTORY = 16 << 20
MAX_HEADER = 16 << 20
SPARE = 64 << 20
"""Bytes that a file of any size may ask for beyond a multiple of its own."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in a zip archive.

    Attributes:
        name: in the archive.
        start: where its bytes begin.
        size: bytes when unpacked.
        compressed: whether they are compressed.
    """

    name: str
    start: int
    size: int
    compressed: bool


def check_torch_file(path: pathlib.Path, stubs: Collection[str]) -> tuple[bool, PickleChecker]:
    """Refuse a ``torch.save`` file that would run code or ask for more memory than its size accounts for.

    Args:
        path: the file.
        stubs: full names of harmless classes that it may hold.

    Returns:
        Whether its tensors can be used where they lie in the file (a memory map), and what checked its pickle, which knows
        the types that nothing is to be kept of.

    Raises:
        SourceError: naming what is wrong with it.
    """
    with _mapped(path) as content:
        if content[:4] == ZIP:
            return _check_zip(path, content, stubs)
        if content[: len(LEGACY)] == LEGACY:
            return False, _check_legacy(path, content, stubs)
    raise SourceError(f"{path}: is no torch file")


@contextlib.contextmanager
def _mapped(path: pathlib.Path) -> Iterator[mmap.mmap]:
    """A file's content, mapped into memory for reading."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise SourceError(f"{path}: cannot be read ({error})") from None
    with content:
        yield content


def is_torch_zip(path: pathlib.Path) -> bool:
    """Whether a zip archive holds a torch pickle; never raises."""
    try:
        with _mapped(path) as content:
            # Where the directory is cut off or made up, the first member tells, and reading it says what is wrong.
            return b"/data.pkl" in content[:300] or any(n.endswith("/data.pkl") for n in members(path, content))
    except SourceError:
        return False


def pickle_head(path: pathlib.Path, most: int = 4 << 20) -> bytes:
    """The first bytes of a torch file's pickle, or of any other file; empty if it cannot be read, never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(most)
        if not head.startswith(ZIP):
            return head
        with zipfile.ZipFile(path) as archive:
            entry = next((e for e in archive.infolist() if e.filename.endswith("data.pkl")), None)
            if entry is None:
                return b""
            with archive.open(entry) as stream:
                return stream.read(most)
    except Exception:  # noqa: BLE001 - zipfile raises many kinds for damaged archives
        return b""


def members(path: pathlib.Path, content: mmap.mmap) -> dict[str, Member]:
    """The members of a zip archive by name in lower case, checked against the file's size and against each other.

    Raises:
        SourceError: if the directory is not at the end, or members overlap, repeat or expand too much.
    """
    directory = _directory_start(path, content)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # noqa: BLE001 - zipfile raises many kinds for a damaged directory
        raise _damaged(path, str(error)) from None
    checked: dict[str, Member] = {}
    upto = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        name, offset = info.filename[:60], info.header_offset
        header = content[offset : offset + 30] if offset >= upto else b""
        if len(header) < 30 or header[:4] != ZIP:
            raise _damaged(path, f"member {name} overlaps another or lies outside the file")
        start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        upto = start + info.compress_size
        if upto > directory:
            raise _damaged(path, f"member {name} goes beyond the end")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _damaged(path, f"member {name} is encrypted or compressed in an unusual way")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise _damaged(path, f"member {name} has two sizes")
        key = info.filename.lower()  # torch looks names up without regard to case
        if key in checked:
            raise _damaged(path, f"two members are called {name}")
        checked[key] = Member(info.filename, start, info.file_size, info.compress_type != zipfile.ZIP_STORED)
    if sum(m.size for m in checked.values()) > len(content) + SPARE:
        raise _damaged(path, "its compressed members expand to far more than the file; torch stores them uncompressed")
    return checked


def _directory_start(path: pathlib.Path, content: mmap.mmap) -> int:
    """Where the directory begins; it must reach from there to the end records, and these to the end of the file."""
    end = len(content) - 22
    record = content[end:] if end >= 0 else b""
    if record[:4] != b"PK\x05\x06" or record[20:22] != b"\0\0":
        raise _damaged(path, "its directory is not at its end")
    size, start = struct.unpack("<II", record[12:20])
    if end >= 76 and content[end - 20 : end - 16] == b"PK\x06\x07":
        end -= 76
        if content[end : end + 4] != b"PK\x06\x06" or struct.unpack("<Q", content[end + 64 : end + 72])[0] != end:
            raise _damaged(path, "its directory is not at its end")
        size, start = struct.unpack("<QQ", content[end + 40 : end + 56])
    if start + size != end or size > MAX_DIRECTORY:
        raise _damaged(path, f"a directory of {size} bytes at {start} does not end where it should")
    return int(start)


def _check_zip(path: pathlib.Path, content: mmap.mmap, stubs: Collection[str]) -> tuple[bool, PickleChecker]:
    """Check torch's zip container; returns whether its tensors can be mapped, and what checked its pickle."""
    archived = members(path, content)
    folder = next(iter(archived.values())).name.partition("/")[0]
    pickle = archived.get(f"{folder}/data.pkl".lower())
    if pickle is None:
        raise SourceError(f"{path}: a zip archive without the pickle that torch.save writes")
    if pickle.size > MAX_PICKLE:
        raise _damaged(path, f"a pickle of {pickle.size} bytes; at most {MAX_PICKLE} are read")
    with zipfile.ZipFile(path) as archive:
        try:
            data = archive.read(pickle.name)
        except Exception as error:  # noqa: BLE001 - zipfile raises many kinds for damaged members
            raise _damaged(path, str(error)) from None
    checker = PickleChecker(Reader(io.BytesIO(data), 0, len(data)), str(path), stubs)
    checker.check_whole()
    for key, size in checker.totals.storages.items():
        record = archived.get(f"{folder}/data/{key}".lower())
        if record is None or size > record.size:
            raise _damaged(path, f"storage {key[:40]} needs {size} bytes, and there are {record.size if record else 'none'}")
    _check_totals(path, checker.totals, len(content))
    order = archived.get(f"{folder}/byteorder")
    little = order is None or content[order.start : order.start + order.size] == b"little"
    records = [m for key, m in archived.items() if key.startswith(f"{folder}/data/".lower())]
    return little and not any(m.compressed or m.start % 16 for m in records), checker


def _check_legacy(path: pathlib.Path, content: mmap.mmap, stubs: Collection[str]) -> PickleChecker:
    """Check torch's older container: three pickles of header, one of content, one of storages' names, and their bytes."""
    checker = PickleChecker(Reader(content, 0, len(content)), str(path), stubs)
    header = [checker.load() for _ in range(3)]
    if header[1] != 1001 or not isinstance(header[2], dict) or header[2].get("little_endian") is not True:
        raise _damaged(path, "its legacy header is not what torch writes on today's machines")
    checker.check_whole()
    storages = checker.totals.storages
    keys = checker.load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise _damaged(path, "its list of storages is not that of its tensors")
    position = checker.reader.at
    if position > MAX_PICKLE + len(LEGACY):
        raise _damaged(path, f"pickles of {position} bytes; at most {MAX_PICKLE} are read")
    for key in keys:
        # Each storage is its number of values, then the values.
        size = storages[key]
        if position + 8 + size > len(content):
            raise _damaged(path, f"storage {key[:40]} of {size} bytes goes beyond the end")
        position += 8 + size
    _check_totals(path, checker.totals, len(content))
    return checker


def _check_totals(path: pathlib.Path, totals: Totals, size: int) -> None:
    """Refuse pickles that ask for more memory than a file of ``size`` bytes accounts for."""
    if sum(totals.storages.values()) > size + SPARE:
        raise _damaged(path, "its storages add up to more than the file")
    if totals.tensor_bytes > 4 * size + SPARE:
        raise _damaged(path, f"its tensors overlap so much that they would take {totals.tensor_bytes} bytes")


def check_safetensors(path: pathlib.Path) -> None:
    """Refuse a safetensors file whose header is longer than the file or than any real one, or is no JSON object.

    Raises:
        SourceError: naming what is wrong with it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= min(size - 8, MAX_HEADER) else b""
    except OSError as error:
        raise SourceError(f"{path}: damaged or missing ({error})") from None
    if len(header) != length or length == 0:
        raise _safetensors(path, f"a header of {length} bytes in a file of {size}")
    if header.count(b'"shape"') > MAX_TENSORS:
        raise _safetensors(path, f"more than {MAX_TENSORS} tensors")
    if not header.startswith(b"{"):
        raise _safetensors(path, "a header that is no JSON object")


def _safetensors(path: pathlib.Path, reason: str) -> SourceError:
    return SourceError(f"{path}: cannot be read as safetensors, it is damaged or missing: {reason[:200]}")


def read_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        SourceError: if it is damaged.
    """
    check_safetensors(path)
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # noqa: BLE001 - the library raises many kinds for a damaged file
        raise _safetensors(path, " ".join(str(error).split())) from None


def _damaged(path: pathlib.Path, reason: str) -> SourceError:
    return SourceError(
        f"{path}: cannot be read as a torch file, it is damaged, cut short or made up: {reason[:200]}; get the file again"
    )
