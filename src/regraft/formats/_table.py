"""LevelDB's table layout, snappy's, and the wire format of protocol buffers, as far as TensorFlow checkpoints need them.

Source: the public descriptions of LevelDB's table format, of snappy's format and of protocol buffers' encoding.
"""

import pathlib
from collections.abc import Iterator
from typing import BinaryIO

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
LONGEST_KEY = 4096
MOST_ENTRIES = 1 << 15
MOST_FIELDS = 1 << 15
CHECKED_BLOCK = 1 << 16
# A snappy stream expands at most 64 bytes from 3; files of weights hardly compress, but blocks of zeros do.
MOST_EXPANSION = 22
MOST_UNPACKED = 1 << 31

Bytes = bytes | bytearray | memoryview


class Damaged(Exception):
    """Bytes that contradict each other; the message says how, not in which file."""


def is_table(path: pathlib.Path) -> bool:
    """Whether a file ends as a table does."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < FOOTER:
                return False
            file.seek(size - len(MAGIC))
            return file.read() == MAGIC
    except OSError:
        return False


def entries(path: pathlib.Path) -> Iterator[tuple[bytes, Bytes]]:
    """Keys and values of a table in rising order; blocks are read as they are reached.

    Raises:
        Damaged: if anything lies outside of the file, overlaps, is out of order, or too much.
    """
    with path.open("rb") as file:
        end_of_blocks = file.seek(0, 2) - FOOTER
        if end_of_blocks < 0 or not is_table(path):
            raise Damaged("the footer is missing, the file is cut short")
        file.seek(end_of_blocks)
        footer = file.read(FOOTER)
        _, at = _handle(footer, 0)
        (offset, length), _ = _handle(footer, at)
        index = _block(file, offset, length, end_of_blocks, MOST_UNPACKED)
        reached, unpacked, count = 0, 0, 0
        previous: bytes | None = None
        for _, value in _pairs(index):
            (offset, length), _ = _handle(value, 0)
            if offset < reached:
                raise Damaged("blocks overlap")
            block = _block(file, offset, length, end_of_blocks, MOST_UNPACKED - unpacked)
            reached, unpacked = offset + length, unpacked + len(block)
            for key, content in _pairs(block):
                count += 1
                if (previous is not None and key <= previous) or count > MOST_ENTRIES:
                    raise Damaged("keys are out of order, or too many")
                previous = key
                yield key, content


def _handle(data: Bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and length of a block that stand at ``at``, and where they end."""
    offset, at = varint(data, at)
    length, at = varint(data, at)
    return (offset, length), at


def _block(file: BinaryIO, offset: int, length: int, end: int, most: int) -> Bytes:
    """Contents of one block, of at most ``most`` bytes."""
    if offset + length + 5 > end:
        raise Damaged("a block lies outside of the file, which is cut short or damaged")
    file.seek(offset)
    raw = memoryview(file.read(length + 5))
    if length <= CHECKED_BLOCK and masked_crc(raw[: length + 1]) != int.from_bytes(raw[length + 1 :], "little"):
        raise Damaged("a block has a wrong checksum")
    content, kind = raw[:length], raw[length]
    if kind == 0:
        return content
    if kind == 1:
        return unsnappy(content, most)
    raise Damaged(f"a block is compressed in an unknown way ({kind}; 0 is not at all, 1 is snappy)")


def _pairs(block: Bytes) -> Iterator[tuple[bytes, Bytes]]:
    """Keys and values of a block; a key is stored as what it shares with the one before and what it adds."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if len(block) < 4 or end < 0:
        raise Damaged("a block is shorter than its own end")
    at, key, count = 0, b"", 0
    while at < end:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        length, at = varint(block, at)
        count += 1
        if shared > len(key) or shared + added > LONGEST_KEY or at + added + length > end or count > MOST_ENTRIES:
            raise Damaged("an entry does not fit its block")
        key = key[:shared] + bytes(block[at : at + added])
        at += added
        yield key, block[at : at + length]
        at += length


def unsnappy(data: Bytes, most: int) -> bytearray:
    """Decompress a snappy stream to at most ``most`` bytes.

    Raises:
        Damaged: if it does not give the length that it claims.
    """
    length, at = varint(data, 0)
    if length > min(most, MOST_EXPANSION * len(data)):
        raise Damaged(f"a block claims {length} bytes, more than there can be")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, at = tag & 3, at + 1
        if kind == 0:
            size = tag >> 2
            if size >= 60:
                width = size - 59
                size, at = int.from_bytes(data[at : at + width], "little"), at + width
            size += 1
            if at + size > len(data):
                raise Damaged("a compressed block is cut short")
            out += data[at : at + size]
            at += size
        else:
            width = (0, 1, 2, 4)[kind]
            back = int.from_bytes(data[at : at + width], "little")
            size = 1 + (tag >> 2)
            if kind == 1:
                back, size = back | tag >> 5 << 8, 4 + (tag >> 2 & 7)
            at += width
            if not 1 <= back <= len(out):
                raise Damaged("a compressed block points before its start")
            start = len(out) - back
            piece = out[start : start + size]
            out += (piece * (size // len(piece) + 1))[:size]
        if len(out) > length:
            break
    if len(out) != length:
        raise Damaged(f"a compressed block does not give the {length} bytes that it claims")
    return out


def varint(data: Bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits per byte at ``at``, and where it ends."""
    value = shift = 0
    while shift < 64:
        if at >= len(data):
            raise Damaged("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise Damaged("a number does not end")


def fields(data: int | Bytes) -> Iterator[tuple[int, int | Bytes]]:
    """Numbers and values of a protocol buffer's fields, in the order of the file."""
    if isinstance(data, int):
        raise Damaged("a number stands where a message should")
    view = memoryview(data)
    at = count = 0
    while at < len(view):
        tag, at = varint(view, at)
        kind, count = tag & 7, count + 1
        if count > MOST_FIELDS:
            raise Damaged("a message has too many fields")
        if kind == 0:
            number, at = varint(view, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Damaged(f"a field of unknown kind {kind}")
        if at + size > len(view):
            raise Damaged("a field does not fit its message")
        piece = view[at : at + size]
        yield tag >> 3, piece if kind == 2 else int.from_bytes(piece, "little")
        at += size


def _crc_table() -> list[int]:
    """CRC-32C of each byte alone."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def masked_crc(data: Bytes) -> int:
    """CRC-32C of some bytes as TensorFlow and LevelDB store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
