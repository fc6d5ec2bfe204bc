"""The table inside TensorFlow's bundles: damaged and lying ones are refused quickly."""

import time

import pytest

from regraft.core.errors import SourceError
from regraft.formats import _table, _tensorflow
from support.tensorflow_writer import field, literal, number, pairs


def framed(block, kind=0, offset=0, length=None):
    """A table of one block with any bytes, its checksum right."""
    index = pairs([(b"z", number(offset) + number(len(block) if length is None else length))])
    out = b""
    for content, tag in ((block, kind), (index, 0)):
        out += content + bytes([tag]) + _table.masked_crc(content + bytes([tag])).to_bytes(4, "little")
    footer = number(0) + number(0) + number(len(block) + 5) + number(len(index))
    return out + footer.ljust(40, b"\0") + _table.MAGIC


def bad_tables():
    """Tables whose layout lies; checksums are right, so these reach the reader."""
    end = (1).to_bytes(4, "little") * 2
    yield "restarts", framed(b"\0\0\0" + (1 << 31).to_bytes(4, "little")), "shorter than its own end"
    yield "shares too much", framed(b"\x05\x01\x00a" + end), "does not fit its block"
    yield "long key", framed(number(0) + number(1 << 40) + b"\0" + end), "does not fit its block"
    yield "long value", framed(b"\0\1" + number(1 << 60) + b"a" + end), "does not fit its block"
    yield "unsorted", framed(b"\0\1\0b\0\1\0a" + end), "header|out of order"
    yield "outside", framed(b"\0\0\0" + end, length=1 << 50), "outside"
    yield "unknown compression", framed(b"\0\0\0" + end, kind=7), "unknown way"
    yield "snappy bomb", framed(number(1 << 40) + b"\0a", kind=1), "more than there can be"
    yield "snappy before start", framed(number(20) + b"\0a" + b"\xfe\xff\xff", kind=1), "before its start"
    yield "snappy short", framed(number(9) + b"\xfc\xff\xff\xff\xff", kind=1), "cut short"
    yield "nothing", b"", "footer"
    yield "magic alone", _table.MAGIC, "footer"


def test_snappy_of_every_kind_of_element():
    text = bytes(range(200)) + b"ab" * 50
    assert _table.unsnappy(literal(text), 1000) == text
    short = number(10) + b"\x04ab" + bytes([1 | 4 << 2, 2])  # a copy of 8 bytes from 2 back, which overlaps itself
    assert _table.unsnappy(short, 1000) == b"ab" * 5
    far = number(8) + b"\x0cabcd" + bytes([3 | 3 << 2, 4, 0, 0, 0])
    assert _table.unsnappy(far, 1000) == b"abcdabcd"


@pytest.mark.parametrize(("content", "message"), [b[1:] for b in bad_tables()], ids=[b[0] for b in bad_tables()])
def test_lying_tables_are_refused(tmp_path, content, message):
    (tmp_path / "m.index").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        _tensorflow.open_checkpoint(tmp_path / "m.index")


def test_many_tiny_entries_with_growing_keys_take_little_time(tmp_path):
    """Each entry may repeat all of the key before it: without limits, quadratic time and memory."""
    block = b"\0\0\0" + b"".join(number(min(k, 4095)) + b"\1\0a" for k in range(400_000)) + bytes(4)
    (tmp_path / "m.index").write_bytes(framed(block))
    begun = time.perf_counter()
    with pytest.raises(SourceError):
        _tensorflow.open_checkpoint(tmp_path / "m.index")
    assert time.perf_counter() - begun < 5


def test_one_block_named_again_and_again_is_refused(tmp_path):
    block = pairs([(b"", field(1, 1))])
    index = pairs([(bytes([k]), number(0) + number(len(block))) for k in range(100)])
    out = b"".join(c + b"\0" + _table.masked_crc(c + b"\0").to_bytes(4, "little") for c in (block, index))
    footer = number(0) + number(0) + number(len(block) + 5) + number(len(index))
    (tmp_path / "m.index").write_bytes(out + footer.ljust(40, b"\0") + _table.MAGIC)
    with pytest.raises(SourceError, match="overlap"):
        _tensorflow.open_checkpoint(tmp_path / "m.index")
