"""Folders that hold parts of one set, named by running numbers, and are no classes."""

import re
from collections.abc import Mapping, Sequence

_CONTAINER = re.compile(
    r"(.*[_\- ])?(chunks?|parts?|shards?|batch(es)?|blocks?|buckets?|splits?|folders?|dirs?|subsets?|vol(ume)?s?|"
    r"img|imgs|images?|pics?|pictures?|photos?|data|set|fold|archive)[_\- .]?",
    re.IGNORECASE,
)
"""What stands before the numbers of parts: img_chunk_0, part-00001, images_002, batch1."""

_DATE = re.compile(r"(19|20)\d\d([-_.]?)(0[1-9]|1[0-2])(\2(0[1-9]|[12]\d|3[01]))?([ _-].*)?")
_CAMERA = re.compile(r"[1-9]\d\d[A-Z0-9_]{5}")
"""Folders of a camera's card: 100CANON, 101APPLE."""

MANY = 100
"""Folders of padded numbers above which they are taken for running numbers."""


def why_chunks(files: Mapping[str, Sequence[str]]) -> str | None:
    """Return why folders are parts of one set and no classes; None if they may be classes.

    Args:
        files: names of the files of each folder.
    """
    folders = sorted(files)
    if len(folders) < 2:
        return None
    if all(_DATE.fullmatch(f) for f in folders):
        return "they are dates"
    if all(_CAMERA.fullmatch(f) for f in folders) and any(not f.isdecimal() for f in folders):
        return "they are the folders of a camera's card"
    if _are_hexadecimal(folders):
        return "they are the first digits of hexadecimal names"
    stems = {re.sub(r"\d+$", "", f) for f in folders}
    numbers = [f[len(re.sub(r"\d+$", "", f)) :] for f in folders]
    if len(stems) != 1 or not all(n.isascii() and n.isdecimal() for n in numbers):
        return None
    (stem,) = stems
    if stem and _CONTAINER.fullmatch(stem):
        return "their names count parts"
    by_number = {int(number): files[folder] for number, folder in sorted(zip(numbers, folders, strict=True))}
    if stem or len(by_number) < len(folders):
        return None
    if all(len(n) == len(numbers[0]) for n in numbers) and any(n.startswith("0") for n in numbers) and len(numbers[0]) > 1:
        return _why_padded(by_number, len(numbers[0]))
    order = sorted(by_number)
    steps = {b - a for a, b in zip(order, order[1:], strict=False)}
    return f"they count images in steps of {max(steps)}" if len(order) > 2 and len(steps) == 1 and max(steps) >= 1000 else None


def _why_padded(files: Mapping[int, Sequence[str]], width: int) -> str | None:
    """Return why folders named by padded numbers, such as 00001, are parts; None if they may be classes.

    Args:
        files: names of the files of each folder, by its number.
        width: digits of each number.
    """
    order = sorted(files)
    counts = [len(files[number]) for number in order]
    step = min(b - a for a, b in zip(order, order[1:], strict=False))
    if step >= 100 and all(number % step == 0 for number in order):
        return f"they count images in steps of {step}"
    if width >= 3 and len(set(counts[:-1])) == 1 and counts[-1] <= counts[0]:
        return f"they are running numbers, and each holds {counts[0]} images" + (
            "" if counts[-1] == counts[0] else " except for the last"
        )
    if len(order) > MANY and width >= 3:
        return f"they are {len(order)} running numbers"
    file_numbers = [[_number(name) for name in files[number]] for number in order]
    known = [[n for n in numbers if n is not None] for numbers in file_numbers]
    if any(len(k) < len(n) for k, n in zip(known, file_numbers, strict=True)):
        return None
    if all(max(a) < min(b) for a, b in zip(known, known[1:], strict=False)):
        return "the numbers of their files run on from one to the next"
    if max(map(max, known)) > 10**width and all(
        n % 10**width == number for number, numbers in zip(order, known, strict=True) for n in numbers
    ):
        return "they are the last digits of the numbers of their files"
    return None


def _are_hexadecimal(folders: Sequence[str]) -> bool:
    """Whether folders are named by one or two hexadecimal digits each, enough of them to be sure."""
    width = len(folders[0])
    digits = re.compile(rf"[0-9a-f]{{{width}}}")
    some_letters = any(not f.isdecimal() for f in folders) and any(re.search(r"\d", f) for f in folders)
    return width in (1, 2, 3) and len(folders) >= 8 and some_letters and all(digits.fullmatch(f) for f in folders)


def _number(name: str) -> int | None:
    """Return the last number in the name of a file, without its ending; None if there is none."""
    found = re.findall(r"\d+", name.rpartition("/")[2].rpartition(".")[0] or name)
    return int(found[-1][:18]) if found else None
