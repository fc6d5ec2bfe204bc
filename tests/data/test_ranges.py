"""Which numbers of arrays are black and white."""

import numpy as np
import pytest

from regraft.core.errors import DataError
from regraft.data.ranges import find_range, range_of, white_of

EVERY = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    "values",
    [
        EVERY,
        EVERY.astype(np.int64),
        EVERY.astype(np.float64) / 255,
        EVERY.astype(np.float32) / 127.5 - 1,
        (EVERY / 255).astype(np.float16),
        (EVERY / 127.5 - 1).astype(np.float16),
        (EVERY.astype(np.uint16) * 257),
    ],
    ids=lambda values: str(values.dtype),
)
def test_every_byte_comes_back(values):
    found = range_of([values[:8], values[8:]], "here")
    assert (found.to_bytes(values) == EVERY).all()
    assert (found.text is None) == (values.dtype == np.uint8)


def test_bytes_are_not_copied():
    assert range_of([EVERY], "here").to_bytes(EVERY) is EVERY


def test_true_is_white():
    values = EVERY > 100
    assert (range_of([values], "here").to_bytes(values) == np.where(values, 255, 0)).all()


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_the_greatest_value_is_white_if_it_is_all_bits(bits):
    high = (1 << bits) - 1
    values = np.array([0, high], np.uint16)
    found = range_of([values], "here")
    assert found.to_bytes(values).tolist() == [0, 255]
    assert f"{bits} bits in 16" in found.text


@pytest.mark.parametrize(("high", "white"), [(300, 1023), (1000, 1023), (1024, 4095), (2896, 4095), (4080, 4095)])
def test_what_fits_in_the_bits_of_a_camera_is_scaled_by_these(high, white):
    found, text = white_of(high)
    assert found == white
    assert f"the greatest value of the set is {high}; {white} is white" in text


def test_other_maxima_are_of_16_bits_and_called_dark():
    assert white_of(65280) == (65535, "16 bits scaled to 8")
    white, text = white_of(9000)
    assert white == 65535
    assert "9000 of 65535" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([0.0, 255.0]), "from 0 to 255; .* divide them by 255"),
        (np.array([-2.1, 2.6]), "from -2.1 to 2.6; .* Undo what normalised"),
        (np.array([-0.05, 1.0]), "clip them"),
        (np.array([0.0, np.nan]), "not all finite"),
        (np.array([0.0, np.inf]), "not all finite"),
        (np.array([-3, 200]), "int64 from -3 to 200"),
        (np.array([0, 70000]), "up to 65535"),
        (np.array([0, 1]), "no numbers but 0 and 1; convert them to bool"),
        (np.array([1j]), "complex128, which are no pixels"),
        (np.array(["a"]), "no pixels"),
    ],
)
def test_other_numbers_are_refused_with_what_was_seen(values, words):
    with pytest.raises(DataError, match=f"^here: .*{words}"):
        range_of([values], "here")


def test_nan_is_seen_whatever_comes_after_it():
    with pytest.raises(DataError, match="not all finite"):
        range_of([np.array([np.nan]), np.array([0.5])], "here")


def test_rounding_of_half_precision_does_not_leave_the_range():
    assert find_range(np.dtype(np.float16), -0.0005, 1.0005, "here").black == 0
