"""Folders named by running numbers, dates or hashes are parts of one set; others may be classes."""

import pytest

from regraft.data.chunks import why_chunks


def folders(names, count=20, start=None, files="img{:05d}.png"):
    """Folders with files that begin at 0 in each, or run on from ``start``."""
    counts = [count] * len(names) if isinstance(count, int) else count
    made, first = {}, start
    for name, n in zip(names, counts, strict=True):
        made[name] = [f"{name}/" + files.format((first or 0) + k) for k in range(n)]
        first = None if first is None else first + n
    return made


@pytest.mark.parametrize(
    "made",
    [
        folders(["00000", "01000", "02000"], 14),
        folders(["00000", "00001"], [1000, 200]),
        folders(["00000", "00001", "00002"], [990, 985, 200], start=0),
        folders([f"{k:03d}" for k in range(12)]),
        folders([f"{k:03d}" for k in range(1, 300)], [1 + k % 7 for k in range(1, 300)]),
        folders(["0", "1000", "2000", "3000"], 1000),
        folders([f"img_chunk_{k}" for k in range(4)]),
        folders(["part-00000", "part-00001"], [7, 3]),
        folders(["images_001", "images_002"], [7, 3]),
        folders(["batch1", "batch2", "batch10"], [7, 3, 9]),
        folders(["01", "02", "03"], [9, 7, 8], start=1),
        folders([f"{k:02x}" for k in range(64)], 2),
        folders(["2020-01-31", "2020-02-01", "2021-12-24 Christmas"], [5, 80, 3]),
        folders(["20200131", "20200201"], [5, 80]),
        folders(["2020-01", "2020-02"], [5, 80]),
        folders(["100CANON", "101CANON", "102APPLE"], [99, 50, 3]),
        {f"{k:04d}": [f"{k:04d}/{n}{k:04d}.jpg" for n in range(1, 4 + k % 3)] for k in range(20)},
    ],
)
def test_parts(made):
    assert why_chunks(made)


@pytest.mark.parametrize(
    "made",
    [
        folders([str(k) for k in range(10)], 500),
        folders([str(k) for k in range(10)], 500, start=0),
        folders(["3", "7"]),
        folders([f"{k:05d}" for k in range(43)], [210 + 30 * (k % 9) for k in range(43)], files="00000_{:05d}.ppm"),
        folders(["00", "01", "02"], 20),
        folders(["cat", "dog"]),
        folders(["class_0", "class_1"]),
        folders(["2019", "2020", "2021"], [4, 5, 6]),
        folders(["a", "b", "c", "d", "e", "f", "g", "h"]),
        folders(["100", "200", "500"], [30, 20, 10]),
        folders(["n01440764", "n01443537"], [30, 20]),
        folders(["001.Black_footed_Albatross", "002.Laysan_Albatross"]),
        folders(["00000"]),
    ],
)
def test_classes(made):
    assert why_chunks(made) is None
